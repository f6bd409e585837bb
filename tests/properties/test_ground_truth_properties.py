from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.evaluation import ground_truth
from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.stats import intervals

EVERYDAY = settings(max_examples=40, deadline=None)


@st.composite
def worlds(draw):
    """Few units, images and concepts; half the time as many units as concepts, often ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_units, n_images = draw(st.integers(1, 7)), draw(st.integers(4, 30))
    n_concepts = n_units if draw(st.booleans()) else draw(st.integers(1, 7))
    values = rng.integers(-4, 5, (n_units, n_images)).astype(np.float32)
    if draw(st.booleans()):
        values = -np.abs(values) - 1
    values[0] = values[0, 0]
    truth = rng.random((n_images, n_concepts)) < rng.random(n_concepts)
    return values, truth


def figures(found):
    return found.pearson_uc, found.auroc_uc, found.auprc_uc


@EVERYDAY
@given(worlds())
def test_metrics_keep_the_range_that_they_declare(world):
    names = ("pearson", "auroc", "auprc")
    for name, found_uc in zip(names, figures(ground_truth.association(*world)), strict=True):
        known = found_uc[~np.isnan(found_uc)]
        assert (known >= METRICS[name].low - 1e-5).all(), name
        assert (known <= METRICS[name].high + 1e-5).all(), name


@EVERYDAY
@given(worlds(), st.integers(1, 8))
def test_results_do_not_depend_on_the_block(world, unit_block):
    whole = figures(ground_truth.association(*world))
    parts = figures(ground_truth.association(*world, unit_block=unit_block))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@EVERYDAY
@given(worlds())
def test_increasing_transforms_leave_the_areas_as_they_are(world):
    values, truth = world
    before = ground_truth.association(values, truth)
    after = ground_truth.association(np.exp(values / 2) - 3, truth)
    np.testing.assert_array_equal(before.auroc_uc, after.auroc_uc)
    np.testing.assert_array_equal(before.auprc_uc, after.auprc_uc)


@EVERYDAY
@given(worlds(), st.floats(0.01, 100), st.floats(-50, 50))
def test_scale_and_shift_leave_pearson_as_it_is(world, scale, shift):
    values, truth = world
    before = ground_truth.association(values, truth)
    after = ground_truth.association((values * scale + shift).astype(np.float32), truth)
    np.testing.assert_allclose(before.pearson_uc[1:], after.pearson_uc[1:], atol=1e-3)


@EVERYDAY
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(world, random):
    values, truth = world
    order = list(range(len(truth)))
    random.shuffle(order)
    before = figures(ground_truth.association(values, truth))
    after = figures(ground_truth.association(values[:, order], truth[order]))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@EVERYDAY
@given(worlds())
def test_the_opposite_concept_mirrors_auroc_and_pearson(world):
    values, truth = world
    one, other = (ground_truth.association(values, t) for t in (truth, ~truth))
    np.testing.assert_allclose(one.auroc_uc, 1 - other.auroc_uc, atol=1e-6)
    np.testing.assert_allclose(one.pearson_uc, -other.pearson_uc, atol=1e-6)


@EVERYDAY
@given(worlds())
def test_ranges_and_what_is_undefined(world):
    values, truth = world
    found = ground_truth.association(values, truth)
    is_judged = truth.any(axis=0) & ~truth.all(axis=0)
    for table in figures(found):
        assert np.isnan(table[:, ~is_judged]).all()
    assert not np.isnan(found.auroc_uc[:, is_judged]).any()
    assert not np.isnan(found.auprc_uc[:, is_judged]).any()
    is_constant = np.ptp(values, axis=1) == 0
    assert np.isnan(found.pearson_uc[is_constant]).all()
    assert (found.auroc_uc[is_constant][:, is_judged] == 0.5).all()
    share = truth.mean(axis=0)[is_judged]
    np.testing.assert_allclose(
        found.auprc_uc[is_constant][:, is_judged],
        np.broadcast_to(share, (is_constant.sum(), len(share))),
        rtol=1e-6,
    )
    assert (np.abs(found.pearson_uc[~is_constant][:, is_judged]) <= 1).all()
    assert (found.auprc_uc[:, is_judged] > 0).all()
    assert (found.auprc_uc[:, is_judged] <= 1).all()


@EVERYDAY
@given(worlds(), st.booleans())
def test_nothing_crashes_and_claims_are_never_made_without_a_concept(world, is_grouped):
    values, truth = world
    group_n = np.arange(len(truth)) // 2 if is_grouped else None
    rule = ground_truth.TruthRule(min_positive=2, n_resamples=100)
    found = ground_truth.true_concepts(values, truth, group_n=group_n, rule=rule)
    assert not found.has_concept_u[0], "a constant unit goes with nothing"
    assert not (found.is_true_u & ~found.has_concept_u).any()
    for figure in (found.pearson_u3, found.auroc_u3, found.auprc_u3):
        assert np.isnan(figure[~found.has_concept_u]).all()
    auroc = found.auroc_u3[found.has_concept_u]
    assert (auroc[:, 1] <= auroc[:, 0] + 1e-6).all()
    assert (auroc[:, 0] <= auroc[:, 2] + 1e-6).all()


@EVERYDAY
@given(st.floats(0, 1), st.integers(1, 400), st.integers(1, 400))
def test_auroc_interval_holds_the_area_and_stays_in_range(area, n_positive, n_negative):
    low, high = intervals.auroc_interval(np.array([area]), n_positive, n_negative)
    assert 0 <= low[0] <= area <= high[0] <= 1
    mirrored_low, mirrored_high = intervals.auroc_interval(
        np.array([1 - area]), n_positive, n_negative
    )
    assert (1 - mirrored_high[0], 1 - mirrored_low[0]) == pytest.approx((low[0], high[0]), abs=1e-6)
    wide_low, wide_high = intervals.auroc_interval(np.array([area]), n_positive, n_negative, 0.99)
    assert wide_low[0] <= low[0] + 1e-9
    assert wide_high[0] >= high[0] - 1e-9


@EVERYDAY
@given(st.integers(0, 50), st.integers(0, 50))
def test_share_intervals_hold_the_share(n_hits, n_more):
    share = intervals.share_of(n_hits, n_hits + n_more)
    if not share.n:
        assert np.isnan([share.share, share.low, share.high]).all()
        return
    assert 0 <= share.low <= share.share <= share.high <= 1
