"""Where to part values into two groups."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

_N_BINS = 256


def otsu(value_n: Float[np.ndarray, " n"]) -> float:
    """The threshold that parts values into the two groups with the largest variance between them.

    Otsu, "A threshold selection method from gray-level histograms", 1979; over 256 bins of equal
    width. Of equally good thresholds the lowest; for a constant column its value.
    """
    if value_n.min() == value_n.max():
        return float(value_n[0])
    edge_b = np.linspace(value_n.min(), value_n.max(), _N_BINS + 1, dtype=value_n.dtype)
    counts_b = in_bins(value_n, edge_b)
    centre_b = (edge_b[:-1] + edge_b[1:]) / 2
    below_b = np.cumsum(counts_b)
    above_b = below_b[-1] - below_b
    sum_b = np.cumsum(counts_b * centre_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap_b = sum_b / below_b - (sum_b[-1] - sum_b) / above_b
        between_b = np.where((below_b > 0) & (above_b > 0), below_b * above_b * gap_b**2, -1.0)
    return float(edge_b[1:][between_b.argmax()])


def in_bins(
    value_n: Float[np.ndarray, " n"], edge_b: Float[np.ndarray, " edges"]
) -> Int64[np.ndarray, " b"]:
    """What ``np.histogram`` counts in bins of equal width, in a quarter of its time."""
    last = len(edge_b) - 2
    share_n = (value_n - edge_b[0]) / (edge_b[-1] - edge_b[0])
    place_n = np.minimum((share_n * value_n.dtype.type(last + 1)).astype(np.int32), last)
    place_n -= value_n < edge_b[place_n]
    place_n += (value_n >= edge_b[place_n + 1]) & (place_n != last)
    return np.bincount(place_n, minlength=last + 1)
