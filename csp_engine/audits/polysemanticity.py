"""Polysemanticity: whether the exemplars of a neuron fall in two groups.

As in SemanticLens (Dreyer et al., Nature Machine Intelligence 2025), on unit-length embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Int32

from csp_engine.audits.statistic import Measured, Seen, Statistic

N_STARTS = 10
_SEED = 123
_N_STEPS = 100
_N_FALLBACK = 10


@dataclass(frozen=True, slots=True, eq=False)
class ImageGroups:
    """The exemplars of each unit split in two by k-means.

    ``polysemanticity_u`` is one minus the cosine of the two centres, in [0, 2]: 0 where both groups
    look alike, near 1 where they have nothing in common. ``silhouette_u``, in [-1, 1], says how
    well the split fits the images; near 0 there is one cloud cut in half. ``size_u2`` counts the
    images of both groups, the larger first. ``group_uk`` gives each rank its group and is padding
    (0) past the ``size_u2.sum(axis=1)`` ranks that were split.
    """

    polysemanticity_u: Float32[np.ndarray, " u"]
    silhouette_u: Float32[np.ndarray, " u"]
    size_u2: Int32[np.ndarray, "u 2"]
    group_uk: Int8[np.ndarray, "u k"]


def polysemanticity(
    exemplar_ukd: Float32[np.ndarray, "u k d"], mask_uk: Bool[np.ndarray, "u k"]
) -> ImageGroups:
    """Split each unit's exemplars in two by k-means and compare the centres.

    ``1 - cos(c_1, c_2)``, k = 2, the best of ``N_STARTS`` starts by inertia. If a group has fewer
    than two members the published fallback applies: one minus the mean cosine of the first ten
    exemplars with the mean of all. NaN for units with fewer than two exemplars.

    k-means sees only distances, so it runs on the (k, k) inner products: exact, and for all units
    of a block at once. Starts use the same random numbers for every unit, so that a unit's result
    depends on nothing but its exemplars.

    Args:
        exemplar_ukd: unit rows, zero where the mask is false.
        mask_uk: which exemplars exist.
    """
    m_u = np.count_nonzero(mask_uk, axis=1)
    gram_ukk = np.matmul(exemplar_ukd, exemplar_ukd.transpose(0, 2, 1)).astype(np.float64)
    in_second_uk = _two_means(gram_ukk, mask_uk)
    size_second_u = np.count_nonzero(in_second_uk, axis=1)
    # The larger group comes first; of two equal ones, that of the strongest exemplar.
    is_even = 2 * size_second_u == m_u
    is_swapped = (2 * size_second_u > m_u) | (is_even & in_second_uk[:, 0])
    in_second_uk = np.where(is_swapped[:, None], mask_uk & ~in_second_uk, in_second_uk)
    size_second_u = np.where(is_swapped, m_u - size_second_u, size_second_u)
    size_u2 = np.stack([m_u - size_second_u, size_second_u], axis=1)

    member_ugk = np.stack([mask_uk & ~in_second_uk, in_second_uk], axis=1).astype(np.float64)
    centre_ugk = member_ugk / np.maximum(size_u2, 1)[:, :, None]
    product_ugg = centre_ugk @ gram_ukk @ centre_ugk.transpose(0, 2, 1)
    score_u = 1 - _cosine(product_ugg[:, 0, 1], product_ugg[:, 0, 0], product_ugg[:, 1, 1])
    score_u = np.where(size_u2.min(axis=1) < 2, _spread(gram_ukk, mask_uk), score_u)
    silhouette_u = _silhouette(gram_ukk, member_ugk, size_u2)
    is_defined = m_u >= 2
    return ImageGroups(
        np.where(is_defined, score_u, np.nan).astype(np.float32),
        np.where(is_defined & (size_second_u > 0), silhouette_u, np.nan).astype(np.float32),
        size_u2.astype(np.int32),
        in_second_uk.astype(np.int8),
    )


def measure(seen: Seen) -> Measured:
    """Of a block of units."""
    groups = polysemanticity(seen.exemplar_ukd, seen.mask_uk)
    return {
        "polysemanticity": groups.polysemanticity_u,
        "cluster_0": groups.size_u2[:, 0],
        "cluster_1": groups.size_u2[:, 1],
        "silhouette": groups.silhouette_u,
        "image_group": groups.group_uk,
    }


def groups_in_words(row: Mapping[str, Any]) -> str:
    """The sizes of both groups."""
    return f"groups of {int(row['cluster_0'])} and {int(row['cluster_1'])}"


POLYSEMANTICITY = Statistic(
    name="polysemanticity",
    title="Polysemanticity",
    meaning="How far apart the two groups of exemplars are, from 0 to 2.",
    measure=measure,
    low=0,
    high=2,
    term="polysemanticity",
    beside={
        "cluster_0": "images in the larger group",
        "cluster_1": "images in the smaller group",
        "silhouette": "how well the split fits, -1 to 1; near 0 one cloud was cut in half",
    },
    arrays={"image_group": "the group of each exemplar, 0 or 1"},
    order=20,
    note=groups_in_words,
    is_together=True,
)


def _two_means(
    gram_ukk: Float64[np.ndarray, "u k k"], mask_uk: Bool[np.ndarray, "u k"]
) -> Bool[np.ndarray, "u k"]:
    """Which exemplars fall in the second of two groups: Lloyd's steps from k-means++ starts."""
    n_units, n_rank = mask_uk.shape
    m_u = np.count_nonzero(mask_uk, axis=1)
    square_uk = np.einsum("ukk->uk", gram_ukk)
    units = np.arange(n_units)
    draws = np.random.default_rng(_SEED).random((N_STARTS, 2))
    best_uk = np.zeros((n_units, n_rank), np.bool_)
    best_inertia_u = np.full(n_units, np.inf)
    for first_draw, second_draw in draws:
        first_u = np.minimum((first_draw * m_u).astype(np.int64), np.maximum(m_u - 1, 0))
        square_first_u = square_uk[units, first_u][:, None]
        apart_uk = square_uk + square_first_u - 2 * gram_ukk[units, first_u]
        apart_uk = np.where(mask_uk, np.maximum(apart_uk, 0), 0)
        reach_uk = np.cumsum(apart_uk, axis=1)
        # Drawn with probability proportional to the squared distance from the first centre.
        second_u = (reach_uk <= second_draw * reach_uk[:, -1:]).sum(axis=1)
        second_u = np.minimum(second_u, n_rank - 1)
        to_second_uk = square_uk + square_uk[units, second_u][:, None]
        to_second_uk = to_second_uk - 2 * gram_ukk[units, second_u]
        in_second_uk = mask_uk & (to_second_uk < apart_uk)
        for _ in range(_N_STEPS):
            distance_ugk = _centre_distances(gram_ukk, square_uk, mask_uk, in_second_uk)
            moved_uk = mask_uk & (distance_ugk[:, 1] < distance_ugk[:, 0])
            if (moved_uk == in_second_uk).all():
                break
            in_second_uk = moved_uk
        distance_ugk = _centre_distances(gram_ukk, square_uk, mask_uk, in_second_uk)
        own_uk = np.where(in_second_uk, distance_ugk[:, 1], distance_ugk[:, 0])
        inertia_u = np.where(mask_uk, own_uk, 0).sum(axis=1)
        # A later start must be better by more than rounding.
        is_better = inertia_u < best_inertia_u - 1e-9
        best_inertia_u = np.where(is_better, inertia_u, best_inertia_u)
        best_uk = np.where(is_better[:, None], in_second_uk, best_uk)
    return best_uk


