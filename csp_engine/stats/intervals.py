"""Intervals for shares, correlations and areas under ROC curves, and paired comparisons of shares.

All of them take independent observations. Images of one lesion, or neurons of one layer, are not;
whoever calls says so by the counts (groups in place of images) or shows a second figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from csp_engine.stats.wilson import wilson

LEVEL = 0.95
"""The confidence of every interval here unless the caller says otherwise."""

_N_HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Share:
    """``n_hits`` of ``n``, with Wilson's interval; share and bounds are NaN where n is 0."""

    n_hits: int
    n: int
    share: float
    low: float
    high: float


def share_of(n_hits: int, n: int, level: float = LEVEL) -> Share:
    """A share with Wilson's score interval, which keeps inside [0, 1] and works at 0 and at n."""
    if n == 0:
        return Share(0, 0, float("nan"), float("nan"), float("nan"))
    share = n_hits / n
    low, high = wilson(share, n, _z(level))
    low, high = 0.0 if n_hits == 0 else max(0.0, low), 1.0 if n_hits == n else min(1.0, high)
    return Share(n_hits, n, share, low, high)


def difference_of_shares(first: Share, second: Share) -> tuple[float, float, float]:
    """First share minus second, over different cases, with Newcombe's hybrid score interval.

    With shares p, q and their Wilson bounds: ``p - q - sqrt((p - low_p)² + (high_q - q)²)`` to
    ``p - q + sqrt((high_p - p)² + (q - low_q)²)`` (Newcombe, Statistics in Medicine 17, 1998,
    method 10). NaN where either has no cases.
    """
    p, q = first.share, second.share
    below = np.hypot(p - first.low, second.high - q)
    above = np.hypot(first.high - p, q - second.low)
    return p - q, float(p - q - below), float(p - q + above)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The first share minus the second over the same cases.

    ``n_first_only`` and ``n_second_only`` count the cases only one got right; the interval is that
    of Agresti and Min (2005), ``p`` McNemar's exact two-sided test.
    """

    n: int
    n_first_only: int
    n_second_only: int
    difference: float
    low: float
    high: float
    p: float


def paired_difference(
    first_u: Bool[np.ndarray, " u"], second_u: Bool[np.ndarray, " u"], level: float = LEVEL
) -> PairedDifference:
    """Compare two shares over the same cases.

    With b cases only the first got right and c only the second, of n: b* = b + 1/2, c* = c + 1/2,
    n* = n + 2, interval (b* - c*) / n* ± z sqrt(b* + c* - (b* - c*)² / n*) / n*.
    """
    n = len(first_u)
    b, c = int((first_u & ~second_u).sum()), int((second_u & ~first_u).sum())
    if n == 0:
        nan = float("nan")
        return PairedDifference(0, 0, 0, nan, nan, nan, nan)
    centre = (b - c) / (n + 2)
    reach = _z(level) * np.sqrt(b + c + 1 - (b - c) ** 2 / (n + 2)) / (n + 2)
    from scipy.stats import binomtest  # half a second that pages need not wait for

    p = binomtest(b, b + c).pvalue if b + c else 1.0
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    return PairedDifference(n, b, c, (b - c) / n, float(low), float(high), float(p))


def auroc_interval(
    auroc: Float[np.ndarray, "*shape"],
    n_positive: Int[np.ndarray, "*counts"] | int,
    n_negative: Int[np.ndarray, "*counts"] | int,
    level: float = LEVEL,
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"]]:
    """Newcombe's interval for an area under a ROC curve, from area and counts alone.

    The bounds are the areas A with ``|A - area| = z sqrt(V(A))``, where V is the variance of
    Hanley and McNeil (1982) with both counts replaced by their mean N inside the bracket:
    ``V(A) = A (1 - A) [1 + (N - 1) ((1 - A) / (2 - A) + A / (1 + A))] / (n_positive n_negative)``.
    Because V is taken at the bound and not at the area, a perfect area of 1 still has a lower bound
    below 1 (that of DeLong has not) and the interval keeps inside [0, 1]. Newcombe, Statistics in
    Medicine 25 (2006), method 5. NaN where a count is 0.
    """
    shape = np.shape(auroc)
    area = np.asarray(auroc, np.float64)
    n_positive = np.broadcast_to(np.asarray(n_positive, np.float64), shape)
    n_negative = np.broadcast_to(np.asarray(n_negative, np.float64), shape)
    is_known = (n_positive > 0) & (n_negative > 0) & np.isfinite(area)
    z = _z(level)

    def too_far(bound: Any) -> Any:
        return np.abs(area - bound) > z * np.sqrt(hanley_mcneil(bound, n_positive, n_negative))

    bounds = []
    for end in (0.0, 1.0):
        outer, inner = np.full(shape, end), area.copy()
        for _ in range(_N_HALVINGS):
            middle = (outer + inner) / 2
            is_outside = too_far(middle)
            outer, inner = np.where(is_outside, middle, outer), np.where(is_outside, inner, middle)
        bounds.append(np.where(is_known, inner, np.nan))
    return bounds[0], bounds[1]


def hanley_mcneil(area: Any, n_positive: Any, n_negative: Any) -> Any:
    """Variance of an area under a ROC curve by Hanley and McNeil (1982), as Newcombe writes it.

    ``A (1 - A) [1 + (N - 1) ((1 - A) / (2 - A) + A / (1 + A))] / (n_positive n_negative)``, N the
    mean of both counts; counts of 0 are taken for pairs of 1.
    """
    others = np.maximum((n_positive + n_negative) / 2 - 1, 0)
    n_pairs = np.where(n_positive * n_negative > 0, n_positive * n_negative, 1.0)
    bracket = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * bracket / n_pairs


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
