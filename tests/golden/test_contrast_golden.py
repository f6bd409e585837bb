from __future__ import annotations

import math

import numpy as np
import pytest

from csp_engine.evidence.contrast import ContrastRule, mine_contrast, thresholds
from csp_engine.evidence.exemplars import rank_exemplars
from tests.reference import contrast_reference as reference

RULES = ("mean", "quantile:0.3", "quantile:0.9", "max:0.1")


def clustered(rng, n, d, n_clusters, spread):
    """Unit vectors around a shared direction and some clusters, as image encoders give."""
    centre = rng.standard_normal((n_clusters, d)) + 1
    vector = centre[rng.integers(0, n_clusters, n)] + spread * rng.standard_normal((n, d))
    return (vector / np.linalg.norm(vector, axis=1, keepdims=True)).astype(np.float32)


def awkward_units(rng, image_nd):
    """Activations as networks have them, and as they should not; some follow the clusters."""
    n, d = image_nd.shape
    follows = image_nd @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n)
    return np.stack(
        [
            follows,
            np.maximum(follows - np.median(follows), 0),
            -np.abs(follows) - 1,
            np.full(n, 0.1),
            np.zeros(n),
            np.round(follows),
            np.where(np.arange(n) == n // 2, 1.0, 0.0),
            np.where(np.arange(n) == n // 2, -1.0, 0.0),
            1 + 1e-6 * follows,
        ]
    ).astype(np.float32)


def compare_with_loops(acts, image_nd, rule, groups=(), **options):
    exemplars = rank_exemplars(acts, options.pop("n_exemplars", 5))
    found = mine_contrast(acts, exemplars, image_nd, rule, **options)
    for unit, acts_n in enumerate(acts):
        assert found.threshold_u[unit] == reference.threshold(acts_n, rule.threshold)
        assert found.pool_u[unit] == np.sum(acts_n < found.threshold_u[unit])
        query_k = exemplars.image_uk[unit, : exemplars.count_u[unit]].tolist()
        assert not found.n_partner_uk[unit, len(query_k) :].any()
        expected = reference.partners_with_reuse(
            acts_n, query_k, image_nd, rule.threshold, rule.n_partners, groups
        )
        for rank, pairs in enumerate(expected):
            count = found.n_partner_uk[unit, rank]
            image_j = found.image_ukj[unit, rank, :count]
            assert image_j.tolist() == [image for image, _ in pairs]
            np.testing.assert_allclose(
                found.similarity_ukj[unit, rank, :count], [s for _, s in pairs], rtol=0, atol=6e-8
            )
            np.testing.assert_array_equal(found.activation_ukj[unit, rank, :count], acts_n[image_j])
            assert not found.similarity_ukj[unit, rank, count:].any()


@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 2), (4, 9), (9, 9), (40, 7), (61, 33)])
@pytest.mark.parametrize("threshold", RULES)
@pytest.mark.parametrize("n_partners", [1, 3])
def test_partners_agree_with_loops(n, d, threshold, n_partners):
    rng = np.random.default_rng(n + d)
    image_nd = clustered(rng, n, d, 4, 0.5)
    acts = awkward_units(rng, image_nd)
    compare_with_loops(acts, image_nd, ContrastRule(threshold, n_partners), unit_block=4)


@pytest.mark.parametrize("list_length", [1, 2, 3, 8, 1000])
@pytest.mark.parametrize("spread", [0.0, 0.02, 1.0])
def test_lists_that_run_out_change_nothing(list_length, spread):
    # With spread 0 every cluster is one vector, repeated.
    rng = np.random.default_rng(list_length)
    image_nd = clustered(rng, 50, 12, 3, spread)
    acts = awkward_units(rng, image_nd)
    for n_partners in (1, 4):
        rule = ContrastRule("mean", n_partners)
        compare_with_loops(acts, image_nd, rule, list_length=list_length, n_exemplars=8)


def test_as_many_units_as_dimensions():
    rng = np.random.default_rng(5)
    image_nd = clustered(rng, 30, 9, 5, 0.4)
    acts = awkward_units(rng, image_nd)
    assert len(acts) == image_nd.shape[1]
    compare_with_loops(acts, image_nd, ContrastRule(n_partners=2), unit_block=5)


