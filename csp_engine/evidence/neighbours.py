"""Exact nearest images in encoder space, among those a mask allows.

Products run in float32, where matrices multiply fast, and only propose: whatever lies within their
rounding error of the winner is compared again in float64, so the choice is that of a search in
float64. ``slack`` is twice the largest possible error of a float32 product of two rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from csp_engine.errors import InputError
from csp_engine.evidence.nearest import nearest_images
from csp_engine.types import Progress

TIE = 1e-12
"""Similarities (float64) closer than this are equal; the lower image id then goes first."""

# Bounds on working memory; they change no result.
_PRODUCT_VALUES = 32_000_000
_RESCORED_VALUES = 2_000_000
_BARRED_ROWS = 2048
_CROWD = 256


@dataclass(frozen=True, slots=True, eq=False)
class ImageSpace:
    """Encoder vectors of all images, and which images may not be paired with which.

    An image is barred from itself and from all that share a group with it in one of ``groups``.
    """

    image_nd: Float32[np.ndarray, "n d"]
    groups: Sequence[Int32[np.ndarray, " n"]] = ()
    slack: float = field(init=False)

    def __post_init__(self) -> None:
        length_n = np.sqrt(np.einsum("nd,nd->n", self.image_nd, self.image_nd))
        bad_n = ~((np.abs(length_n - 1) < 1e-3) | (length_n == 0))
        if bad_n.any():
            worst = int(bad_n.argmax())
            raise InputError(
                f"The encoder vector of image {worst} has length {length_n[worst]:.6g}; contrast "
                "images need unit vectors, so normalise the rows first."
            )
        # |fl(x.y) - x.y| <= d 2^-24 |x| |y| for any order of summation, to first order; 1.01 covers
        # the rest and the lengths, 1e-6 the float32 comparisons made with it, and TIE.
        object.__setattr__(self, "slack", 2 * 1.01 * self.image_nd.shape[1] * 2.0**-24 + 1e-6)

    def is_barred(
        self, query: Int64[np.ndarray, ...], image: Int64[np.ndarray, ...]
    ) -> Bool[np.ndarray, ...]:
        """Whether the images (broadcast against the queries) may not be their partners."""
        barred = query == image
        for group_n in self.groups:
            barred = barred | (group_n[query] == group_n[image])
        return barred

    def similarity(
        self, query_c: Int64[np.ndarray, " c"], image_c: Int64[np.ndarray, " c"]
    ) -> Float64[np.ndarray, " c"]:
        """Products in float64; for unit rows the cosine."""
        out_c = np.empty(len(query_c))
        step = max(1, _RESCORED_VALUES // self.image_nd.shape[1])
        for start in range(0, len(query_c), step):
            part = slice(start, start + step)
            query_cd = self.image_nd[query_c[part]].astype(np.float64)
            image_cd = self.image_nd[image_c[part]].astype(np.float64)
            out_c[part] = np.einsum("cd,cd->c", query_cd, image_cd)
        return out_c

    def products(self, query_q: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q n"]:
        """Float32 products of some images with all, -inf where they are barred."""
        product_qn = self.image_nd[query_q] @ self.image_nd.T
        for product_n, query in zip(product_qn, query_q, strict=True):
            product_n[query] = -np.inf
            for group_n in self.groups:
                product_n[group_n == group_n[query]] = -np.inf
        return product_qn


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourLists:
    """The nearest images of each queried image, nearest first by float32 product.

    ``query_e`` is sorted. No image outside a list has a larger product than the last one in it.
    ``is_open_el`` tells which neighbours are not barred; ``is_whole`` that lists hold all images.
    """

    query_e: Int64[np.ndarray, " e"]
    image_el: Int32[np.ndarray, "e l"]
    product_el: Float32[np.ndarray, "e l"]
    is_open_el: Bool[np.ndarray, "e l"]
    is_whole: bool

    @classmethod
    def of(
        cls,
        space: ImageSpace,
        query_e: Int64[np.ndarray, " e"],
        image_el: Int32[np.ndarray, "e l"],
        product_el: Float32[np.ndarray, "e l"],
    ) -> NeighbourLists:
        """What ``nearest_images`` found, whoever called it for which of the queries."""
        is_open_el = np.empty(image_el.shape, bool)
        for start in range(0, len(query_e), _BARRED_ROWS):
            part = slice(start, start + _BARRED_ROWS)
            is_open_el[part] = ~space.is_barred(query_e[part, None], image_el[part])
        is_whole = image_el.shape[1] == len(space.image_nd)
        return cls(query_e, image_el, product_el, is_open_el, is_whole)


def neighbour_lists(
    space: ImageSpace, query_e: Int64[np.ndarray, " e"], length: int, progress: Progress
) -> NeighbourLists:
    """Compare each queried image (sorted, distinct) with all images once."""
    length = min(length, len(space.image_nd))
    found = nearest_images(space.image_nd, query_e, length, progress)
    return NeighbourLists.of(space, query_e, *found)


def candidates_in_lists(
    space: ImageSpace,
    lists: NeighbourLists,
    query_k: Int64[np.ndarray, " k"],
    quiet_n: Bool[np.ndarray, " n"],
    n_best: int,
) -> tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"], Bool[np.ndarray, " k"]]:
    """Walk each query's list to its ``n_best`` nearest quiet images.

    Returns:
        Row ``k`` and image of each candidate, all that could be among the true ``n_best``; and for
        which rows the lists suffice (the others have no candidates here).
    """
    row_k = np.searchsorted(lists.query_e, query_k)
    image_kl, product_kl = lists.image_el[row_k], lists.product_el[row_k]
    is_quiet_kl = quiet_n[image_kl] & lists.is_open_el[row_k]
    n_quiet_kl = is_quiet_kl.cumsum(axis=1, dtype=np.int32)
    last_k = (n_quiet_kl >= n_best).argmax(axis=1)
    floor_k = product_kl[np.arange(len(row_k)), last_k] - np.float32(space.slack)
    is_found_k = n_quiet_kl[:, -1] >= n_best
    if lists.is_whole:
        floor_k[~is_found_k] = -np.inf
        suffices_k = np.ones(len(row_k), bool)
    else:
        suffices_k = is_found_k & (floor_k > product_kl[:, -1])
    k_c, l_c = np.nonzero(is_quiet_kl & (product_kl >= floor_k[:, None]) & suffices_k[:, None])
    return k_c, image_kl[k_c, l_c].astype(np.int64), suffices_k


def nearest_in_lists(
    space: ImageSpace,
    lists: NeighbourLists,
    query_k: Int64[np.ndarray, " k"],
    quiet_n: Bool[np.ndarray, " n"],
    n_near: int,
) -> tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"], Float64[np.ndarray, " k"]]:
    """The first ``n_near`` quiet images of each query's list, as far as it goes.

    Returns:
        Row ``k`` and image of each, and for each row a bound that no other quiet image's similarity
        exceeds: -inf where there is no other.
    """
    row_k = np.searchsorted(lists.query_e, query_k)
    image_kl, product_kl = lists.image_el[row_k], lists.product_el[row_k]
    is_quiet_kl = quiet_n[image_kl] & lists.is_open_el[row_k]
    n_quiet_kl = is_quiet_kl.cumsum(axis=1, dtype=np.int32)
    next_k = (n_quiet_kl > n_near).argmax(axis=1)
    beyond_k = np.full(len(row_k), -np.inf) if lists.is_whole else product_kl[:, -1]
    next_product_k = product_kl[np.arange(len(row_k)), next_k]
    bound_k = np.where(n_quiet_kl[:, -1] > n_near, next_product_k, beyond_k).astype(np.float64)
    k_c, l_c = np.nonzero(is_quiet_kl & (n_quiet_kl <= n_near))
    return k_c, image_kl[k_c, l_c].astype(np.int64), bound_k + space.slack


def candidates_by_mask(
    space: ImageSpace,
    query_p: Int64[np.ndarray, " p"],
    row_p: Int64[np.ndarray, " p"],
    quiet_bn: Bool[np.ndarray, "b n"],
    n_best: int,
) -> tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]]:
    """Compare with all images, mask, and keep what could be among the true ``n_best``.

    Args:
        space: the encoder vectors.
        query_p: image of each pair (image, unit).
        row_p: row of the pair's unit in ``quiet_bn``.
        quiet_bn: the images allowed for each unit.
        n_best: nearest images wanted.

    Returns:
        Pair and image of each candidate.
    """
    n_images = len(space.image_nd)
    place = n_images - min(n_best, n_images)
    order_p = np.argsort(query_p, kind="stable")
    distinct_e, first_e = np.unique(query_p[order_p], return_index=True)
    bound_e = np.append(first_e, len(query_p))
    step = max(1, _PRODUCT_VALUES // n_images)
    pairs: list[np.ndarray] = []
    images: list[np.ndarray] = []
    for start in range(0, len(distinct_e), step):
        product_qn = space.products(distinct_e[start : start + step])
        for offset, product_n in enumerate(product_qn):
            for pair in order_p[bound_e[start + offset] : bound_e[start + offset + 1]]:
                masked_n = np.where(quiet_bn[row_p[pair]], product_n, -np.inf)
                last = masked_n.max() if n_best == 1 else np.partition(masked_n, place)[place]
                is_near_n = masked_n >= max(last - space.slack, np.finfo(np.float32).min)
                image_c = np.flatnonzero(is_near_n)
                if len(image_c) > _CROWD + n_best:
                    image_c = _best_of_crowd(space, distinct_e[start + offset], image_c, n_best)
                images.append(image_c)
                pairs.append(np.full(len(image_c), pair))
    empty = [np.empty(0, np.int64)]
    return np.concatenate(pairs or empty), np.concatenate(images or empty)


def _best_of_crowd(
    space: ImageSpace, query: np.int64, image_c: Int64[np.ndarray, " c"], n_best: int
) -> Int64[np.ndarray, " j"]:
    """Decide at once where very many images are alike, so that they are not all kept."""
    similarity_c = space.similarity(np.full_like(image_c, query), image_c)
    image_pj, _, count_p = choose_best(np.zeros_like(image_c), image_c, similarity_c, 1, n_best)
    return image_pj[0, : count_p[0]].astype(np.int64)


def choose_best(
    pair_c: Int64[np.ndarray, " c"],
    image_c: Int64[np.ndarray, " c"],
    similarity_c: Float64[np.ndarray, " c"],
    n_pairs: int,
    n_best: int,
) -> tuple[
    Int32[np.ndarray, "p j"],
    Float32[np.ndarray, "p j"],
    Int32[np.ndarray, " p"],
]:
    """The most similar candidates of each pair, best first.

    One after the other: the lowest image id among those within ``TIE`` of the largest similarity
    left. Rows with fewer candidates than ``n_best`` are padded with 0 after their count.
    """
    order_c = np.lexsort((image_c, pair_c))
    pair_c, image_c, similarity_c = pair_c[order_c], image_c[order_c], similarity_c[order_c]
    count_p = np.bincount(pair_c, minlength=n_pairs)
    start_p = np.cumsum(count_p) - count_p
    out_image = np.zeros((n_pairs, n_best), np.int32)
    out_similarity = np.zeros((n_pairs, n_best), np.float32)
    out_count = np.minimum(count_p, n_best).astype(np.int32)
    # Nearly all pairs have few candidates; the rest are taken by size so that padding stays small.
    size_p = np.where(count_p <= n_best + 7, n_best + 7, count_p)
    for width in np.unique(size_p[count_p > 0]):
        pair_q = np.flatnonzero((size_p == width) & (count_p > 0))
        is_here_qw = np.arange(width) < count_p[pair_q, None]
        at_qw = np.where(is_here_qw, start_p[pair_q, None] + np.arange(width), 0)
        left_qw = np.where(is_here_qw, similarity_c[at_qw], -np.inf)
        for j in range(n_best):
            top_q = left_qw.max(axis=1, keepdims=True)
            pick_q = (left_qw >= top_q - TIE).argmax(axis=1)
            has_q = j < count_p[pair_q]
            q = np.flatnonzero(has_q)
            at_q = at_qw[q, pick_q[q]]
            out_image[pair_q[q], j] = image_c[at_q]
            out_similarity[pair_q[q], j] = similarity_c[at_q]
            left_qw[q, pick_q[q]] = -np.inf
    return out_image, out_similarity, out_count
