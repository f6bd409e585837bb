"""Average precision: the area under the curve of precision and recall."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int32

from csp_engine.evaluation.metrics.metric import Judged, Metric


def auprc(judged: Judged) -> Float64[np.ndarray, "b j"]:
    """Mean over images with the concept of the precision among all images at least as active."""
    _, n_at_least_bn = judged.ranks
    figures = [average_precision(n_at_least_bn[:, rows]) for rows in judged.columns.positives]
    return np.stack(figures, axis=1) if figures else np.zeros((len(n_at_least_bn), 0))


def average_precision(n_at_least_bp: Int32[np.ndarray, "b p"]) -> Float64[np.ndarray, " b"]:
    """Mean over positives of (positives at least as active) / (images at least as active)."""
    sorted_bp = np.sort(n_at_least_bp, axis=1)
    n_found_p = np.arange(1, sorted_bp.shape[1] + 1, dtype=np.int32)
    is_tied_bp = sorted_bp[:, :-1] == sorted_bp[:, 1:]
    if not is_tied_bp.any():
        return (n_found_p / sorted_bp).mean(axis=1)
    n_found_bp = np.broadcast_to(n_found_p, sorted_bp.shape).copy()
    n_found_bp[:, :-1][is_tied_bp] = sorted_bp.shape[1]
    n_found_bp = np.minimum.accumulate(n_found_bp[:, ::-1], axis=1)[:, ::-1]
    return (n_found_bp / sorted_bp).mean(axis=1)


AUPRC = Metric(
    name="auprc",
    title="AUPRC",
    meaning="Average precision of finding images with the concept by activation.",
    compute=auprc,
    takes=("truth", "said"),
    low=0,
    high=1,
    term="AUPRC",
    order=30,
    is_always_kept=True,
    section="pearson, auroc, auprc",
)
