"""Spearman's correlation of activation and prediction."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from csp_engine.evaluation.metrics.metric import Columns, Judged, Metric
from csp_engine.evaluation.metrics.pearson import pearson


def spearman(judged: Judged) -> Float64[np.ndarray, "b j"]:
    """Pearson's correlation of ranks, ties sharing their mean; NaN for constants."""
    value_jn = np.ascontiguousarray(judged.columns.value_nj.T, np.float32)
    rank_jn, _ = Judged(value_jn, Columns(np.zeros((value_jn.shape[1], 0)))).ranks
    mean_rank_bn, _ = judged.ranks
    return pearson(mean_rank_bn.astype(np.float32), rank_jn.T)


SPEARMAN = Metric(
    name="spearman",
    title="Spearman",
    meaning="Correlation of the ranks of activation and prediction.",
    compute=spearman,
    takes=("prediction",),
    low=-1,
    high=1,
    chance=0,
    order=40,
    section="spearman, cosine, f1, iou, recall, mad",
)