def _centre_distances(
    gram_ukk: Float64[np.ndarray, "u k k"],
    square_uk: Float64[np.ndarray, "u k"],
    mask_uk: Bool[np.ndarray, "u k"],
    in_second_uk: Bool[np.ndarray, "u k"],
) -> Float64[np.ndarray, "u 2 k"]:
    """Squared distance of each exemplar from both group means; infinite from an empty group."""
    member_ugk = np.stack([mask_uk & ~in_second_uk, in_second_uk], axis=1).astype(np.float64)
    size_ug1 = member_ugk.sum(axis=2, keepdims=True)
    centre_ugk = member_ugk / np.maximum(size_ug1, 1)
    product_ugk = centre_ugk @ gram_ukk
    centre_square_ug1 = (product_ugk * centre_ugk).sum(axis=2, keepdims=True)
    distance_ugk = square_uk[:, None, :] - 2 * product_ugk + centre_square_ug1
    return np.where(size_ug1 > 0, distance_ugk, np.inf)


def _cosine(
    product_u: Float64[np.ndarray, " u"],
    square_a_u: Float64[np.ndarray, " u"],
    square_b_u: Float64[np.ndarray, " u"],
) -> Float64[np.ndarray, " u"]:
    """Cosine from inner products; 0 where a vector is zero."""
    length_u = np.sqrt(np.maximum(square_a_u * square_b_u, 0))
    return np.where(length_u > 1e-12, product_u / np.where(length_u > 1e-12, length_u, 1), 0)


