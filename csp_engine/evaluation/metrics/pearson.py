"""Pearson's correlation of activation and column."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from csp_engine.evaluation.metrics.metric import Metric


def pearson(
    values_bn: Float32[np.ndarray, "b n"], column_nj: Float64[np.ndarray, "n j"]
) -> Float64[np.ndarray, "b j"]:
    """Correlations; NaN for constant rows and columns, which are known by their range."""
    is_constant_b = values_bn.max(axis=1) == values_bn.min(axis=1)
    is_constant_j = column_nj.max(axis=0) == column_nj.min(axis=0)
    centred_bn = values_bn.astype(np.float64)
    centred_bn -= centred_bn.mean(axis=1, keepdims=True)
    column_nj = column_nj - column_nj.mean(axis=0)
    length_b = np.where(is_constant_b, np.nan, np.linalg.norm(centred_bn, axis=1))
    length_j = np.where(is_constant_j, np.nan, np.linalg.norm(column_nj, axis=0))
    return np.clip(centred_bn @ column_nj / length_b[:, None] / length_j, -1, 1)


PEARSON = Metric(
    name="pearson",
    title="Pearson",
    meaning="Correlation of activation with the presence of the concept.",
    compute=lambda judged: pearson(judged.activation_bn, judged.columns.value_nj),
    takes=("truth", "prediction"),
    low=-1,
    high=1,
    chance=0,
    term="Pearson correlation",
    order=10,
    is_always_kept=True,
    section="pearson, auroc, auprc",
)
