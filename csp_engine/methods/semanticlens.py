"""SemanticLens: a neuron is the mean of what excites it.

Dreyer et al., "Mechanistic understanding and validation of large AI models with SemanticLens",
Nature Machine Intelligence 2025.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32

from csp_engine.methods.method import Method, Params, Scored
from csp_engine.types import Evidence, Exemplars

VANISHED = 1e-5
"""A weighted mean of unit vectors shorter than this is rounding, not a direction."""


def unit_rows(x_nd: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Rows brought to unit length; rows shorter than ``VANISHED`` become zero."""
    norm_n = np.linalg.norm(x_nd, axis=1, keepdims=True)
    unit_nd = x_nd / np.where(norm_n > VANISHED, norm_n, 1)
    unit_nd[norm_n[:, 0] <= VANISHED] = 0
    return unit_nd.astype(np.float32, copy=False)


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


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Scored:
    """Cosine of the mean exemplar with each label: ``cos(mean_i p_i, T_t)``, in [-1, 1].

    Label vectors that are not unit length (templates averaged and not brought back) are normalised
    here, because the method is defined as a cosine.
    """
    vector_ud = unit_rows(mean_exemplars(evidence, params["n_score"]))
    return Scored(
        score_ut=vector_ud @ unit_rows(label_td).T,
        has_label_u=has_direction(vector_ud),
        vector_ud=vector_ud,
    )


def check(params: Params) -> None:
    """Nothing beyond ``n_score`` to check."""


SEMANTICLENS = Method(
    name="semanticlens",
    title="SemanticLens",
    version=1,
    params={"n_score": 30},
    check=check,
    score=score,
)
