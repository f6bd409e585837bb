from __future__ import annotations

import numpy as np
import pytest

from csp_engine.errors import InputError
from csp_engine.evaluation import ground_truth
from csp_engine.stats import intervals
from studies.truth_intervals import pearson_interval

RULE = ground_truth.TruthRule(n_resamples=200)


def test_by_hand():
    values = np.array([[3, 2, 1, 0], [1, 1, 1, 0]], np.float32)
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], bool)
    found = ground_truth.association(values, truth)
    np.testing.assert_allclose(found.auroc_uc, [[0.75, 0.25], [0.75, 0.25]])
    # Unit 0, concept 0: precision 1/1 and 2/3. Unit 1: three images tie, two of them positive.
    np.testing.assert_allclose(found.auprc_uc[:, 0], [(1 + 2 / 3) / 2, 2 / 3])
    assert found.pearson_uc[0, 0] == pytest.approx(2 / np.sqrt(5 * 4))


def test_a_concept_without_positives_is_nan_and_the_rest_is_not():
    values = np.arange(8, dtype=np.float32)[None]
    truth = np.zeros((8, 3), bool)
    truth[:, 1] = True
    truth[6:, 2] = True
    found = ground_truth.association(values, truth)
    for table in (found.pearson_uc, found.auroc_uc, found.auprc_uc):
        np.testing.assert_array_equal(np.isnan(table[0]), [True, True, False])


@pytest.mark.parametrize(
    ("values", "truth", "words"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((3, 1), bool), "at least 4 images"),
        (np.full((2, 5), np.nan, np.float32), np.zeros((5, 1), bool), "Unit 0 .* not finite"),
    ],
)
def test_bad_input_is_told(values, truth, words):
    with pytest.raises(InputError, match=words):
        ground_truth.association(values, truth)


@pytest.mark.parametrize(
    "change", [{"auroc_min": 0.2}, {"pearson_min": 3.0}, {"min_positive": 0}, {"n_resamples": 3}]
)
def test_rules_that_make_no_sense_are_refused(change):
    with pytest.raises(InputError):
        ground_truth.TruthRule(**change)


