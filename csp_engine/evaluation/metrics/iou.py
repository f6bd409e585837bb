"""Intersection over union of the images a unit is active on and those a label is said of."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from csp_engine.evaluation.metrics.metric import Judged, Metric


def iou(judged: Judged) -> Float64[np.ndarray, "b j"]:
    """``|A ∩ C| / |A ∪ C|``."""
    overlap_bj = judged.overlap_bj
    n_active_b = judged.active_bn.sum(axis=1)
    return overlap_bj / (n_active_b[:, None] + judged.columns.n_positive_j - overlap_bj)


IOU = Metric(
    name="iou",
    title="IoU",
    meaning="Images that the neuron is active on and the label is said of, of all that either has.",
    compute=iou,
    takes=("said",),
    low=0,
    high=1,
    order=70,
    section="spearman, cosine, f1, iou, recall, mad",
)
