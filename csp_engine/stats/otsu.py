"""Where to part values into two groups."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_N_BINS = 256


def otsu(value_n: Float[np.ndarray, " n"]) -> float:
    """The threshold that parts values into the two groups with the largest variance between them.

    Otsu, "A threshold selection method from gray-level histograms", 1979; over 256 bins of equal
    width. Of equally good thresholds the lowest; for a constant column its value.
    """
    if value_n.min() == value_n.max():
        return float(value_n[0])
    counts_b, edge_b = np.histogram(value_n, bins=_N_BINS)
    centre_b = (edge_b[:-1] + edge_b[1:]) / 2
    below_b = np.cumsum(counts_b)
    above_b = below_b[-1] - below_b
    sum_b = np.cumsum(counts_b * centre_b)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap_b = sum_b / below_b - (sum_b[-1] - sum_b) / above_b
        between_b = np.where((below_b > 0) & (above_b > 0), below_b * above_b * gap_b**2, -1.0)
    return float(edge_b[1:][between_b.argmax()])
