"""Mean activation difference, as CoSy has it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from csp_engine.evaluation.metrics.metric import Judged, Metric


def mad(judged: Judged) -> Float64[np.ndarray, "b j"]:
    """``(mean a where c = 1 - mean a where c = 0) / sd of a where c = 0``; 0 where that sd is 0."""
    activation_bn = judged.activation_bn.astype(np.float64)
    # The mean of each unit is taken away first, so that large activations lose no digits.
    activation_bn -= activation_bn.mean(axis=1, keepdims=True)
    with_nj = judged.columns.value_nj
    without_nj = 1 - with_nj
    n_with_j, n_without_j = judged.columns.n_positive_j, without_nj.sum(axis=0)
    mean_bj = activation_bn @ without_nj / n_without_j
    variance_bj = (activation_bn**2) @ without_nj / n_without_j - mean_bj**2
    scale_b1 = (activation_bn**2).mean(axis=1, keepdims=True)
    is_spread_bj = variance_bj > 1e-12 * scale_b1
    gap_bj = activation_bn @ with_nj / n_with_j - mean_bj
    return np.where(is_spread_bj, gap_bj / np.sqrt(np.where(is_spread_bj, variance_bj, 1)), 0.0)


MAD = Metric(
    name="mad",
    title="MAD",
    meaning="Mean activation where the label is said minus that elsewhere, in standard deviations.",
    compute=mad,
    takes=("said",),
    chance=0,
    order=90,
    section="spearman, cosine, f1, iou, recall, mad",
)
