"""The labels of one neuron at any gamma, fast enough to follow a slider."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int

from csp_engine.methods.scoring.exemplar_means import has_direction
from csp_engine.methods.scoring.halves import GAMMA, NullComponents, concept_vectors
from csp_engine.methods.scoring.ranking import LabelRanks, NullScores, place_in_null, rank_labels
from csp_engine.vectors import directions


@dataclass(frozen=True, slots=True, eq=False)
class MovedLabels:
    """The best labels of one neuron at one gamma, and where they stood without contrast images.

    ``ranks`` holds one row. ``raw_k`` is the score of each label at gamma 0 and ``raw_place_k`` its
    place there among all labels, 1 for the best; labels that tie share a place.
    """

    ranks: LabelRanks
    raw_k: Float32[np.ndarray, " k"]
    raw_place_k: Int[np.ndarray, " k"]


def null_best(
    null: NullComponents, gamma: int | float, label_td: Float32[np.ndarray, "t d"]
) -> Float32[np.ndarray, " r"]:
    """The best score of each random image set at a gamma, over all labels, sorted upwards.

    It does not depend on the neuron, so keep it: it is the one large product.

    Args:
        null: draws of one size (``NullComponents.of_size``).
        gamma: in [0, 1].
        label_td: label vectors.
    """
    z_rd = concept_vectors(null.anchor_rd, null.projection_rd, gamma)
    return np.sort((z_rd @ label_td.T).max(axis=1))


def move_labels(
    anchor_d: Float32[np.ndarray, " d"],
    projection_d: Float32[np.ndarray, " d"],
    gamma: int | float,
    label_td: Float32[np.ndarray, "t d"],
    n_labels: int = 20,
    *,
    null: NullComponents | None = None,
    best_r: Float32[np.ndarray, " r"] | None = None,
) -> MovedLabels:
    """Rank all labels of one neuron at a gamma; equals ``re_rank`` for that neuron.

    Args:
        anchor_d: from ``csp_components``, the neuron's row.
        projection_d: likewise.
        gamma: in [0, 1].
        label_td: label vectors.
        n_labels: how many labels to keep.
        null: draws with as many exemplars as the neuron has; without any, percentiles are 0 and
            nothing is reliable.
        best_r: ``null_best`` of the same null, gamma and labels, if it is already known.

    Raises:
        InputError: if gamma is outside [0, 1].
    """
    GAMMA.check(gamma)
    anchor_1d = np.asarray(anchor_d, np.float32)[None]
    z_1d = concept_vectors(anchor_1d, np.asarray(projection_d, np.float32)[None], gamma)
    ranks = rank_labels(z_1d @ label_td.T, has_direction(z_1d), None, n_labels)
    n_kept = ranks.label_uk.shape[1]
    label_k = ranks.label_uk[0]
    if null is not None and len(null.size_r):
        if best_r is None:
            best_r = null_best(null, gamma, label_td)
        z_rd = concept_vectors(null.anchor_rd, null.projection_rd, gamma)
        # Only the kept labels are compared with the draws: their rows, numbered 0 to k - 1.
        scores = NullScores(np.ascontiguousarray(label_td[label_k] @ z_rd.T), best_r)
        place_in_null(ranks, scores, np.arange(n_kept, dtype=np.int32)[None])
    if not ranks.count_u[0]:
        return MovedLabels(ranks, np.zeros(n_kept, np.float32), np.zeros(n_kept, np.int64))
    raw_t = (directions(anchor_1d) @ label_td.T)[0]
    raw_k = raw_t[label_k]
    place_k = 1 + np.count_nonzero(raw_t[None] > raw_k[:, None], axis=1)
    return MovedLabels(ranks, raw_k, place_k)


def score_paths(
    anchor_d: Float32[np.ndarray, " d"],
    projection_d: Float32[np.ndarray, " d"],
    gamma_g: Float[np.ndarray, " g"],
    label_kd: Float32[np.ndarray, "k d"],
) -> Float32[np.ndarray, "g k"]:
    """How the scores of some labels change with gamma; 0 where nothing is left of the neuron."""
    rest_gd = np.asarray(anchor_d)[None] - gamma_g.astype(np.float32)[:, None] * projection_d[None]
    return directions(rest_gd) @ label_kd.T
