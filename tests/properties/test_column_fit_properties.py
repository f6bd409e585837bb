"""Figures of concept columns against scikit-learn and scipy, column by column and unit by unit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from csp_engine.evaluation.column_fit import column_fit
from csp_engine.evaluation.ground_truth import association
from csp_engine.evaluation.metrics.metric import Columns, Judged

EVERYDAY = settings(max_examples=60, deadline=None)
FIGURES = ("pearson_uc", "auroc_uc", "auprc_uc")


@st.composite
def worlds(draw):
    """Few units and images; ties, constant units, columns that say nothing or always the same."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_units, n_images = draw(st.integers(1, 6)), draw(st.integers(2, 40))
    n_columns = draw(st.integers(1, 6))
    values = rng.integers(-3, 4, (n_units, n_images)).astype(np.float32)
    if draw(st.booleans()):
        values = rng.normal(size=values.shape).astype(np.float32)
    values[0] = values[0, 0]
    column_nc = (rng.random((n_images, n_columns)) < rng.random(n_columns)).astype(np.float32)
    missing_c = rng.choice([0, 0, 0.3, 0.9, 1], n_columns)
    column_nc[rng.random(column_nc.shape) < missing_c] = np.nan
    if n_columns > 1 and draw(st.booleans()):
        column_nc[np.isnan(column_nc[:, 0]), 1] = np.nan  # two columns that leave out alike
    return values, column_nc


def slow_figures(values_n, column_n):
    """One unit and one column, by other libraries; NaN where one would not be defined."""
    is_known = ~np.isnan(column_n)
    values_n, column_n = values_n[is_known].astype(np.float64), column_n[is_known]
    if len(np.unique(column_n)) < 2:
        return (np.nan,) * 3
    with warnings.catch_warnings(action="ignore"):
        pearson = np.nan if np.ptp(values_n) == 0 else pearsonr(values_n, column_n).statistic
    auroc = roc_auc_score(column_n, values_n)
    return pearson, auroc, average_precision_score(column_n, values_n)


@EVERYDAY
@given(worlds(), st.integers(1, 8))
def test_every_figure_is_that_of_other_libraries(world, unit_block):
    values_un, column_nc = world
    found = column_fit(values_un, column_nc, unit_block=unit_block)
    for u, values_n in enumerate(values_un):
        for c, column_n in enumerate(column_nc.T):
            expected = slow_figures(values_n, column_n)
            got = [getattr(found, name)[u, c] for name in FIGURES]
            np.testing.assert_allclose(got, expected, atol=2e-6)


@EVERYDAY
@given(worlds())
def test_a_column_of_many_is_as_it_would_be_alone(world):
    values_un, column_nc = world
    whole = column_fit(values_un, column_nc)
    for c in range(column_nc.shape[1]):
        alone = column_fit(values_un, column_nc[:, c : c + 1])
        for name in FIGURES:
            np.testing.assert_array_equal(
                getattr(whole, name)[:, c], getattr(alone, name)[:, 0], err_msg=name
            )


def test_without_gaps_they_are_the_figures_of_ground_truth():
    rng = np.random.default_rng(0)
    values_un = np.maximum(rng.normal(size=(9, 50)), 0).astype(np.float32)
    truth_nc = rng.random((50, 4)) < 0.3
    ours, theirs = (
        column_fit(values_un, truth_nc.astype(np.float32)),
        association(values_un, truth_nc),
    )
    for name in FIGURES:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


@EVERYDAY
@given(worlds(), st.integers(0, 2**32 - 1))
def test_ranks_among_some_images_are_those_of_these_images_alone(world, seed):
    values_un, _ = world
    is_in_n = np.random.default_rng(seed).random(values_un.shape[1]) < 0.6
    is_in_n[0] = True
    mean_rank_bn, n_at_least_bn = (
        Judged(values_un, Columns(np.zeros((1, 0)))).among(is_in_n, Columns(np.zeros((1, 0)))).ranks
    )
    np.testing.assert_array_equal(mean_rank_bn, rankdata(values_un[:, is_in_n], axis=1))
    highest = rankdata(-values_un[:, is_in_n], method="max", axis=1)
    np.testing.assert_array_equal(n_at_least_bn, highest)


@pytest.mark.parametrize("shape", [(0, 5, 2), (3, 5, 0)])
def test_nothing_to_compare_gives_empty_figures(shape):
    n_units, n_images, n_columns = shape
    found = column_fit(
        np.zeros((n_units, n_images), np.float32), np.zeros((n_images, n_columns), np.float32)
    )
    assert found.auroc_uc.shape == (n_units, n_columns)
