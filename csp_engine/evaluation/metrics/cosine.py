"""Cosine of activations and what a label is said of, neither centred."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from csp_engine.evaluation.metrics.metric import Judged, Metric


def cosine(judged: Judged) -> Float64[np.ndarray, "b j"]:
    """``a · c / (|a| |c|)``; NaN for a unit or column that is 0 throughout."""
    activation_bn = judged.activation_bn.astype(np.float64)
    value_nj = judged.columns.value_nj
    length_b = np.linalg.norm(activation_bn, axis=1)
    length_j = np.linalg.norm(value_nj, axis=0)
    length_b, length_j = (np.where(length > 0, length, np.nan) for length in (length_b, length_j))
    return activation_bn @ value_nj / length_b[:, None] / length_j


COSINE = Metric(
    name="cosine",
    title="Cosine",
    meaning="Cosine of activations and the images that the label is said of.",
    compute=cosine,
    takes=("said",),
    low=-1,
    high=1,
    order=50,
    section="spearman, cosine, f1, iou, recall, mad",
)