def world(n_images=800, n_concepts=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng, rng.random((n_images, n_concepts)) < rng.uniform(0.05, 0.4, n_concepts)


def test_units_that_mean_something_get_it_and_noise_gets_none():
    rng, truth = world()
    noise = rng.normal(size=(400, 800))
    signal = truth.T * 3 + rng.normal(size=(30, 800))
    found = ground_truth.true_concepts(
        np.concatenate([signal, noise]).astype(np.float32), truth, rule=RULE
    )
    assert found.is_true_u[:30].all()
    np.testing.assert_array_equal(found.concept_u[:30], np.arange(30))
    assert not found.is_true_u[30:].any()


def test_choosing_on_the_measuring_half_would_flatter_noise():
    """The chosen concept of a noise unit shows no more than chance on images not chosen on."""
    rng, truth = world()
    noise = rng.normal(size=(400, 800)).astype(np.float32)
    best_seen = ground_truth.association(noise, truth).pearson_uc.max(axis=1)
    measured = ground_truth.true_concepts(noise, truth, rule=RULE).pearson_u3[:, 0]
    assert best_seen.mean() > 0.06
    assert abs(np.nanmean(measured)) < 0.01


def test_a_broad_unit_is_not_given_the_narrow_concept_and_the_other_way_round():
    rng = np.random.default_rng(0)
    broad = rng.random(1200) < 0.3
    narrow = broad & (rng.random(1200) < 0.3)
    truth = np.stack([broad, narrow], axis=1)
    values = (truth.T * 3 + rng.normal(size=(2, 1200))).astype(np.float32)
    found = ground_truth.true_concepts(values, truth, rule=RULE)
    np.testing.assert_array_equal(found.concept_u, [0, 1])
    # AUROC alone could not have told: the narrow concept ranks almost as well on the broad unit.
    assert ground_truth.association(values, truth).auroc_uc[0, 1] > 0.85


def test_a_suppressed_unit_has_no_concept_that_excites_it():
    rng, truth = world(n_concepts=1)
    values = (-3 * truth.T + rng.normal(size=(1, 800))).astype(np.float32)
    found = ground_truth.true_concepts(values, truth, rule=RULE)
    assert not found.has_concept_u[0]
    assert not found.is_true_u[0]


def test_rare_concepts_are_not_looked_at():
    rng, truth = world(n_concepts=2)
    truth[:, 0] = False
    truth[:12, 0] = True
    values = (9 * truth.T[:1] + rng.normal(size=(1, 800))).astype(np.float32)
    assert not (ground_truth.true_concepts(values, truth, rule=RULE).concept_u == 0).any() or (
        not ground_truth.true_concepts(values, truth, rule=RULE).has_concept_u[0]
    )


def test_copies_of_one_image_do_not_make_the_interval_narrower():
    rng, truth = world(n_images=200, n_concepts=1)
    values = (truth.T + rng.normal(size=(1, 200))).astype(np.float32)
    alone = ground_truth.true_concepts(values, truth, rule=RULE)
    group_n = np.repeat(np.arange(200), 5)
    copies = ground_truth.true_concepts(
        np.repeat(values, 5, axis=1), np.repeat(truth, 5, axis=0), group_n=group_n, rule=RULE
    )
    for one, five in [
        (alone.pearson_u3, copies.pearson_u3),
        (alone.auroc_u3, copies.auroc_u3),
        (alone.auprc_u3, copies.auprc_u3),
    ]:
        np.testing.assert_allclose(one, five, atol=0.02)
    ungrouped = ground_truth.true_concepts(
        np.repeat(values, 5, axis=1), np.repeat(truth, 5, axis=0), rule=RULE
    )
    assert np.ptp(ungrouped.auroc_u3[0, 1:]) < 0.7 * np.ptp(alone.auroc_u3[0, 1:])


@pytest.mark.parametrize(("n_with", "n_without"), [(9, 30), (30, 9), (10, 10)])
def test_few_images_of_either_kind_have_no_interval(n_with, n_without):
    """However many images there are of them: the groups count."""
    truth_n = np.repeat([True, False], [n_with, n_without])
    values = np.random.default_rng(1).normal(size=(1, len(truth_n))).astype(np.float32) + truth_n
    one = ground_truth.bootstrap(values.astype(np.float32), truth_n[None])
    group_n = np.tile(np.arange(len(truth_n)), 4)
    many = ground_truth.bootstrap(
        np.tile(values, 4).astype(np.float32), np.tile(truth_n, 4)[None], group_n=group_n
    )
    is_enough = min(n_with, n_without) >= 10
    for bounds in (one, many):
        assert (np.isfinite(bounds) == is_enough).all()
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_halves_keep_groups_whole_and_split_evenly():
    group_n = np.random.default_rng(0).integers(0, 40, 300)
    first_n, second_n = ground_truth.halves(300, group_n, seed=5)
    assert not set(group_n[first_n]) & set(group_n[second_n])
    assert (first_n ^ second_n).all()
    assert len(set(group_n[first_n])) == 20


def drawn(kind: str, rng: np.random.Generator, shift: float, shape: tuple[int, int]) -> np.ndarray:
    noise = rng.normal(shift, 1, shape)
    return np.maximum(noise - 0.5, 0) if kind == "rectified" else noise


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "rectified"])
@pytest.mark.parametrize("shift", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("counts", [(30, 270), (150, 150)])
def test_intervals_cover_what_they_say(kind, shift, counts):
    """Of 300 experiments, at least 91 % (AUROC) and 88 % (Pearson) hold the true figure."""
    rng = np.random.default_rng(11)
    n_positive, n_negative = counts
    n = 300
    values = np.concatenate(
        [drawn(kind, rng, shift, (n, n_positive)), drawn(kind, rng, 0, (n, n_negative))], axis=1
    ).astype(np.float32)
    truth = np.zeros((n_positive + n_negative, 1), bool)
    truth[:n_positive] = True
    big = 200_000
    positives, negatives = drawn(kind, rng, shift, (1, big))[0], drawn(kind, rng, 0, (1, big))[0]
    everything = np.concatenate([positives, negatives]).astype(np.float32)[None]
    area = float(
        ground_truth.association(everything, np.repeat([[True], [False]], big, axis=0)).auroc_uc[
            0, 0
        ]
    )
    share = n_positive / (n_positive + n_negative)
    mean = share * positives.mean() + (1 - share) * negatives.mean()
    variance = share * np.mean((positives - mean) ** 2) + (1 - share) * np.mean(
        (negatives - mean) ** 2
    )
    pearson = (positives.mean() - negatives.mean()) * np.sqrt(share * (1 - share) / variance)
    points = ground_truth.association(values, truth)
    bounds = ground_truth.bootstrap(values, np.repeat(truth.T, n, axis=0), n_resamples=400)
    low, high = intervals.auroc_interval(
        points.auroc_uc[:, 0].astype(np.float64), n_positive, n_negative
    )
    low, high = np.minimum(low, bounds[1, 0]), np.maximum(high, bounds[1, 1])
    assert np.mean((low <= area) & (area <= high)) >= 0.91
    assert np.mean((bounds[0, 0] <= pearson) & (pearson <= bounds[0, 1])) >= 0.88


def test_fisher_interval_covers_where_both_are_normal():
    rng = np.random.default_rng(2)
    first, noise = rng.normal(size=(2, 2000, 50))
    second = 0.6 * first + 0.8 * noise
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)])
    low, high = pearson_interval(r, 50)
    assert 0.935 <= np.mean((low <= 0.6) & (high >= 0.6)) <= 0.965
    low, high = pearson_interval(np.array([1.0, -1.0]), 50)
    np.testing.assert_array_equal([low, high], [[1, -1], [1, -1]])
    assert np.isnan(pearson_interval(np.array([0.5]), 3)).all()


def test_wilson_by_hand_and_by_statistics():
    from scipy.stats import binomtest

    for n_hits, n in [(0, 10), (10, 10), (3, 40), (57, 60)]:
        share = intervals.share_of(n_hits, n)
        expected = binomtest(n_hits, n).proportion_ci(method="wilson")
        assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.slow
def test_paired_difference_by_hand_and_its_coverage():
    first = np.array([1, 1, 1, 0, 0, 1], bool)
    second = np.array([1, 0, 0, 0, 1, 0], bool)
    found = intervals.paired_difference(first, second)
    assert (found.n_first_only, found.n_second_only) == (3, 1)
    assert found.difference == pytest.approx(2 / 6)
    assert found.p == pytest.approx(10 / 16)  # two-sided binomial: 3 or more, or 1 or fewer, of 4
    same = intervals.paired_difference(first, first)
    assert (same.difference, same.p) == (0, 1)
    assert same.low < 0 < same.high
    rng = np.random.default_rng(0)
    n_covered = 0
    for _ in range(2000):
        cases = rng.random((2, 60)) + rng.random(60)
        pair = intervals.paired_difference(cases[0] > 0.9, cases[1] > 1.1)
        n_covered += pair.low <= (1 - 0.9**2 / 2) - (0.9**2 / 2) <= pair.high
    assert n_covered / 2000 == pytest.approx(0.95, abs=0.015)
