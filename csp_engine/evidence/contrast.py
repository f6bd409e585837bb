"""Contrast images: probe images that look like an exemplar and leave the unit quiet.

The published search compares every exemplar of every neuron with all images. Here each distinct
exemplar image is compared once; then every unit walks the neighbour lists of its exemplars down to
the first quiet images. Where a list ends too early, the images are compared again under the unit's
mask. The result equals a masked search in float64 (see ``neighbours``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from csp_engine.errors import InputError
from csp_engine.evidence.ascending import ascending
from csp_engine.evidence.neighbours import (
    ImageSpace,
    NeighbourLists,
    candidates_by_mask,
    candidates_in_lists,
    choose_best,
    nearest_in_lists,
    neighbour_lists,
)
from csp_engine.evidence.pairing import assign_columns, row_prices
from csp_engine.types import ContrastSet, Exemplars, Progress, silent

# Bounds on working memory; they change no result.
_MASK_VALUES = 64_000_000
_PRODUCT_VALUES = 32_000_000

# In units of one product of an image with all images, as measured at 50,000 x 512: a list of l
# neighbours costs 1 + l / 1500, an exemplar whose list ran out about two.
_LIST_LENGTHS = (32, 64, 128, 256, 512, 1024)
_COST_PER_NEIGHBOUR = 1 / 1500
_COST_PER_RUN_OUT = 2.0
_N_SAMPLED = 256


@dataclass(frozen=True, slots=True)
class ContrastRule:
    """What counts as a contrast image.

    ``threshold`` makes an image quiet for a unit if its activation is strictly below

    * ``"mean"``: the unit's probe-set mean (the paper),
    * ``"quantile:q"``: the unit's q-quantile, 0 < q < 1; where that is the unit's minimum (a unit
      silent on more than a share q of the images), exactly the images at the minimum are quiet,
    * ``"max:f"``: the fraction f of the unit's maximum, 0 < f <= 1; a unit that is never positive
      has no quiet images under this rule.

    ``n_partners`` contrast images go with each exemplar. With ``reuse`` every exemplar gets its
    nearest ones; without it an image serves at most one exemplar of the unit, and the total
    similarity of all pairs is the largest possible. ``exclude_near_duplicates`` and
    ``exclude_same_group`` bar images of the exemplar's own near-duplicate group or group.
    """

    threshold: str = "mean"
    n_partners: int = 1
    reuse: bool = True
    exclude_near_duplicates: bool = False
    exclude_same_group: bool = False

    def __post_init__(self) -> None:
        _parse_threshold(self.threshold)
        if self.n_partners < 1:
            raise InputError(
                f"{self.n_partners} contrast images per exemplar is too few; ask for at least 1."
            )


def thresholds(acts_un: Float32[Any, "u n"], rule: str) -> Float32[np.ndarray, " u"]:
    """The activation strictly below which an image is quiet, per unit; see ``ContrastRule``.

    Computed in float64 and rounded *up* to float32, so that comparing float32 activations with it
    gives the same images as comparing them with the float64 value. A constant unit has its value as
    threshold, hence no quiet images.

    Raises:
        InputError: if the rule does not exist.
    """
    threshold_u = [_threshold_of(acts_un[unit], rule) for unit in range(len(acts_un))]
    return np.array(threshold_u, np.float32)


def mine_contrast(
    acts_un: Float32[Any, "u n"],
    exemplars: Exemplars,
    image_nd: Float32[np.ndarray, "n d"],
    rule: ContrastRule,
    *,
    duplicate_group_n: Int32[np.ndarray, " n"] | None = None,
    group_n: Int32[np.ndarray, " n"] | None = None,
    copy_of_n: Int32[np.ndarray, " n"] | None = None,
    unit_block: int = 256,
    list_length: int | None = None,
    lists: NeighbourLists | None = None,
    progress: Progress = silent,
) -> ContrastSet:
    """For each exemplar, the nearest images in encoder space that leave the unit quiet.

    n(p) = argmax_j { x_p . x_j : A_uj < threshold_u, j != p }, and the next best where the rule
    asks for several; best first, ties (within 1e-12) to the lower image id. An exemplar is never
    its own contrast image, even where it lies below the threshold itself; in the published search
    it would be, with similarity 1. Quiet exemplars may serve the unit's other exemplars, as there.

    Without reuse, if the quiet images cannot serve every exemplar ``n_partners`` times, as many
    places as possible are filled, giving way in this order: first partners before second ones, and
    within those the stronger exemplar before the weaker one. Among all ways to fill exactly these
    places, the total similarity is the largest possible (float64; of equal totals, any one).

    An exemplar without any admissible image has no partner (``n_partner_uk`` 0).

    Args:
        acts_un: activations of the layer: an array, memory-mapped or not, or what gives one unit at
            a time as an array does.
        exemplars: of the same units.
        image_nd: encoder vectors, rows of unit length (or zero).
        rule: what counts as a contrast image.
        duplicate_group_n: near-duplicate group of each image.
        group_n: group of each image; an image without one needs a number of its own.
        copy_of_n: for each image the lowest with the same content; of such copies only that one
            may be a contrast image. All of them count where quiet images are counted.
        unit_block: units handled at once; changes no result.
        list_length: neighbours looked at per exemplar before all images are; chosen from a sample
            of exemplars if not given; changes no result.
        lists: of all exemplars of these units, and perhaps of others; made if not given.
        progress: told about images compared, then about units done.

    Raises:
        InputError: if a vector is not of unit length, or the rule needs groups that are not given.
    """
    assert acts_un.shape[1] == len(image_nd), "activations and vectors of different probe sets"
    assert len(acts_un) == len(exemplars.count_u), "activations and exemplars of different units"
    n_units, n_images = acts_un.shape
    n_ranks, n_partners = exemplars.image_uk.shape[1], rule.n_partners
    shape = (n_units, n_ranks, n_partners)
    out = ContrastSet(
        image_ukj=np.zeros(shape, np.int32),
        similarity_ukj=np.zeros(shape, np.float32),
        activation_ukj=np.zeros(shape, np.float32),
        n_partner_uk=np.zeros((n_units, n_ranks), np.int32),
        pool_u=np.zeros(n_units, np.int32),
        threshold_u=thresholds(acts_un, rule.threshold),
    )
    space = contrast_space(image_nd, rule, duplicate_group_n, group_n)
    if lists is None:
        if list_length is None:
            list_length = best_list_length(space, acts_un, exemplars, rule, out.threshold_u)
        lists = neighbour_lists(space, queries_of(exemplars), list_length, progress)

    step = max(1, min(unit_block, _MASK_VALUES // max(1, n_images)))
    for start in range(0, n_units, step):
        units = slice(start, min(start + step, n_units))
        quiet_bn = np.empty((units.stop - start, n_images), bool)
        for unit, quiet_n in enumerate(quiet_bn, start):
            np.less(acts_un[unit], out.threshold_u[unit], out=quiet_n)
        out.pool_u[units] = quiet_bn.sum(axis=1)
        if copy_of_n is not None:
            quiet_bn &= copy_of_n == np.arange(n_images)
        search = _nearest_quiet if rule.reuse else _assigned_quiet
        found = search(space, lists, exemplars.block(units), quiet_bn, n_partners)
        out.image_ukj[units], out.similarity_ukj[units], out.n_partner_uk[units] = found
        for unit in range(start, units.stop):
            is_partner_kj = np.arange(n_partners) < out.n_partner_uk[unit, :, None]
            activation_kj = np.asarray(acts_un[unit])[out.image_ukj[unit]]
            out.activation_ukj[unit] = np.where(is_partner_kj, activation_kj, 0)
        progress("contrast images", units.stop, n_units)
    return out


def _nearest_quiet(
    space: ImageSpace,
    lists: NeighbourLists,
    exemplars: Exemplars,
    quiet_bn: Bool[np.ndarray, "b n"],
    n_partners: int,
) -> tuple[Int32[np.ndarray, "b k j"], Float32[np.ndarray, "b k j"], Int32[np.ndarray, "b k"]]:
    """With reuse: every exemplar of a block of units its nearest quiet images."""
    n_units, n_ranks = exemplars.image_uk.shape
    query_p = exemplars.image_uk.ravel().astype(np.int64)
    pair_parts: list[np.ndarray] = []
    image_parts: list[np.ndarray] = []
    left_parts: list[np.ndarray] = []
    for row, (quiet_n, count) in enumerate(zip(quiet_bn, exemplars.count_u, strict=True)):
        if not quiet_n.any():
            continue
        pair_k = row * n_ranks + np.arange(count)
        k_c, image_c, suffices_k = candidates_in_lists(
            space, lists, query_p[pair_k], quiet_n, n_partners
        )
        pair_parts.append(pair_k[k_c])
        image_parts.append(image_c)
        left_parts.append(pair_k[~suffices_k])
    left_p = np.concatenate([*left_parts, np.empty(0, np.int64)])
    k_c, image_c = candidates_by_mask(
        space, query_p[left_p], left_p // n_ranks, quiet_bn, n_partners
    )
    pair_c = np.concatenate([*pair_parts, left_p[k_c]])
    image_c = np.concatenate([*image_parts, image_c])
    similarity_c = space.similarity(query_p[pair_c], image_c)
    image_pj, similarity_pj, count_p = choose_best(
        pair_c, image_c, similarity_c, len(query_p), n_partners
    )
    shape = (n_units, n_ranks, n_partners)
    return image_pj.reshape(shape), similarity_pj.reshape(shape), count_p.reshape(shape[:2])


def _assigned_quiet(
    space: ImageSpace,
    lists: NeighbourLists,
    exemplars: Exemplars,
    quiet_bn: Bool[np.ndarray, "b n"],
    n_partners: int,
) -> tuple[Int32[np.ndarray, "b k j"], Float32[np.ndarray, "b k j"], Int32[np.ndarray, "b k"]]:
    """Without reuse: unit by unit, the assignment of largest total similarity."""
    n_units, n_ranks = exemplars.image_uk.shape
    image_bkj = np.zeros((n_units, n_ranks, n_partners), np.int32)
    similarity_bkj = np.zeros(image_bkj.shape, np.float32)
    count_bk = np.zeros((n_units, n_ranks), np.int32)
    for row, (quiet_n, count) in enumerate(zip(quiet_bn, exemplars.count_u, strict=True)):
        if count and quiet_n.any():
            query_k = exemplars.image_uk[row, :count].astype(np.int64)
            k_s, image_s = _assign(space, lists, query_k, quiet_n, n_partners)
            similarity_s = space.similarity(query_k[k_s], image_s)
            image_bkj[row, :count], similarity_bkj[row, :count], count_bk[row, :count] = (
                choose_best(k_s, image_s, similarity_s, int(count), n_partners)
            )
    return image_bkj, similarity_bkj, count_bk


def _assign(
    space: ImageSpace,
    lists: NeighbourLists,
    query_k: Int64[np.ndarray, " k"],
    quiet_n: Bool[np.ndarray, " n"],
    n_partners: int,
) -> tuple[Int64[np.ndarray, " s"], Int64[np.ndarray, " s"]]:
    """One unit's assignment over all quiet images, found among few of them.

    Each exemplar starts with the quiet images near the top of its list and a bound on the
    similarity of all others. An assignment over these is optimal over all images if every
    exemplar's price (``row_prices``) exceeds its bound. An exemplar for which it does not gets its
    ``m * n_partners`` nearest quiet images (m exemplars), which always suffice: were it assigned
    one beyond them, the other places could not occupy them all, and it could take a free one that
    is at least as similar.
    """
    n_places = len(query_k) * n_partners
    _, near_c, bound_k = nearest_in_lists(space, lists, query_k, quiet_n, n_partners + 7)
    for _ in range(2):
        near_c = np.unique(near_c)
        similarity_kc = _allowed_similarity(space, query_k, near_c)
        k_s, column_s, is_full = assign_columns(similarity_kc, n_partners)
        is_loose_k = np.isfinite(bound_k)
        if is_full:
            is_loose_k &= row_prices(similarity_kc, k_s, column_s) <= bound_k
        if not is_loose_k.any():
            return k_s, near_c[column_s]
        near_c = np.append(near_c, _nearest(space, lists, query_k[is_loose_k], quiet_n, n_places))
        bound_k[is_loose_k] = -np.inf
    still_k = np.isfinite(bound_k)
    near_c = np.append(near_c, _nearest(space, lists, query_k[still_k], quiet_n, n_places))
    near_c = np.unique(near_c)
    k_s, column_s, _ = assign_columns(_allowed_similarity(space, query_k, near_c), n_partners)
    return k_s, near_c[column_s]


def _nearest(
    space: ImageSpace,
    lists: NeighbourLists,
    query_k: Int64[np.ndarray, " k"],
    quiet_n: Bool[np.ndarray, " n"],
    n_best: int,
) -> Int64[np.ndarray, " c"]:
    """Images that hold the ``n_best`` nearest quiet ones of every query."""
    _, image_c, suffices_k = candidates_in_lists(space, lists, query_k, quiet_n, n_best)
    left_p = query_k[~suffices_k]
    row_p = np.zeros(len(left_p), np.int64)
    _, other_c = candidates_by_mask(space, left_p, row_p, quiet_n[None], n_best)
    return np.append(image_c, other_c)


def _allowed_similarity(
    space: ImageSpace, query_k: Int64[np.ndarray, " k"], image_c: Int64[np.ndarray, " c"]
) -> Float64[np.ndarray, "k c"]:
    query_kd = space.image_nd[query_k].astype(np.float64)
    similarity_kc = query_kd @ space.image_nd[image_c].astype(np.float64).T
    similarity_kc[space.is_barred(query_k[:, None], image_c)] = -np.inf
    return similarity_kc


def queries_of(exemplars: Exemplars) -> Int64[np.ndarray, " e"]:
    """The distinct images among some exemplars, sorted: those that have a list."""
    is_rank_uk = np.arange(exemplars.image_uk.shape[1]) < exemplars.count_u[:, None]
    return np.unique(exemplars.image_uk[is_rank_uk]).astype(np.int64)


def best_list_length(
    space: ImageSpace,
    acts_un: Float32[Any, "u n"],
    exemplars: Exemplars,
    rule: ContrastRule,
    threshold_u: Float32[np.ndarray, " u"] | None = None,
) -> int:
    """The cheapest length of lists, judged by how deep a sample of exemplars has to look.

    ``threshold_u`` are those of the rule, where they are known already.
    """
    unit_p, rank_p = np.nonzero(np.arange(exemplars.image_uk.shape[1]) < exemplars.count_u[:, None])
    if len(unit_p) == 0:
        return _LIST_LENGTHS[0]
    n_images, n_queries = len(space.image_nd), len(queries_of(exemplars))
    n_wanted = min(rule.n_partners if rule.reuse else rule.n_partners + 8, n_images)
    place = n_images - n_wanted
    sample_s = np.unique(np.linspace(0, len(unit_p) - 1, _N_SAMPLED).astype(np.int64))
    unit_s = unit_p[sample_s]
    query_s = exemplars.image_uk[unit_s, rank_p[sample_s]].astype(np.int64)
    if threshold_u is None:
        threshold_u = np.zeros(len(acts_un), np.float32)
        for unit in np.unique(unit_s):
            threshold_u[unit] = _threshold_of(acts_un[unit], rule.threshold)
    depth_s = np.empty(len(sample_s))
    step = max(1, _PRODUCT_VALUES // n_images)
    for start in range(0, len(sample_s), step):
        for s, product_n in enumerate(space.products(query_s[start : start + step]), start):
            unit = unit_s[s]
            masked_n = np.where(acts_un[unit] < threshold_u[unit], product_n, -np.inf)
            last = np.partition(masked_n, place)[place]
            # The queried image itself heads its list.
            depth_s[s] = 1 + np.count_nonzero(product_n >= last - space.slack)
    cost = {
        length: n_queries * (1 + length * _COST_PER_NEIGHBOUR)
        + len(unit_p) * _COST_PER_RUN_OUT * float((depth_s >= length).mean())
        for length in _LIST_LENGTHS
    }
    return min(cost, key=lambda length: cost[length])


def contrast_space(
    image_nd: Float32[np.ndarray, "n d"],
    rule: ContrastRule,
    duplicate_group_n: Int32[np.ndarray, " n"] | None = None,
    group_n: Int32[np.ndarray, " n"] | None = None,
) -> ImageSpace:
    """The images among which a rule looks; see ``mine_contrast`` for the arguments."""
    groups = _barring_groups(rule, duplicate_group_n, group_n)
    return ImageSpace(np.ascontiguousarray(image_nd), groups)


def _barring_groups(
    rule: ContrastRule,
    duplicate_group_n: Int32[np.ndarray, " n"] | None,
    group_n: Int32[np.ndarray, " n"] | None,
) -> tuple[Int32[np.ndarray, " n"], ...]:
    groups = []
    if rule.exclude_near_duplicates:
        if duplicate_group_n is None:
            raise InputError(
                "Near-duplicates cannot be excluded from contrast images: their groups are not "
                "known. Build the images stage with near-duplicate groups first."
            )
        groups.append(duplicate_group_n)
    if rule.exclude_same_group:
        if group_n is None:
            raise InputError(
                "Images of the same group cannot be excluded from contrast images: the probe set "
                "has no group column. Name one with --group-column, or allow them."
            )
        groups.append(group_n)
    return tuple(groups)


def _parse_threshold(rule: str) -> tuple[str, float]:
    kind, colon, number = rule.partition(":")
    try:
        amount = float(number) if colon else 0.0
    except ValueError:
        amount = float("nan")
    if (kind == "mean" and not colon) or (
        colon and ((kind == "quantile" and 0 < amount < 1) or (kind == "max" and 0 < amount <= 1))
    ):
        return kind, amount
    raise InputError(
        f"{rule!r} is not a threshold for quiet images; use 'mean', 'quantile:Q' with Q between 0 "
        "and 1, or 'max:F' with F above 0 and up to 1, such as quantile:0.25."
    )


def _threshold_of(acts_n: Float32[Any, " n"], rule: str) -> np.float32:
    """Of one unit; see ``thresholds``."""
    kind, amount = _parse_threshold(rule)
    # Sorted, so that sums do not depend on the order of the images.
    sorted_n = ascending(np.asarray(acts_n)).astype(np.float64)
    lowest, highest = sorted_n[0], sorted_n[-1]
    if lowest == highest or (kind == "max" and highest <= 0):
        return np.float32(lowest)
    if kind == "max":
        return _float32_above(amount * highest)
    if kind == "mean":
        exact = lowest + (sorted_n - lowest).mean()
    else:
        place = amount * (len(sorted_n) - 1)
        low = int(place)
        below, above = sorted_n[low], sorted_n[min(low + 1, len(sorted_n) - 1)]
        exact = below + (above - below) * (place - low)
    # Both lie above the minimum, or the minimum is what the quantile means by quiet.
    return max(_float32_above(exact), np.nextafter(np.float32(lowest), np.float32(np.inf)))


def _float32_above(value: float) -> np.float32:
    """The smallest float32 not below ``value``: float32 numbers compare with both alike."""
    rounded = np.float32(value)
    return rounded if rounded >= value else np.nextafter(rounded, np.float32(np.inf))
