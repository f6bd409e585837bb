from __future__ import annotations

import numpy as np
import pytest

from csp_engine.audits.clarity import clarity
from csp_engine.audits.polysemanticity import polysemanticity
from csp_engine.audits.redundancy import redundancy
from csp_engine.types import Exemplars
from tests.reference import audit_reference as reference
from tests.worlds import small_layers


def clustered(rng, m, d, n_groups, spread):
    centres = small_layers.unit_rows(rng, n_groups, d)
    rows = centres[rng.integers(0, n_groups, m)] + spread * rng.standard_normal((m, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def as_units(units, width=None):
    """Units of different numbers of exemplars in one padded array."""
    k = max(len(rows) for rows in units)
    x_ukd = np.zeros((len(units), k, units[0].shape[1]), np.float32)
    for u, rows in enumerate(units):
        x_ukd[u, : len(rows)] = rows
    return x_ukd, np.arange(k) < np.array([len(rows) for rows in units])[:, None]


@pytest.mark.parametrize("m", [2, 3, 30])
def test_clarity_is_the_mean_cosine_of_pairs(m):
    rng = np.random.default_rng(m)
    units = [clustered(rng, m, 8, 2, 0.3), clustered(rng, max(m - 1, 2), 8, 1, 0.1)]
    expected = [reference.clarity(rows) for rows in units]
    np.testing.assert_allclose(clarity(*as_units(units)), expected, atol=1e-5)


@pytest.mark.parametrize("d", [3, 8, 64])
def test_clear_groups_are_found_as_scikit_learn_finds_them(d):
    rng = np.random.default_rng(d)
    units = [clustered(rng, m, d, 2, 0.02) for m in (30, 30, 12, 7)]
    found = polysemanticity(*as_units(units))
    for u, rows in enumerate(units):
        score, label_k, _, silhouette = reference.polysemanticity(rows)
        assert found.polysemanticity_u[u] == pytest.approx(score, abs=1e-4)
        sizes = sorted(np.bincount(label_k, minlength=2).tolist(), reverse=True)
        assert found.size_u2[u].tolist() == sizes
        same = label_k == label_k[0]
        group = found.group_uk[u, : len(rows)]
        np.testing.assert_array_equal(group == group[0], same)
        if sizes[1]:
            assert found.silhouette_u[u] == pytest.approx(silhouette, abs=1e-4)


def inertia(rows, group_k):
    rows = rows.astype(np.float64)
    return sum(
        np.square(rows[group_k == g] - rows[group_k == g].mean(axis=0)).sum()
        for g in (0, 1)
        if (group_k == g).any()
    )


def test_on_one_cloud_the_split_is_as_tight_as_that_of_scikit_learn():
    """Without clear groups there are many local optima; ten starts of either find similar ones."""
    rng = np.random.default_rng(0)
    units = [clustered(rng, 30, 16, 1, 0.5) for _ in range(20)]
    found = polysemanticity(*as_units(units))
    ours = [inertia(rows, found.group_uk[u]) for u, rows in enumerate(units)]
    theirs = [reference.polysemanticity(rows)[2] for rows in units]
    assert np.mean(ours) <= np.mean(theirs) * 1.005
    np.testing.assert_allclose(ours, theirs, rtol=0.03)


@pytest.mark.parametrize("n_copies", [3, 19])
def test_a_lone_outlier_uses_the_published_fallback(n_copies):
    rows = np.zeros((n_copies + 1, 4), np.float32)
    rows[:n_copies, 0] = 1
    rows[n_copies, 1] = 1
    found = polysemanticity(*as_units([rows]))
    assert found.polysemanticity_u[0] == pytest.approx(reference.polysemanticity(rows)[0], abs=1e-6)
    assert found.size_u2[0].tolist() == [n_copies, 1]


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_redundancy_agrees_with_a_loop(block):
    rng = np.random.default_rng(1)
    vector_ud = rng.standard_normal((9, 9)).astype(np.float32)
    vector_ud[7] = 2 * vector_ud[4]
    nearest_u, similarity_u = redundancy(vector_ud, unit_block=block)
    for unit in range(9):
        other, value = reference.nearest(vector_ud, unit)
        assert nearest_u[unit] == other
        assert similarity_u[unit] == pytest.approx(value, abs=1e-5)


def test_the_whole_table_does_not_depend_on_the_block():
    rng = np.random.default_rng(2)
    image_nd = small_layers.unit_rows(rng, 40, 6)
    exemplars = Exemplars(
        rng.integers(0, 40, (7, 9)).astype(np.int32),
        np.zeros((7, 9), np.float32),
        np.array([9, 9, 0, 1, 2, 5, 9], np.int32),
    )
    whole, groups = small_layers.audited(exemplars, image_nd, 8)
    for block in (1, 3):
        part, part_groups = small_layers.audited(exemplars, image_nd, 8, unit_block=block)
        for name in whole:
            np.testing.assert_allclose(part[name], whole[name], atol=1e-6)
        np.testing.assert_array_equal(part_groups["image_group"], groups["image_group"])
    rows = image_nd[exemplars.image_uk[0, :8]]
    assert whole["clarity"][0] == pytest.approx(reference.clarity(rows), abs=1e-5)
