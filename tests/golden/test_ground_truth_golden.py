"""Ground truth against slow loops and scikit-learn, with ties, few positives, negative values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from csp_engine.evaluation import ground_truth
from csp_engine.stats import intervals
from tests.reference import ground_truth_reference as slow


def layer(kind: str, n_units: int = 5, n_images: int = 31, n_concepts: int = 5):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(n_units, n_images))
    if kind == "ties":
        values = np.round(values)
    if kind == "rectified":
        values = np.maximum(values, 0)
    if kind == "all negative":
        values = -np.exp(values)
    if kind == "large and close":
        values = 1e4 + values * 1e-2
    truth = rng.random((n_images, n_concepts)) < rng.uniform(0.1, 0.9, n_concepts)
    truth[:, 0] = False
    truth[4, 0] = True
    return values.astype(np.float32), truth


KINDS = ["plain", "ties", "rectified", "all negative", "large and close"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit_block", [1, 2, 5, 100])
def test_figures_agree_with_loops_and_scikit_learn(kind, unit_block):
    values, truth = layer(kind)
    found = ground_truth.association(values, truth, unit_block=unit_block)
    for u, row in enumerate(values.astype(np.float64)):
        for c, column in enumerate(truth.T):
            assert found.pearson_uc[u, c] == pytest.approx(slow.pearson(row, column), abs=1e-6)
            assert found.auroc_uc[u, c] == pytest.approx(slow.auroc(row, column), abs=1e-6)
            area = slow.average_precision(row, column)
            assert found.auprc_uc[u, c] == pytest.approx(area, abs=1e-6)
            assert found.auroc_uc[u, c] == pytest.approx(roc_auc_score(column, row), abs=1e-6)
            area = average_precision_score(column, row)
            assert found.auprc_uc[u, c] == pytest.approx(area, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bootstrap_figures_agree_with_written_out_resamples(kind):
    """Counting an image w times is the same as writing it down w times."""
    values, truth = layer(kind)
    rng = np.random.default_rng(0)
    weight = rng.multinomial(31, np.full(31, 1 / 31), size=7).T.astype(np.float32)
    for row, column in zip(values, truth.T, strict=True):
        found = ground_truth._weighted_figures(row.astype(np.float64), column, weight)
        for r in range(7):
            images = np.repeat(np.arange(31), weight[:, r].astype(int))
            drawn, shown = row[images].astype(np.float64).tolist(), column[images].tolist()
            for figure, formula in enumerate((slow.pearson, slow.auroc, slow.average_precision)):
                expected = formula(drawn, shown)
                assert found[figure, r] == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize(
    ("area", "n_positive", "n_negative"),
    [(0.5, 10, 10), (0.83, 7, 60), (1.0, 12, 300), (0.0, 5, 5), (0.999, 1, 40)],
)
def test_auroc_interval_agrees_with_a_grid(area, n_positive, n_negative):
    low, high = intervals.auroc_interval(np.array([area]), n_positive, n_negative)
    expected = slow.newcombe_bounds(area, n_positive, n_negative)
    assert (low[0], high[0]) == pytest.approx(expected, abs=2e-5)
