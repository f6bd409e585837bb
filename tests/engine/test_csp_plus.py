"""CSP+ against slow references from its formulas, other libraries, and planted units."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from csp_engine.bundle import KeptScores
from csp_engine.errors import InputError
from csp_engine.evidence.contrast import ContrastRule
from csp_engine.methods import METHODS, label_units, noise_evidence, resolve_params
from csp_engine.methods.csp_plus import CSP_PLUS, prepare
from csp_engine.methods.depths.columns import (
    LabelColumns,
    correlation,
    meanings,
    near_best,
    whole_of,
)
from csp_engine.methods.depths.explained import Readout
from csp_engine.methods.depths.joined import parts_of
from csp_engine.methods.depths.rings import Partners, ring_images
from csp_engine.pipeline import build
from csp_engine.pipeline.recipe import changed
from csp_engine.stats.otsu import in_bins, otsu
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.neuron.label import heading_of
from tests.worlds import small_layers, toys

PLAIN = {"whole": False}


def layer(seed=0, u=9, n=90, d=8, t=25):
    rng = np.random.default_rng(seed)
    evidence = small_layers.awkward(rng, u, n, d, 15, 2)
    return evidence, small_layers.unit_rows(rng, t, d)


def asked(evidence):
    return evidence.asked_by("a test", CSP_PLUS.needs)


def slow_score(activation_n, image_nd, label_td, layer, params):
    """Image by image and label by label, in float64."""
    x_nd = image_nd.astype(np.float64)
    n_images = len(x_nd)
    bar = np.quantile(activation_n, params["quiet"])
    quiet = [i for i in range(n_images) if activation_n[i] <= bar]
    loud = sorted((i for i in range(n_images) if activation_n[i] > bar),
                  key=lambda i: (-activation_n[i], i))  # fmt: skip
    shared = {}
    for i in loud:
        near = sorted(quiet, key=lambda j: (-round(float(x_nd[i] @ x_nd[j]), 9), j))[:2]
        mean = sum(x_nd[j] for j in near)
        n = mean / np.linalg.norm(mean)
        shared[i] = (x_nd[i] @ n) * n
    out = []
    for t in range(len(label_td)):
        total = 0.0
        for g, gamma in enumerate(layer.gamma_g):
            tried = []
            for share in layer.share_q:
                chosen = loud[: math.ceil(share * n_images)]
                q = len(chosen) / n_images
                mean = np.mean([(x_nd[i] - gamma * shared[i]) @ label_td[t] for i in chosen])
                z = (mean - layer.centre_gt[g, t]) / layer.spread_gt[g, t]
                tried.append(z * math.sqrt(q / (1 - q)))
            total += max(tried)
        out.append(total / len(layer.gamma_g))
    return out


@pytest.mark.parametrize("gammas", ["0,1", "0.4"])
@pytest.mark.parametrize("quiet", [0.5, 0.8])
def test_scores_are_those_of_the_formula(gammas, quiet):
    evidence, label_td = layer()
    params = resolve_params(CSP_PLUS, {**PLAIN, "gammas": gammas, "quiet": quiet})
    given = asked(evidence)
    found = CSP_PLUS.score(given, label_td, params)
    shared = prepare(asked(evidence), label_td, params)
    for u in (0, 1, 3, 4, 6):
        expected = slow_score(given.activation_un[u], evidence.image_nd, label_td, shared, params)
        np.testing.assert_allclose(found.score_ut[u], expected, atol=2e-4)


def test_chance_is_the_mean_and_spread_of_random_pairs():
    rng = np.random.default_rng(5)
    image_nd = small_layers.unit_rows(rng, 400, 6)
    label_td = small_layers.unit_rows(rng, 7, 6)
    evidence = small_layers.mined(rng.standard_normal((2, 400)), image_nd)
    shared = prepare(asked(evidence), label_td, resolve_params(CSP_PLUS, {}))
    seen = {0: [], 1: []}
    for _ in range(40):
        quiet = np.flatnonzero(rng.random(400) < 0.5)
        for i in rng.choice(np.setdiff1d(np.arange(400), quiet), 60, replace=False):
            cosine = image_nd[quiet] @ image_nd[i]
            mean = image_nd[quiet[np.argsort(-cosine)[:2]]].sum(axis=0)
            n = mean / np.linalg.norm(mean)
            for gamma, rows in seen.items():
                rows.append((image_nd[i] - gamma * (image_nd[i] @ n) * n) @ label_td.T)
    for g, rows in seen.items():
        np.testing.assert_allclose(shared.centre_gt[g], np.mean(rows, axis=0), atol=0.05)
        np.testing.assert_allclose(shared.spread_gt[g], np.std(rows, axis=0), rtol=0.1)


def test_units_without_a_quiet_image_or_a_loud_one_have_no_label():
    evidence, label_td = layer()
    null = small_layers.noise(np.random.default_rng(1), evidence.image_nd, 30, 15)
    scores, extra = label_units("csp_plus", evidence, null, label_td, {})
    assert scores.count_u[2] == 0
    assert scores.count_u[[0, 1, 3, 4]].all()
    for array in (scores.score_uk, scores.vector_ud, *extra.values()):
        assert np.isfinite(np.asarray(array, float)).all()


def test_rings_hold_the_loud_images_in_order_and_are_thinned_evenly():
    activation_n = np.array([5, 1, 9, 0, 0, 7, 7, 0, 0, 0, 3, 0], np.float32)
    quiet_n = activation_n <= 0
    rings, sizes = ring_images(activation_n, quiet_n, (0.1, 0.25, 0.5), 100)
    assert [ring.tolist() for ring in rings] == [[2, 5], [6], [0, 10, 1]]
    assert sizes == [2, 1, 3]
    rings, sizes = ring_images(activation_n, quiet_n, (0.1, 0.25, 0.5), 2)
    assert [ring.tolist() for ring in rings] == [[2, 5], [6], [0, 1]]
    assert sizes == [2, 1, 3]


def test_a_unit_that_is_silent_on_most_images_does_not_choose_among_these():
    rng = np.random.default_rng(2)
    activation_n = np.zeros(500, np.float32)
    activation_n[rng.choice(500, 9, replace=False)] = 1 + rng.random(9)
    rings, sizes = ring_images(activation_n, activation_n <= 0, (0.01, 0.1, 0.3), 100)
    assert sizes == [5, 4, 0]
    assert sorted(np.concatenate(rings)) == np.flatnonzero(activation_n).tolist()


def test_partners_are_the_nearest_quiet_images_also_past_the_lists(monkeypatch):
    monkeypatch.setattr("csp_engine.methods.depths.rings.LIST_LENGTH", 4)
    rng = np.random.default_rng(3)
    image_nd = small_layers.unit_rows(rng, 70, 5)
    quiet_n = np.zeros(70, bool)
    quiet_n[rng.choice(70, 6, replace=False)] = True
    query = np.flatnonzero(~quiet_n)
    partners = Partners(image_nd)
    (near,) = partners.near([query], quiet_n[None])
    none_nw = np.zeros((70, 0), np.float32)
    sum_gd, shared_gd = partners.sums(query, near, np.eye(len(query), dtype=np.float32), none_nw)
    np.testing.assert_allclose(sum_gd, image_nd[query], atol=1e-6)
    np.testing.assert_allclose(shared_gd, partners.shared(query, quiet_n, none_nw)[0], atol=1e-6)
    for i, shared in zip(query, shared_gd, strict=True):
        near = sorted(np.flatnonzero(quiet_n), key=lambda j: -float(image_nd[i] @ image_nd[j]))[:2]
        mean = image_nd[near].astype(np.float64).sum(axis=0)
        n = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(shared, (image_nd[i] @ n) * n, atol=1e-5)


def test_without_quiet_images_nothing_is_shared():
    image_nd = small_layers.unit_rows(np.random.default_rng(0), 9, 4)
    for shared in Partners(image_nd).shared(np.arange(9), np.zeros(9, bool), image_nd[:, :2]):
        assert not shared.any()


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["ruler", "dark hair", "ruler and dark hair"], {2: (0, 1)}),
        (["Ruler and a hair", "hair", "ruler"], {0: (2,)}),
        (["salt and pepper", "hot salt"], {}),
        (["a", "b", "c", "a and b and c"], {3: (0, 1, 2)}),
        (["black and white", "ruler", "black and white and ruler"], {2: (0, 1)}),
        (["blue veil and regression", "many colours"], {}),
        (["black", "white", "black and white", "ruler", "black and white and ruler"],
         {2: (0, 1), 4: (2, 3)}),
        (["sand", "land", "sandland"], {}),
        (["and", "and and and"], {1: (0, 0)}),
    ],
)  # fmt: skip
def test_joined_labels_are_taken_apart_where_parts_can_be_chosen(texts, expected):
    assert parts_of(texts) == expected


def test_a_joined_label_never_scores_above_its_weaker_part():
    evidence, label_td = layer(t=6)
    words = ["red", "blue", "red and blue", "green", "stripe", "dot"]
    evidence.given.sources["texts"] = lambda _: words
    found = CSP_PLUS.score(asked(evidence), label_td, resolve_params(CSP_PLUS, PLAIN))
    live = found.has_label_u
    weaker_u = np.minimum(found.score_ut[live, 0], found.score_ut[live, 1])
    assert (found.score_ut[live, 2] < weaker_u).all()
    alone = CSP_PLUS.score(asked(layer(t=6)[0]), label_td, resolve_params(CSP_PLUS, PLAIN))
    expected_u = np.minimum(weaker_u, alone.score_ut[live, 2])
    np.testing.assert_allclose(found.score_ut[live, 2], expected_u, atol=1e-5)


@pytest.mark.slow
def test_a_joined_label_stays_below_its_parts_in_any_order_and_beside_the_whole():
    """Labels joined of joined ones, listed first; and parts that gave way to a whole."""
    words = ["a and b and c", "a and b", "a", "b", "c", *(f"w{n}" for n in range(8))]
    n_moved = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        evidence = small_layers.awkward(rng, 30, 90, 4, 15, 2)
        evidence.given.sources["texts"] = lambda _: words
        label_td = small_layers.unit_rows(rng, len(words), 4)
        free = {"near": 0.0, "holds": 0.1, "larger": 1.0}
        plain = CSP_PLUS.score(asked(evidence), label_td, resolve_params(CSP_PLUS, PLAIN))
        moved = CSP_PLUS.score(asked(evidence), label_td, resolve_params(CSP_PLUS, free))
        n_moved += int((plain.score_ut.argmax(axis=1) != moved.score_ut.argmax(axis=1)).sum())
        for found in (plain, moved):
            score_ut = found.score_ut[found.has_label_u]
            assert (score_ut[:, 0] < score_ut[:, 1:5].min(axis=1)).all()
            assert (score_ut[:, 1] < score_ut[:, 2:4].min(axis=1)).all()
    assert n_moved > 9


def test_otsu_is_the_best_of_all_bin_edges():
    rng = np.random.default_rng(0)
    value_n = np.concatenate([rng.normal(0, 1, 300), rng.normal(4, 0.5, 80)]).astype(np.float32)
    edges = np.histogram(value_n, bins=256)[1][1:-1]

    def within(edge):
        low, high = value_n[value_n <= edge], value_n[value_n > edge]
        return len(low) * low.var() + len(high) * high.var()

    assert within(otsu(value_n)) == pytest.approx(min(map(within, edges)), rel=2e-3)
    assert not (np.full(9, 3, np.float32) > otsu(np.full(9, 3, np.float32))).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_bins_are_numpys_also_where_values_lie_on_edges(seed, kind):
    rng = np.random.default_rng(seed)
    value_n = (rng.standard_normal(3000) * 10.0 ** (3 * seed - 6)).astype(kind)
    edge_b = np.linspace(value_n.min(), value_n.max(), 257, dtype=kind)
    value_n = np.concatenate([value_n, edge_b, np.nextafter(edge_b, kind(-np.inf))[1:]])
    expected_b, numpys_b = np.histogram(value_n, bins=256)
    np.testing.assert_array_equal(edge_b, numpys_b)
    np.testing.assert_array_equal(in_bins(value_n, edge_b), expected_b)


def test_correlation_is_numpys():
    rng = np.random.default_rng(0)
    x_n, y_n = rng.random(50), rng.random(50)
    rows = rng.random(50) < 0.5
    assert correlation(x_n, y_n) == pytest.approx(np.corrcoef(x_n, y_n)[0, 1])
    assert correlation(x_n, y_n, rows) == pytest.approx(np.corrcoef(x_n[rows], y_n[rows])[0, 1])
    assert correlation(x_n, np.ones(50)) == correlation(x_n[:2], y_n[:2]) == 0


def test_the_readout_is_ridge_regression_of_either_half():
    rng = np.random.default_rng(0)
    image_nd = small_layers.unit_rows(rng, 200, 6)
    half_n = rng.random(200) < 0.5
    activation_n = (image_nd @ rng.standard_normal(6) + rng.random(200)).astype(np.float32)
    (found,) = Readout(image_nd, half_n, 0.05).reach(activation_n[None])
    expected = []
    for fit in (half_n, ~half_n):
        x_nd = image_nd[fit] - image_nd[fit].mean(axis=0)
        ridge = Ridge(alpha=0.05 * np.trace(x_nd.T @ x_nd) / 6).fit(
            image_nd[fit], activation_n[fit]
        )
        expected.append(np.corrcoef(ridge.predict(image_nd[~fit]), activation_n[~fit])[0, 1])
    assert found == pytest.approx(np.mean(expected), abs=1e-4)


def test_meanings_are_correlations_over_the_images():
    rng = np.random.default_rng(0)
    image_nd, label_td = small_layers.unit_rows(rng, 80, 5), small_layers.unit_rows(rng, 6, 5)
    rows = meanings(image_nd, label_td)
    np.testing.assert_allclose(rows @ rows.T, np.corrcoef(label_td @ image_nd.T), atol=1e-5)


def whole_world():
    """Images on three axes: those of the whole, of which three in four show the part too."""
    rng = np.random.default_rng(0)
    whole_n, part_n = np.zeros(400), np.zeros(400)
    whole_n[:100], part_n[:75] = 1, 1
    image_nd = np.stack([whole_n, part_n, np.ones(400)], 1) + 0.05 * rng.standard_normal((400, 3))
    image_nd = (image_nd / np.linalg.norm(image_nd, axis=1, keepdims=True)).astype(np.float32)
    return image_nd, np.eye(3, dtype=np.float32)[:2], whole_n, part_n


def test_a_frequent_part_gives_way_to_the_whole_only_where_the_unit_answers_to_the_whole():
    image_nd, label_td, whole_n, part_n = whole_world()
    rng = np.random.default_rng(1)
    rule = {"holds": 0.9, "larger": 1.1}
    score_t = np.array([0.8, 1.0], np.float32)
    any_t = np.ones(2, bool)
    for activation_n, expected in ((whole_n, 0), (part_n, None)):
        noisy_n = (activation_n + 0.1 * rng.standard_normal(400)).astype(np.float32)
        columns = LabelColumns(image_nd, label_td)
        near, none = (near_best(score_t, each, 0.7) for each in (any_t, ~any_t))
        assert whole_of(columns, near, noisy_n, **rule) == expected
        assert whole_of(columns, none, noisy_n, **rule) is None
    far = near_best(np.array([0.6, 1.0], np.float32), any_t, 0.7)
    columns = LabelColumns(image_nd, label_td)
    assert whole_of(columns, far, whole_n.astype(np.float32), **rule) is None


@pytest.mark.parametrize(("n", "d", "t"), [(40, 8, 5), (700, 48, 61), (2500, 512, 90)])
def test_a_column_does_not_depend_on_what_it_was_asked_for_with(n, d, t):
    """Products of other shapes have other last digits: of one label, of some, of all."""
    rng = np.random.default_rng(n)
    image_nd, label_td = small_layers.unit_rows(rng, n, d), small_layers.unit_rows(rng, t, d)
    alone = [LabelColumns(image_nd, label_td).similarity(label) for label in range(t)]
    np.testing.assert_allclose(alone, label_td.astype(float) @ image_nd.T, atol=1e-6)
    for n_asked in (1, 2, 3, 17, t):
        columns = LabelColumns(image_nd, label_td)
        for _ in range(4):
            columns.load(rng.permutation(t)[:n_asked].tolist())
        for label in range(t):
            assert columns.similarity(label).tobytes() == alone[label].tobytes(), label
            assert columns.bits(label).tobytes() == (
                np.packbits(alone[label] > otsu(alone[label])).tobytes()
            )


def test_noise_is_refused_and_evenly_spread_units_are_not():
    rng = np.random.default_rng(0)
    image_nd = small_layers.unit_rows(rng, 400, 16)
    label_td = small_layers.unit_rows(rng, 30, 16)
    rule = ContrastRule()
    null = noise_evidence(image_nd, n_draws=60, n_exemplars=20, rule=rule, seed=1)
    null.given.sources["texts"] = lambda _: small_layers.WORDS
    noise = small_layers.mined(rng.standard_normal((60, 400)), image_nd, 20)
    told, _ = label_units("csp_plus", noise, null, label_td, {})
    assert not told.reliable_u.any()
    meaning = small_layers.mined(label_td[:9] @ image_nd.T, image_nd, 20)
    told, extra = label_units("csp_plus", meaning, null, label_td, {})
    assert told.label_uk[:, 0].tolist() == list(range(9))
    assert told.reliable_u.all()
    assert extra["halves_agree"].all()


@pytest.mark.slow
def test_why_a_label_is_not_reliable_agrees_with_its_percentile(tmp_path):
    """A label may score higher than random image sets and still be refused; then this is said."""
    recipe = changed(toys.SMALL, {"methods": "csp_plus", "csp_plus.least_fit": 1})
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", recipe=recipe))
    n_high = 0
    for layer in bundle.layers("small"):
        scores = bundle.scores("small", layer, "csp_plus")
        assert not scores.reliable_u.any()
        for unit in np.flatnonzero(scores.count_u).tolist():
            neuron = NeuronRef("small", layer, unit)
            is_high = scores.best_percentile_u[unit] >= 0.95
            n_high += is_high
            *_, why = heading_of(bundle, neuron, "csp_plus").reasons
            assert ("it does not score higher than" in str(why)) == (not is_high)
            agree = KeptScores(bundle, "small", layer, "csp_plus").array("halves_agree")[unit]
            lack = "its correlation with the activation is 0." if agree else "the two halves of"
            assert (f", but {lack}" in str(why)) == is_high
            verdict = str(stored(bundle, neuron, "csp_plus").verdict)
            assert (f", but {lack}" in verdict) == is_high
            assert verdict.endswith("so it is not reliable.")
    assert n_high


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"depths": "5,2"}, "depths is '5,2'; give rising numbers from 0.01 to 50"),
        ({"depths": "5,80"}, "depths is '5,80'"),
        ({"depths": "a lot"}, "depths is 'a lot'"),
        ({"gammas": ""}, "gammas is ''"),
        ({"gammas": "0,nan"}, "gammas is '0,nan'"),
        ({"quiet": 1.0}, "quiet is 1.0"),
        ({"ring": 3}, "ring is 3"),
    ],
)
def test_bad_parameters_get_one_sentence(params, said):
    with pytest.raises(InputError, match="^" + said.replace(".", r"\.")):
        resolve_params(METHODS["csp_plus"], params)
