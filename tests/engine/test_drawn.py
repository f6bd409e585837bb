"""Percentile intervals of what is drawn again and again, and how often they are right."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from csp_engine.evaluation.faithfulness.cosy import cosy
from csp_engine.evaluation.faithfulness.granularity import utility
from csp_engine.evaluation.label_accuracy import drawn_share, mean_over_concepts
from csp_engine.stats.drawn import LEAST_DRAWN, percentile_interval
from csp_engine.stats.paired import compare
from csp_engine.views.benchmark.faithfulness import drawn_mean


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


@pytest.mark.parametrize("n", [1, 2, LEAST_DRAWN - 1, LEAST_DRAWN])
def test_whoever_draws_has_no_interval_of_few(n: int) -> None:
    """Of one neuron, concept or image it would have no width, and so be beyond doubt."""
    value = np.random.default_rng(n).uniform(0.2, 1.0, (n, 2)).astype(np.float32)
    few, control = value[:, 0], np.linspace(0, 1, 50, dtype=np.float32)
    mad = cosy(np.r_[few, few[:1]] if n == 1 else few, control)
    pairs = compare({"a": value[:, 0].astype(float), "b": value[:, 1].astype(float)})
    ends = [
        (each.low, each.high)
        for each in (
            drawn_share(np.ones(n, bool)),
            mean_over_concepts(np.ones(n), [str(at) for at in range(n)]),
            utility(value.astype(float), [0] * n),
            *pairs,
        )
    ]
    found = drawn_mean(pd.Series(few.astype(float)))
    ends += [(found["low"], found["high"]), (mad.mad_low, mad.mad_high)]
    assert np.isnan(ends).all() == (n < LEAST_DRAWN)
    assert np.isnan(ends).any() == (n < LEAST_DRAWN)
