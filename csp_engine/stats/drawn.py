"""Percentile intervals of what was drawn again and again, where there is enough to draw from."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

N_RESAMPLES = 2000
"""Draws of a bootstrap, unless somebody asks for other."""

LEAST_DRAWN = 10
"""Things (neurons, concepts, groups) that an interval is drawn from, at least.

Of normal values, a percentile interval of nominal 95 % covers their mean in 73 % of cases with 3,
in 85 % with 5, in 90 % with 10 and in 94 % with 20; of one, it has no width.
"""


def percentile_interval(
    drawn_r: Float[np.ndarray, " r"], n: int, level: float = 0.95
) -> tuple[float, float]:
    """Lower and upper bound, from a figure of each draw of ``n`` things.

    NaN where they are fewer than ``LEAST_DRAWN``, or the figure is defined for no draw; draws for
    which it is not are left out.
    """
    known_r = drawn_r[np.isfinite(drawn_r)]
    if n < LEAST_DRAWN or not len(known_r):
        return math.nan, math.nan
    low, high = np.percentile(known_r, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def mean_interval(
    value_a: Float[np.ndarray, " a"], level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """A mean with its percentile bootstrap over the values; NaN of none."""
    n = len(value_a)
    if not n:
        return math.nan, math.nan, math.nan
    rows = np.random.default_rng(seed).integers(n, size=(N_RESAMPLES, n))
    return float(value_a.mean()), *percentile_interval(value_a[rows].mean(axis=1), n, level)
