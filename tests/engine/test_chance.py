"""What chance gives for a query: by hand, where nothing is true, and where something is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from csp_engine.stats.query_null import BEST_AT, HALF_AT, QueryNull, chance_rates, standings

WIDTH, N_SET = 32, 30


def null_of(score_r):
    return QueryNull(np.sort(score_r), np.sort(score_r))


def unit_rows(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class World:
    """Images around concepts; a random set is a mean of random images, as in the product's null."""

    def __init__(self, seed: int, n_images: int = 600, n_labels: int = 80) -> None:
        self.rng = np.random.default_rng(seed)
        self.concept_cd = unit_rows(self.rng.standard_normal((12, WIDTH)))
        self.of_n = self.rng.integers(0, 12, n_images)
        noise = 0.25 * self.rng.standard_normal((n_images, WIDTH))
        self.image_nd = unit_rows(self.concept_cd[self.of_n] + noise)
        other_cd = unit_rows(self.rng.standard_normal((n_labels - 12, WIDTH)))
        self.label_td = np.concatenate([self.concept_cd, other_cd])

    def random_sets(self, n: int) -> np.ndarray:
        images = self.rng.integers(0, len(self.image_nd), (n, N_SET))
        return unit_rows(self.image_nd[images].mean(axis=1))

    def neuron(self, concept: int) -> np.ndarray:
        images = self.rng.choice(np.flatnonzero(self.of_n == concept), N_SET)
        return unit_rows(self.image_nd[images].mean(axis=0))

    def judge(self, neuron_ud: np.ndarray, query_d: np.ndarray, null_rd: np.ndarray) -> list[str]:
        return judge(neuron_ud, query_d, null_rd, self.label_td)


def judge(neuron_ud, query_d, null_rd, label_td) -> list[str]:
    """The rule on concept vectors of any length, by itself."""
    shared_d = label_td.mean(axis=0)
    score_u = unit_rows(neuron_ud) @ (query_d - shared_d)
    best_r = (unit_rows(null_rd) @ (label_td - shared_d).T).max(1)
    null = QueryNull(np.sort(null_rd @ (query_d - shared_d)), np.sort(best_r))
    rate_u = chance_rates(neuron_ud @ (query_d - shared_d), [(null, len(score_u))])
    bar_u, half_u = (np.full(len(score_u), null.level(at)) for at in (BEST_AT, HALF_AT))
    return standings(score_u, rate_u, bar_u, half_u)


def test_where_no_neuron_means_anything_hardly_a_query_finds_one():
    n_wrong = n_asked = 0
    for seed in range(8):
        world = World(seed)
        null_rd, neuron_ud = world.random_sets(500), world.random_sets(300)
        for query_d in world.label_td[:20]:
            n_asked += 1
            n_wrong += "clear" in world.judge(neuron_ud, query_d, null_rd)
    assert n_wrong / n_asked < 0.1


def test_one_neuron_of_a_concept_among_hundreds_is_found():
    for seed in range(10):
        world = World(seed)
        neuron_ud = np.concatenate([world.random_sets(300), world.neuron(4)[None]])
        found = world.judge(neuron_ud, world.concept_cd[4], world.random_sets(500))
        assert found[-1] == "clear"
        assert found.count("clear") <= 2


def test_a_text_from_another_world_finds_nothing_although_neurons_differ_from_random_sets():
    """Neurons spread wider than random sets, so the first question alone would call them found."""
    n_clear = n_high = 0
    for seed in range(10):
        world = World(seed)
        neuron_ud = np.stack([world.neuron(c % 12) for c in range(200)])
        null_rd = world.random_sets(500)
        stranger_d = unit_rows(world.rng.standard_normal(WIDTH))
        n_high += int(np.max(neuron_ud @ stranger_d) > np.max(null_rd @ stranger_d))
        n_clear += "clear" in world.judge(neuron_ud, stranger_d, null_rd)
    assert n_high >= 4  # far more often than the half percent of a neuron like the sets
    assert n_clear <= 1