def _spread(
    gram_ukk: Float64[np.ndarray, "u k k"], mask_uk: Bool[np.ndarray, "u k"]
) -> Float64[np.ndarray, " u"]:
    """One minus the mean cosine of the first ten exemplars with the mean of all."""
    m_u1 = np.maximum(np.count_nonzero(mask_uk, axis=1)[:, None], 1)
    with_mean_uk = (gram_ukk * mask_uk[:, None, :]).sum(axis=2) / m_u1
    mean_square_u1 = (with_mean_uk * mask_uk).sum(axis=1, keepdims=True) / m_u1
    square_uk = np.einsum("ukk->uk", gram_ukk)
    length_uk = np.sqrt(np.maximum(square_uk * mean_square_u1, 0))
    cosine_uk = np.where(length_uk > 1e-12, with_mean_uk / np.maximum(length_uk, 1e-12), 0)
    first_uk = mask_uk & (np.arange(mask_uk.shape[1]) < _N_FALLBACK)
    n_first_u = np.maximum(np.count_nonzero(first_uk, axis=1), 1)
    return 1 - np.where(first_uk, cosine_uk, 0).sum(axis=1) / n_first_u


def _silhouette(
    gram_ukk: Float64[np.ndarray, "u k k"],
    member_ugk: Float64[np.ndarray, "u 2 k"],
    size_u2: np.ndarray,
) -> Float64[np.ndarray, " u"]:
    """Mean over exemplars of ``(b - a) / max(a, b)``.

    a is the mean distance to the others of its group, b to the other group; 0 for an exemplar that
    is alone in its group.
    """
    square_uk = np.einsum("ukk->uk", gram_ukk)
    distance_ukk = square_uk[:, :, None] + square_uk[:, None, :] - 2 * gram_ukk
    diagonal = np.arange(distance_ukk.shape[1])
    distance_ukk[:, diagonal, diagonal] = 0
    distance_ukk = np.sqrt(np.maximum(distance_ukk, 0))
    total_ugk = member_ugk @ distance_ukk
    size_ug1 = size_u2[:, :, None]
    within_ugk = total_ugk / np.maximum(size_ug1 - 1, 1)
    across_ugk = total_ugk[:, ::-1] / np.maximum(size_ug1[:, ::-1], 1)
    largest_ugk = np.maximum(within_ugk, across_ugk)
    value_ugk = (across_ugk - within_ugk) / np.where(largest_ugk > 0, largest_ugk, 1)
    counted_ugk = member_ugk * (size_ug1 > 1)
    return (value_ugk * counted_ugk).sum(axis=(1, 2)) / np.maximum(size_u2.sum(axis=1), 1)
