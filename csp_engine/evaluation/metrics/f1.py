"""F1: how far the images a unit is active on are those that a label is said of."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from csp_engine.evaluation.metrics.metric import Judged, Metric


def f1(judged: Judged) -> Float64[np.ndarray, "b j"]:
    """``2 |A ∩ C| / (|A| + |C|)``."""
    n_active_b = judged.active_bn.sum(axis=1)
    return 2 * judged.overlap_bj / (n_active_b[:, None] + judged.columns.n_positive_j)


F1 = Metric(
    name="f1",
    title="F1",
    meaning="Harmonic mean of precision and recall of the images that the neuron is active on.",
    compute=f1,
    takes=("said",),
    low=0,
    high=1,
    order=60,
    section="spearman, cosine, f1, iou, recall, mad",
)
