"""Recall: the share of the images a unit is active on that a label is said of."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from csp_engine.evaluation.metrics.metric import Judged, Metric


def recall(judged: Judged) -> Float64[np.ndarray, "b j"]:
    """``|A ∩ C| / |A|``; NaN for a unit that is active nowhere, as a constant one."""
    n_active_b = judged.active_bn.sum(axis=1).astype(np.float64)
    return judged.overlap_bj / np.where(n_active_b > 0, n_active_b, np.nan)[:, None]


RECALL = Metric(
    name="recall",
    title="Recall",
    meaning="Share of the images that the neuron is active on that the label is said of.",
    compute=recall,
    takes=("said",),
    low=0,
    high=1,
    order=80,
    section="spearman, cosine, f1, iou, recall, mad",
)
