from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine.evidence.contrast import ContrastRule, mine_contrast, thresholds
from csp_engine.evidence.exemplars import rank_exemplars
from tests.reference import contrast_reference as reference

THRESHOLDS = st.sampled_from(["mean", "quantile:0.25", "quantile:0.8", "max:0.3"])


@st.composite
def layers(draw, *, is_tied=None):
    """Activations and unit vectors of a small layer; with ties or, for sure, without."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d = draw(st.integers(2, 40)), draw(st.integers(2, 20))
    n_units = draw(st.one_of(st.just(d), st.integers(1, 5)))
    image_nd = rng.standard_normal((n, d)) + draw(st.sampled_from([0.0, 1.0]))
    acts_un = rng.standard_normal((n_units, n)) + rng.standard_normal((n_units, 1))
    if is_tied is None:
        is_tied = draw(st.booleans())
    if is_tied:
        image_nd = image_nd[rng.integers(0, max(1, n // 3), n)]
        acts_un = np.round(acts_un)
    image_nd /= np.linalg.norm(image_nd, axis=1, keepdims=True)
    return acts_un.astype(np.float32), image_nd.astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(layers(), THRESHOLDS, st.integers(1, 4), st.sampled_from([None, 1, 3]))
def test_partners_are_quiet_and_no_quiet_image_is_nearer(layer, threshold, n_partners, length):
    acts_un, image_nd = layer
    exemplars = rank_exemplars(acts_un, 6)
    rule = ContrastRule(threshold, n_partners)
    found = mine_contrast(acts_un, exemplars, image_nd, rule, list_length=length)
    wide_nd = image_nd.astype(np.float64)
    for unit, acts_n in enumerate(acts_un):
        quiet = np.flatnonzero(acts_n < found.threshold_u[unit])
        for rank in range(exemplars.count_u[unit]):
            query = exemplars.image_uk[unit, rank]
            count = found.n_partner_uk[unit, rank]
            image_j = found.image_ukj[unit, rank, :count]
            pool = np.setdiff1d(quiet, [query])
            assert count == min(n_partners, len(pool))
            assert np.isin(image_j, pool).all()
            others = np.setdiff1d(pool, image_j)
            if len(others):
                last = wide_nd[image_j[-1]] @ wide_nd[query]
                assert (wide_nd[others] @ wide_nd[query] <= last + 2e-12).all()


@settings(max_examples=60, deadline=None)
@given(layers(is_tied=False), THRESHOLDS, st.integers(1, 3), st.randoms(use_true_random=False))
def test_reordering_images_only_renames_them(layer, threshold, n_partners, random):
    acts_un, image_nd = layer
    order = list(range(len(image_nd)))
    random.shuffle(order)
    order = np.array(order)
    rule = ContrastRule(threshold, n_partners)
    before = mine_contrast(acts_un, rank_exemplars(acts_un, 5), image_nd, rule)
    moved_un, moved_nd = np.ascontiguousarray(acts_un[:, order]), image_nd[order]
    after = mine_contrast(moved_un, rank_exemplars(moved_un, 5), moved_nd, rule)
    np.testing.assert_array_equal(before.n_partner_uk, after.n_partner_uk)
    np.testing.assert_array_equal(before.pool_u, after.pool_u)
    is_partner = np.arange(n_partners) < before.n_partner_uk[:, :, None]
    np.testing.assert_array_equal(before.image_ukj[is_partner], order[after.image_ukj[is_partner]])


@settings(max_examples=60, deadline=None)
@given(
    layers(),
    st.sampled_from(["mean", "quantile:0.25", "quantile:0.8"]),
    st.booleans(),
    st.integers(-6, 9),
)
def test_scaling_a_unit_changes_no_choice(layer, threshold, reuse, power):
    # Powers of two scale float32 without rounding.
    acts_un, image_nd = layer
    exemplars = rank_exemplars(acts_un, 5)
    rule = ContrastRule(threshold, 2, reuse=reuse)
    before = mine_contrast(acts_un, exemplars, image_nd, rule)
    after = mine_contrast(acts_un * np.float32(2.0**power), exemplars, image_nd, rule)
    for name in ("image_ukj", "similarity_ukj", "n_partner_uk", "pool_u"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


@settings(max_examples=60, deadline=None)
@given(layers(), THRESHOLDS, st.integers(1, 3), st.sampled_from([None, 1, 4]))
def test_without_reuse_no_image_serves_twice_and_no_greedy_walk_does_better(
    layer, threshold, n_partners, length
):
    acts_un, image_nd = layer
    exemplars = rank_exemplars(acts_un, 6)
    rule = ContrastRule(threshold, n_partners, reuse=False)
    found = mine_contrast(acts_un, exemplars, image_nd, rule, list_length=length)
    for unit, acts_n in enumerate(acts_un):
        query_k = exemplars.image_uk[unit, : exemplars.count_u[unit]].tolist()
        count_k = found.n_partner_uk[unit, : len(query_k)]
        used = [
            int(image)
            for rank, count in enumerate(count_k)
            for image in found.image_ukj[unit, rank, :count]
        ]
        assert len(set(used)) == len(used)
        assert (acts_n[used] < found.threshold_u[unit]).all()
        total = math.fsum(
            reference.cosine(image_nd, query, int(image))
            for rank, query in enumerate(query_k)
            for image in found.image_ukj[unit, rank, : count_k[rank]]
        )
        is_full = len(used) == n_partners * len(query_k)
        for walk in (query_k, query_k[::-1]):
            n_filled, greedy = reference.greedy_walk(acts_n, walk, image_nd, threshold, n_partners)
            assert n_filled <= len(used)
            if is_full and n_filled == len(used):
                assert greedy <= total + 1e-9


@settings(max_examples=60, deadline=None)
@given(layers(), st.integers(1, 3), st.booleans())
def test_blocks_change_nothing(layer, unit_block, reuse):
    acts_un, image_nd = layer
    exemplars = rank_exemplars(acts_un, 4)
    rule = ContrastRule(n_partners=2, reuse=reuse)
    whole = mine_contrast(acts_un, exemplars, image_nd, rule)
    cut = mine_contrast(acts_un, exemplars, image_nd, rule, unit_block=unit_block)
    for name in ("image_ukj", "similarity_ukj", "activation_ukj", "n_partner_uk", "pool_u"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name))


@given(layers(), THRESHOLDS)
def test_a_unit_that_varies_has_quiet_images_unless_the_rule_cannot_apply(layer, threshold):
    acts_un, _ = layer
    limit_u = thresholds(acts_un, threshold)
    varies_u = acts_un.min(axis=1) < acts_un.max(axis=1)
    has_quiet_u = (acts_un < limit_u[:, None]).any(axis=1)
    if threshold.startswith("max"):
        assert not has_quiet_u[~varies_u | (acts_un.max(axis=1) <= 0)].any()
    else:
        np.testing.assert_array_equal(has_quiet_u, varies_u)
