"""Vectors on a plane: their principal components, and how many neighbours a plane keeps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

RECALL_AT = 10
RECALL_SAMPLE = 2000


def principal_components(vector_md: Float32[np.ndarray, "m d"]) -> Float32[np.ndarray, "m 2"]:
    """Coordinates along the two directions of largest variance, zero where there is none.

    The sign of each is such that its largest loading is positive.
    """
    centred_md = vector_md.astype(np.float64) - vector_md.mean(axis=0, dtype=np.float64)
    _, loading_dd = np.linalg.eigh(centred_md.T @ centred_md)
    axis_d2 = loading_dd[:, ::-1][:, :2]
    largest = np.abs(axis_d2).argmax(axis=0)
    axis_d2 = axis_d2 * np.sign(axis_d2[largest, np.arange(axis_d2.shape[1])])
    xy_m2 = np.zeros((len(vector_md), 2), np.float32)
    xy_m2[:, : axis_d2.shape[1]] = centred_md @ axis_d2
    return xy_m2


def neighbour_recall(
    vector_md: Float32[np.ndarray, "m d"], xy_m2: Float32[np.ndarray, "m 2"]
) -> float:
    """How many of the nearest vectors are also nearest on a plane.

    The share of the ten nearest by cosine that are among the ten nearest on the plane, averaged
    over vectors (a sample of them, where there are many); NaN of fewer than two.

    Args:
        vector_md: distinct unit rows.
        xy_m2: their places.
    """
    from scipy.spatial import KDTree

    k = min(RECALL_AT, len(vector_md) - 1)
    if k < 1:
        return float("nan")
    step = max(1, len(vector_md) // RECALL_SAMPLE)
    sample_s = np.arange(0, len(vector_md), step)
    similarity_sm: Float64[np.ndarray, "s m"] = vector_md[sample_s] @ vector_md.T
    similarity_sm[np.arange(len(sample_s)), sample_s] = -np.inf
    near_sk = np.argpartition(-similarity_sm, k - 1, axis=1)[:, :k]
    found_sk = KDTree(xy_m2).query(xy_m2[sample_s], k + 1)[1]
    shared = [
        len(set(near.tolist()) & (set(found.tolist()) - {int(own)}))
        for near, found, own in zip(near_sk, found_sk, sample_s, strict=True)
    ]
    return float(np.mean(shared) / k)
