from __future__ import annotations

import numpy as np
import pytest

from csp_engine.evidence import exemplars
from tests.reference import exemplars_reference as reference


def awkward_units(n):
    rng = np.random.default_rng(n)
    normal = rng.standard_normal(n)
    return np.stack(
        [
            normal,
            -np.abs(normal) - 1,
            np.maximum(normal, 0),
            np.round(normal),
            np.full(n, 0.1),
            np.where(np.arange(n) == n // 2, 1.0, 0.0),
            1e30 * normal,
            1 + 1e-6 * normal,
        ]
    ).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 57])
@pytest.mark.parametrize("n_exemplars", [1, 3, 60])
def test_exemplars_agree_with_a_sort(n, n_exemplars):
    acts = awkward_units(n)
    found = exemplars.rank_exemplars(acts, n_exemplars)
    for unit, acts_n in enumerate(acts):
        expected = reference.exemplars(acts_n, n_exemplars)
        assert found.image_uk[unit, : found.count_u[unit]].tolist() == expected
        np.testing.assert_array_equal(
            found.activation_uk[unit, : found.count_u[unit]], acts_n[expected]
        )


@pytest.mark.parametrize("n", [1, 2, 3, 8, 57])
@pytest.mark.parametrize("n_bins", [1, 2, 5])
def test_statistics_agree_with_loops(n, n_bins):
    acts = awkward_units(n)
    found = exemplars.unit_statistics(acts, n_bins=n_bins)
    for unit, acts_n in enumerate(acts):
        mean, deviation = reference.mean_and_deviation(acts_n)
        assert found.mean_u[unit] == pytest.approx(mean, rel=1e-6, abs=1e-12)
        assert found.std_u[unit] == pytest.approx(deviation, rel=1e-6, abs=1e-12)
        expected = [reference.quantile(acts_n, level) for level in exemplars.QUANTILE_LEVELS]
        np.testing.assert_allclose(found.quantile_uq[unit], expected, rtol=1e-6, atol=1e-12)
        assert found.histogram_ub[unit].tolist() == reference.histogram(acts_n, n_bins)
