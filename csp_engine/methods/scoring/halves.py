"""The two halves of a contrastive concept vector, from which every gamma follows.

``anchor`` is the weighted mean exemplar, ``projection`` what the exemplars share with their
contrast images; the concept vector is ``normalise(anchor - gamma * projection)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int, Int32

from csp_engine.errors import InputError
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.method import Kept, Parameter
from csp_engine.methods.scoring.exemplar_means import (
    exemplar_vectors,
    has_direction,
    scored_mask,
    weighted_sum,
)
from csp_engine.methods.scoring.ranking import NullScores, Ranking, rank_labels, scores_of
from csp_engine.types import LabelScores
from csp_engine.vectors import directions

WEIGHTINGS = ("none", "raw", "clamp0", "rank")
GAMMA = Parameter(
    "gamma",
    1.0,
    "share of the common part that is removed",
    low=0,
    high=1,
    recipe="gamma",
    published=1.0,
)


def contrast_vectors(evidence: Evidence, n_score: int) -> Float32[np.ndarray, "u k d"]:
    """For each scored exemplar the normalised mean of its contrast images; zero if it has none."""
    contrast = evidence.contrast
    mask_uk = scored_mask(evidence.exemplars, n_score)
    n_rank = mask_uk.shape[1]
    n_partner_uk = np.where(mask_uk, contrast.n_partner_uk[:, :n_rank], 0)
    width = evidence.image_nd.shape[1]
    total_ukd = np.zeros((*mask_uk.shape, width), np.float32)
    for j in range(contrast.image_ukj.shape[2]):
        present_uk = n_partner_uk > j
        vector_pd = evidence.image_nd[contrast.image_ukj[:, :n_rank, j][present_uk]]
        if j == 0 and present_uk.all():
            total_ukd = vector_pd.reshape(total_ukd.shape)
        else:
            total_ukd[present_uk] += vector_pd
    if contrast.image_ukj.shape[2] > 1:
        total_ukd = directions(total_ukd.reshape(-1, width)).reshape(total_ukd.shape)
    return total_ukd


def exemplar_weights(
    evidence: Evidence, n_score: int, weighting: str
) -> Float32[np.ndarray, "u k"]:
    """How much each exemplar counts; 0 past the unit's last one.

    ``none``: 1. ``raw``: the activation, as published. ``clamp0``: the activation, negative ones 0.
    ``rank``: from 1 for the first exemplar down to 1/m for the last of m.
    Scaled so that the magnitudes sum to 1, with the sign of the published denominator
    ``sum_i w_i + 1e-8``; a positive factor does not move the concept vector.
    """
    mask_uk = scored_mask(evidence.exemplars, n_score)
    n_rank = mask_uk.shape[1]
    activation_uk = evidence.exemplars.activation_uk[:, :n_rank].astype(np.float64)
    if weighting == "none":
        weight_uk = np.ones(mask_uk.shape)
    elif weighting == "rank":
        n_u = np.minimum(evidence.exemplars.count_u, n_score)[:, None]
        weight_uk = (n_u - np.arange(n_rank)) / np.maximum(n_u, 1)
    else:
        weight_uk = np.maximum(activation_uk, 0) if weighting == "clamp0" else activation_uk
    weight_uk = np.where(mask_uk, weight_uk, 0)
    sign_u = np.where(weight_uk.sum(axis=1, keepdims=True) + 1e-8 < 0, -1.0, 1.0)
    magnitude_u = np.abs(weight_uk).sum(axis=1, keepdims=True)
    return (sign_u * weight_uk / np.where(magnitude_u > 0, magnitude_u, 1)).astype(np.float32)


def csp_components(
    evidence: Evidence, n_score: int, weighting: str
) -> tuple[Float32[np.ndarray, "u d"], Float32[np.ndarray, "u d"]]:
    """The two halves of a concept vector, so that changing gamma is one subtraction.

    ``anchor = sum_i w_i p_i`` and ``projection = sum_i w_i s_i n_i`` with ``s_i = <p_i, n_i>``;
    the concept vector is ``normalise(anchor - gamma * projection)``. An exemplar without a contrast
    image has ``s_i n_i = 0``: it enters unchanged at every gamma.

    Returns:
        anchor and projection, both zero for a unit without exemplars.
    """
    weight_uk = exemplar_weights(evidence, n_score, weighting)
    p_ukd = exemplar_vectors(
        evidence.image_nd, evidence.exemplars.image_uk[:, : weight_uk.shape[1]]
    )
    anchor_ud = weighted_sum(weight_uk, p_ukd)
    n_ukd = contrast_vectors(evidence, n_score)
    s_uk = np.einsum("ukd,ukd->uk", p_ukd, n_ukd)
    return anchor_ud, weighted_sum(weight_uk * s_uk, n_ukd)


def concept_vectors(
    anchor_ud: Float32[np.ndarray, "u d"],
    projection_ud: Float32[np.ndarray, "u d"],
    gamma: int | float,
) -> Float32[np.ndarray, "u d"]:
    """``normalise(anchor - gamma * projection)``; zero where nothing but rounding is left.

    Nothing is left when every exemplar equals its contrast image and gamma is 1. Such a unit gets
    no label, rather than the label of a rounding error.
    """
    return directions(anchor_ud - np.float32(gamma) * projection_ud)


@dataclass(frozen=True, slots=True, eq=False)
class NullComponents:
    """Anchor and projection of the null draws; ``size_r`` counts the exemplars behind each."""

    anchor_rd: Float32[np.ndarray, "r d"]
    projection_rd: Float32[np.ndarray, "r d"]
    size_r: Int[np.ndarray, " r"]

    def of_size(self, size: int) -> NullComponents:
        """Only the draws made of ``size`` exemplars."""
        rows = self.size_r == size
        return NullComponents(self.anchor_rd[rows], self.projection_rd[rows], self.size_r[rows])


def null_vectors(kept: Kept) -> Float32[np.ndarray, "r d"]:
    """Concept vectors of the random image sets of full size, from the halves that are kept."""
    return null_of_size(kept, int(kept.params["n_score"]))


def null_of_size(kept: Kept, size: int) -> Float32[np.ndarray, "r d"]:
    """The same of those of another size, of which there are as many where units have it."""
    rows = np.flatnonzero(np.asarray(kept.array("null_size")) == size)
    return concept_vectors(
        np.asarray(kept.array("null_anchor")[rows]),
        np.asarray(kept.array("null_projection")[rows]),
        float(kept.params["gamma"]),
    )


def re_rank(
    anchor_ud: Float32[np.ndarray, "u d"],
    projection_ud: Float32[np.ndarray, "u d"],
    gamma: int | float,
    label_td: Float32[np.ndarray, "t d"],
    n_labels: int = 20,
    *,
    null: NullComponents | None = None,
    size_u: Int32[np.ndarray, " u"] | None = None,
    unit_block: int = 256,
) -> Ranking:
    """Rank the labels again at another gamma, from the stored halves of the concept vectors.

    Args:
        anchor_ud: from ``csp_components``.
        projection_ud: from ``csp_components``.
        gamma: in [0, 1].
        label_td: label vectors.
        n_labels: how many labels to keep for each unit.
        null: the stored halves for random image sets; without it percentiles are 0.
        size_u: exemplars behind each unit (``LabelScores.n_exemplar_u``), so that each unit meets
            draws of its own size. Needed with ``null``.
        unit_block: units at a time.

    Raises:
        InputError: if gamma is outside [0, 1].
    """
    GAMMA.check(gamma)
    if null is not None and size_u is None:
        raise InputError("A null needs size_u, the number of exemplars behind each unit.")
    label_td = np.ascontiguousarray(label_td)
    n_units = len(anchor_ud)
    size_u = np.zeros(n_units, np.int32) if size_u is None else size_u
    ranking = Ranking.empty(n_units, min(n_labels, len(label_td)), anchor_ud.shape[1])
    for size in np.unique(size_u):
        rows = np.flatnonzero(size_u == size)
        draws = None if null is None else null.of_size(int(size))
        null_scores = None
        if draws is not None and len(draws.size_r):
            z_rd = concept_vectors(draws.anchor_rd, draws.projection_rd, gamma)
            null_scores = NullScores.of(z_rd @ label_td.T)
        for start in range(0, len(rows), unit_block):
            block = rows[start : start + unit_block]
            anchor = np.asarray(anchor_ud[block])
            z_ud = concept_vectors(anchor, np.asarray(projection_ud[block]), gamma)
            part = rank_labels(z_ud @ label_td.T, has_direction(z_ud), null_scores, n_labels)
            ranking.put(
                block, part, vector_ud=z_ud, raw_uk=scores_of(directions(anchor), label_td, part)
            )
    return ranking


def rescore(
    scores: LabelScores,
    arrays: Mapping[str, np.ndarray],
    label_td: Float32[np.ndarray, "t d"],
    gamma: int | float,
    n_labels: int = 20,
) -> LabelScores:
    """The scores that ``label_units`` would give at another gamma or for another vocabulary.

    Args:
        scores: what ``label_units`` returned; it describes the same exemplars at every gamma.
        arrays: the extra arrays that came with it.
        label_td: label vectors, of the same encoder.
        gamma: in [0, 1].
        n_labels: how many labels to keep for each unit.
    """
    ranking = re_rank(
        arrays["anchor"],
        arrays["projection"],
        gamma,
        label_td,
        n_labels,
        null=NullComponents(arrays["null_anchor"], arrays["null_projection"], arrays["null_size"]),
        size_u=np.asarray(scores.n_exemplar_u),
    )
    return replace(scores, **ranking.fields())