@pytest.mark.parametrize("bars", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("list_length", [2, None])
def test_barred_images_agree_with_loops(bars, list_length):
    rng = np.random.default_rng(11)
    image_nd = clustered(rng, 40, 16, 5, 0.3)
    acts = awkward_units(rng, image_nd)
    duplicate_group_n, group_n = (rng.integers(0, 12, 40).astype(np.int32) for _ in range(2))
    groups = [g for g, is_used in zip((duplicate_group_n, group_n), bars, strict=True) if is_used]
    rule = ContrastRule(n_partners=3, exclude_near_duplicates=bars[0], exclude_same_group=bars[1])
    compare_with_loops(
        acts,
        image_nd,
        rule,
        groups,
        duplicate_group_n=duplicate_group_n,
        group_n=group_n,
        list_length=list_length,
    )


def test_memory_mapped_activations(tmp_path):
    rng = np.random.default_rng(2)
    image_nd = clustered(rng, 40, 8, 4, 0.3)
    np.save(tmp_path / "acts.npy", awkward_units(rng, image_nd))
    compare_with_loops(np.load(tmp_path / "acts.npy", mmap_mode="r"), image_nd, ContrastRule())


@pytest.mark.parametrize("threshold", RULES)
def test_thresholds_agree_with_loops(threshold):
    rng = np.random.default_rng(8)
    for n in (1, 2, 3, 50, 997):
        acts = awkward_units(rng, clustered(rng, n, 4, 3, 0.5))
        expected = [reference.threshold(acts_n, threshold) for acts_n in acts]
        np.testing.assert_array_equal(thresholds(acts, threshold), np.array(expected, np.float32))


def total_and_pattern(found, unit, exemplars, image_nd):
    """Total similarity in float64, places filled in the reference's order, images used."""
    count = exemplars.count_u[unit]
    query_k = exemplars.image_uk[unit, :count].tolist()
    filled = found.n_partner_uk[unit, :count]
    pairs = [
        (query, int(image))
        for rank, query in enumerate(query_k)
        for image in found.image_ukj[unit, rank, : filled[rank]]
    ]
    total = math.fsum(reference.cosine(image_nd, *pair) for pair in pairs)
    pattern = tuple(bool(j < n) for j in range(found.image_ukj.shape[2]) for n in filled)
    return query_k, total, pattern, pairs


@pytest.mark.parametrize(("n", "n_exemplars", "n_partners"), [(6, 3, 1), (7, 2, 2), (5, 4, 1)])
@pytest.mark.parametrize("list_length", [1, 3, None])
@pytest.mark.parametrize("is_barred", [False, True])
def test_without_reuse_agrees_with_trying_everything(
    n, n_exemplars, n_partners, list_length, is_barred
):
    rng = np.random.default_rng(n * 10 + n_partners)
    group_n = rng.integers(0, 4, n).astype(np.int32)
    rule = ContrastRule("mean", n_partners, reuse=False, exclude_same_group=is_barred)
    for spread in (0.0, 0.3, 2.0):
        image_nd = clustered(rng, n, 5, 2, spread)
        acts = awkward_units(rng, image_nd)
        exemplars = rank_exemplars(acts, n_exemplars)
        found = mine_contrast(
            acts, exemplars, image_nd, rule, group_n=group_n, list_length=list_length
        )
        groups = [group_n] if is_barred else []
        for unit, acts_n in enumerate(acts):
            query_k, total, pattern, pairs = total_and_pattern(found, unit, exemplars, image_nd)
            used = [image for _, image in pairs]
            assert len(set(used)) == len(used)
            assert all(reference.allowed(*pair, groups) for pair in pairs)
            best_pattern, best_total = reference.best_assignment(
                acts_n, query_k, image_nd, "mean", n_partners, groups
            )
            assert pattern == best_pattern
            assert total == pytest.approx(best_total, abs=1e-9)


@pytest.mark.parametrize("list_length", [4, 16, 60])
@pytest.mark.parametrize("n_partners", [1, 3])
def test_without_reuse_short_lists_give_the_total_of_whole_ones(list_length, n_partners):
    rng = np.random.default_rng(list_length)
    rule = ContrastRule("mean", n_partners, reuse=False)
    for spread in (0.0, 0.05, 0.6):
        image_nd = clustered(rng, 300, 10, 4, spread)
        acts = np.vstack([awkward_units(rng, image_nd) for _ in range(2)])
        exemplars = rank_exemplars(acts, 20)
        short = mine_contrast(acts, exemplars, image_nd, rule, list_length=list_length)
        whole = mine_contrast(acts, exemplars, image_nd, rule, list_length=300)
        for unit in range(len(acts)):
            _, total, pattern, pairs = total_and_pattern(short, unit, exemplars, image_nd)
            _, whole_total, whole_pattern, _ = total_and_pattern(whole, unit, exemplars, image_nd)
            assert len({image for _, image in pairs}) == len(pairs)
            assert pattern == whole_pattern
            assert total == pytest.approx(whole_total, abs=1e-9)
