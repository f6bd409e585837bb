"""Rank AUC of formulas, and the test of Mann and Whitney."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64


def doubled_ranks(value_n: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Twice the rank of each value from 1 up, equal values sharing their mean: whole numbers."""
    _, place_n, count_v = np.unique(value_n, return_inverse=True, return_counts=True)
    last_v = np.cumsum(count_v)
    return (2 * last_v - count_v + 1)[place_n].astype(np.int64)


def auc(rank_n: Int64[np.ndarray, " n"], shown_n: Bool[np.ndarray, " n"]) -> float:
    """Chance that an image that shows it ranks above one that does not, ties counting one half.

    ``(R - n1 (n1 + 1) / 2) / (n1 n0)`` with R the sum of the ranks of the n1 images that show it;
    exact but for one division, as ``rank_n`` are doubled. One half where all or none show it.
    """
    n1 = int(np.count_nonzero(shown_n))
    n0 = len(rank_n) - n1
    if not n1 or not n0:
        return 0.5
    return (int(rank_n[shown_n].sum()) - n1 * (n1 + 1)) / (2 * n1 * n0)


def p_above(rank_n: Int64[np.ndarray, " n"], shown_n: Bool[np.ndarray, " n"]) -> float:
    """p-value of Mann and Whitney against "these images do not rank higher than the others".

    One-sided, by the normal approximation with ties and continuity; 1 where nothing can be said.
    """
    from scipy.special import ndtr

    n = len(rank_n)
    n1 = int(np.count_nonzero(shown_n))
    n0 = n - n1
    if not n1 or not n0:
        return 1.0
    count_v = np.unique(rank_n, return_counts=True)[1].astype(np.float64)
    ties = (count_v**3 - count_v).sum() / (n * (n - 1))
    spread = np.sqrt(n1 * n0 / 12 * (n + 1 - ties))
    if not spread:
        return 1.0
    above = auc(rank_n, shown_n) * n1 * n0 - n1 * n0 / 2
    return float(min(1.0, ndtr(-(above - 0.5) / spread)))
