"""Weighted means of the image vectors of exemplars, which several methods are built from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int32

from csp_engine.evidence.evidence import Evidence
from csp_engine.types import Exemplars


def has_direction(vector_ud: Float32[np.ndarray, "u d"]) -> Bool[np.ndarray, " u"]:
    """True for rows that are not all zero."""
    return np.count_nonzero(vector_ud, axis=1) > 0


def scored_mask(exemplars: Exemplars, n_score: int) -> Bool[np.ndarray, "u n"]:
    """True at the first ``n_score`` ranks that hold an exemplar."""
    n_rank = min(n_score, exemplars.image_uk.shape[1])
    return np.arange(n_rank) < exemplars.count_u[:, None]


def weighted_sum(
    weight_uk: Float32[np.ndarray, "u k"], vector_ukd: Float32[np.ndarray, "u k d"]
) -> Float32[np.ndarray, "u d"]:
    """Sum over ranks of weight times vector."""
    return np.matmul(weight_uk[:, None, :], vector_ukd)[:, 0]


def exemplar_vectors(
    image_nd: Float32[np.ndarray, "n d"], image_uk: Int32[np.ndarray, "u k"]
) -> Float32[np.ndarray, "u k d"]:
    """The embeddings of the exemplars."""
    return np.asarray(image_nd[image_uk])


def mean_exemplars(evidence: Evidence, n_score: int) -> Float32[np.ndarray, "u d"]:
    """The mean embedding of each unit's first ``n_score`` exemplars; zero where it has none."""
    mask_uk = scored_mask(evidence.exemplars, n_score)
    p_ukd = exemplar_vectors(evidence.image_nd, evidence.exemplars.image_uk[:, : mask_uk.shape[1]])
    n_u = np.maximum(mask_uk.sum(axis=1, keepdims=True), 1)
    return weighted_sum((mask_uk / n_u).astype(np.float32), p_ukd)
