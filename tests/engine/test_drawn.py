"""Percentile intervals of what is drawn again and again, and how often they are right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from csp_engine.stats.drawn import LEAST_DRAWN, percentile_interval


def test_of_few_there_is_none() -> None:
    drawn = np.arange(101.0)
    for n in (0, 1, 2, LEAST_DRAWN - 1):
        assert all(map(math.isnan, percentile_interval(drawn, n)))
    assert percentile_interval(drawn, LEAST_DRAWN, 0.9) == pytest.approx((5, 95))


def test_what_ten_are_covered_by_is_as_stated() -> None:
    """Of normal values, at nominal 95 %: the mean lies inside in about 90 % of cases."""
    rng = np.random.default_rng(1)
    n_inside = 0
    for _ in range(400):
        value = rng.normal(size=LEAST_DRAWN)
        means = value[rng.integers(LEAST_DRAWN, size=(600, LEAST_DRAWN))].mean(axis=1)
        low, high = percentile_interval(means, LEAST_DRAWN)
        n_inside += low <= 0 <= high
    assert n_inside / 400 == pytest.approx(0.90, abs=0.045)


def test_draws_without_a_value_are_left_out() -> None:
    drawn = np.r_[np.arange(101.0), [np.nan] * 50, np.inf]
    assert percentile_interval(drawn, LEAST_DRAWN, 0.9) == pytest.approx((5, 95))
    assert np.isnan(percentile_interval(np.full(9, np.nan), LEAST_DRAWN)).all()