class ContrastWorld:
    """Images with a few of several attributes; neurons are what exemplars have over look-alikes.

    Every image has a look of its own, which its look-alike shares, and texts lie apart from images,
    as those of real image-text encoders do.
    """

    def __init__(self, seed: int, n_images: int = 800, n_attributes: int = 4) -> None:
        rng = self.rng = np.random.default_rng(seed)
        axes = np.linalg.qr(rng.standard_normal((96, 96)))[0].T
        self.attribute_ad, gap, shared = axes[:n_attributes], axes[40], axes[41]
        self.has_na = rng.random((n_images, n_attributes)) < 0.2
        look_nd = rng.standard_normal((n_images // 4, 96))[rng.integers(0, n_images // 4, n_images)]
        image_nd = shared + 0.35 * self.has_na @ self.attribute_ad + 0.06 * look_nd
        self.image_nd = unit_rows(image_nd + 0.02 * rng.standard_normal((n_images, 96)))
        others = rng.standard_normal((60, 96)) / np.sqrt(96)
        self.label_td = unit_rows(gap + 0.6 * np.concatenate([self.attribute_ad, others]))
        self.strangers = unit_rows(gap + 0.6 * rng.standard_normal((40, 96)) / np.sqrt(96))

    def residual(self, activation_n: np.ndarray) -> np.ndarray:
        order = np.argsort(-activation_n, kind="stable")[:N_SET]
        quiet = np.flatnonzero(activation_n < activation_n.mean())
        alike_kq = self.image_nd[order] @ self.image_nd[quiet].T
        other_kd = self.image_nd[quiet[alike_kq.argmax(axis=1)]]
        shared_k = alike_kq.max(axis=1)
        return (self.image_nd[order] - shared_k[:, None] * other_kd).mean(axis=0)

    def noise(self, n: int) -> np.ndarray:
        noise_rn = self.rng.standard_normal((n, len(self.image_nd)))
        return np.stack([self.residual(noise_n) for noise_n in noise_rn])

    def neuron(self, attribute: int) -> np.ndarray:
        noise_n = self.rng.standard_normal(len(self.image_nd))
        return self.residual(2.5 * self.has_na[:, attribute] + 0.5 * noise_n)


def test_an_attribute_that_random_sets_hold_by_chance_is_found_by_how_much_neurons_hold():
    """Made unit length, what is left of random sets scores as high as a neuron: too many do."""
    n_found = n_found_by_cosine = n_wrong = 0
    for seed in range(2):
        world = ContrastWorld(seed)
        null_rd = world.noise(300)
        neuron_ud = np.concatenate([world.noise(600), [world.neuron(a) for a in range(4)]])
        for attribute in range(4):
            label_d = world.label_td[attribute]
            found = judge(neuron_ud, label_d, null_rd, world.label_td)
            n_found += found.pop(600 + attribute) == "clear"
            n_wrong += found.count("clear")
            by_cosine = judge(unit_rows(neuron_ud), label_d, unit_rows(null_rd), world.label_td)
            n_found_by_cosine += by_cosine[600 + attribute] == "clear"
        for stranger_d in world.strangers:
            n_wrong += "clear" in judge(neuron_ud, stranger_d, null_rd, world.label_td)
    assert n_found == 8
    assert n_found_by_cosine <= 4
    assert n_wrong <= 3


def test_the_tail_is_counted_where_draws_reach_and_falls_on_beyond():
    score_r = np.sort(np.random.default_rng(0).standard_normal(500).astype(np.float32))
    null = null_of(score_r)
    assert null.tail(score_r[[400]])[0] == pytest.approx(100 / 500)
    beyond = null.tail(np.array([3.5, 4.5]))
    assert 1e-9 < beyond[1] < beyond[0] < 10 / 500
    assert beyond[0] > 0.5 * stats.norm.sf(3.5)


def test_a_null_with_a_heavy_tail_widens_the_curve():
    rng = np.random.default_rng(1)
    light = null_of(rng.standard_normal(500))
    heavy_r = np.sort(rng.standard_t(2.5, 500))
    heavy = null_of(heavy_r / heavy_r.std())
    far = np.array([4.0])
    assert heavy.tail(far)[0] >= light.tail(far)[0] / 3


def test_rates_by_hand():
    """Half of the random sets reach 3, so of four neurons 2 are expected there; 3 are."""
    score_r = np.repeat(np.array([0.0, 3.0], np.float32), 50)
    null = QueryNull(score_r, score_r)
    rate_u = chance_rates(np.array([3.0, -1.0, 3.0, 3.0]), [(null, 4)])
    assert rate_u == pytest.approx([2 / 3, 1, 2 / 3, 2 / 3])


def test_a_higher_score_never_has_a_higher_rate():
    """At 3 two of three are expected, at 2 two of four: the three take the lower rate."""
    null = null_of(np.repeat(np.array([0.0, 3.0], np.float32), 50))
    rate_u = chance_rates(np.array([3.0, 2.0, 3.0, 3.0]), [(null, 4)])
    assert rate_u == pytest.approx([2 / 4] * 4)


def test_layers_are_counted_each_by_its_own_null():
    quiet = null_of(np.zeros(100))
    loud = null_of(np.ones(100))
    rate_u = chance_rates(np.array([1.0, 0.5]), [(quiet, 1), (loud, 1)])
    assert rate_u == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("score", "rate", "expected"),
    [
        (0.6, 0.05, "clear"),
        (0.6, 0.2, "unsure"),
        (0.4, 0.05, "unsure"),
        (0.4, 0.2, "none"),
        (0.2, 0.05, "none"),
        (0.5, 0.05, "unsure"),  # the bar must be passed, not met
        (0.3, 0.05, "none"),
    ],
)
def test_standings(score, rate, expected):
    assert standings(*(np.array([x]) for x in (score, rate, 0.5, 0.3))) == [expected]
