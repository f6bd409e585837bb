"""Exemplars down to several depths, each with its nearest quiet images, summed ring by ring.

A *ring* holds the images between one depth and the next. Sums of rings give every depth, and sums
over either half of the probe set give the same from other images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from csp_engine.evidence.neighbours import (
    ImageSpace,
    NeighbourLists,
    candidates_by_mask,
    candidates_in_lists,
    choose_best,
    neighbour_lists,
)
from csp_engine.types import silent
from csp_engine.vectors import directions

LIST_LENGTH = 128
N_PARTNERS = 2
HALVES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Images ``p``, and what each shares with its quiet partners, ``s n`` with ``s = p . n``.

    ``n`` is the direction of the mean of the partners: their sum divided by its length. An image
    without any has ``s n = 0``. ``weight_k`` is s divided by that length.
    """

    image_k: Int64[np.ndarray, " k"]
    shared_kd: Float32[np.ndarray, "k d"]
    near_kj: Int32[np.ndarray, "k j"]
    count_k: Int32[np.ndarray, " k"]
    weight_k: Float32[np.ndarray, " k"]

    def shared_of(self, value_nw: Float32[np.ndarray, "n w"]) -> Float32[np.ndarray, "k w"]:
        """The same for other values of the images: the weight times the sum over the partners."""
        total_kw = np.zeros((len(self.image_k), value_nw.shape[1]), np.float32)
        for j in range(self.near_kj.shape[1]):
            has_k = self.count_k > j
            total_kw[has_k] += value_nw[self.near_kj[has_k, j]]
        return self.weight_k[:, None] * total_kw


class Partners:
    """Finds the quiet images that are nearest to given ones; compares all images once.

    Args:
        image_nd: unit rows (or zero).
    """

    def __init__(self, image_nd: Float32[np.ndarray, "n d"]) -> None:
        self.space = ImageSpace(np.ascontiguousarray(image_nd))
        everything = np.arange(len(image_nd), dtype=np.int64)
        self.lists: NeighbourLists = neighbour_lists(self.space, everything, LIST_LENGTH, silent)

    def of(self, image_k: Int64[np.ndarray, " k"], quiet_n: Bool[np.ndarray, " n"]) -> Pairs:
        """Each of these images with the ``N_PARTNERS`` nearest quiet ones."""
        image_nd = self.space.image_nd
        k_c, near_c, suffices_k = candidates_in_lists(
            self.space, self.lists, image_k, quiet_n, N_PARTNERS
        )
        left_p = np.flatnonzero(~suffices_k)
        if len(left_p) and quiet_n.any():
            row_p = np.zeros(len(left_p), np.int64)
            p_c, more_c = candidates_by_mask(
                self.space, image_k[left_p], row_p, quiet_n[None], N_PARTNERS
            )
            k_c, near_c = np.append(k_c, left_p[p_c]), np.append(near_c, more_c)
        similarity_c = self.space.similarity(image_k[k_c], near_c)
        near_kj, _, count_k = choose_best(k_c, near_c, similarity_c, len(image_k), N_PARTNERS)
        total_kd = np.zeros((len(image_k), image_nd.shape[1]), np.float32)
        for j in range(N_PARTNERS):
            has_k = count_k > j
            total_kd[has_k] += image_nd[near_kj[has_k, j]]
        n_kd = directions(total_kd)
        s_k = np.einsum("kd,kd->k", image_nd[image_k], n_kd)
        length_k = np.linalg.norm(total_kd, axis=1)
        weight_k = np.where(length_k > 0, s_k / np.where(length_k > 0, length_k, 1), 0)
        return Pairs(image_k, s_k[:, None] * n_kd, near_kj, count_k, weight_k.astype(np.float32))


def ring_images(
    activation_n: Float32[np.ndarray, " n"],
    quiet_n: Bool[np.ndarray, " n"],
    shares: Sequence[float],
    most: int,
) -> tuple[list[Int64[np.ndarray, " k"]], list[int]]:
    """Images of each ring, strongest first, at most ``most`` of them, and how many it has.

    The last image of depth q has rank ``ceil(q n)``; ties in activation go to the lower image id.
    Quiet images belong to no ring: a unit that is silent on most images does not choose among
    those on which it is silent.
    """
    n_images = len(activation_n)
    deepest = int(np.ceil(shares[-1] * n_images))
    loud = np.flatnonzero(~quiet_n)
    if len(loud) > deepest:
        floor = np.partition(activation_n[loud], len(loud) - deepest)[len(loud) - deepest]
        loud = loud[activation_n[loud] >= floor]
    order = loud[np.argsort(-activation_n[loud], kind="stable")][:deepest].astype(np.int64)
    rings, sizes, start = [], [], 0
    for share in shares:
        stop = min(int(np.ceil(share * n_images)), len(order))
        ring = order[start:stop]
        sizes.append(len(ring))
        if len(ring) > most:
            ring = ring[np.linspace(0, len(ring) - 1, most).round().astype(np.int64)]
        rings.append(ring)
        start = max(start, stop)
    return rings, sizes


@dataclass(frozen=True, slots=True, eq=False)
class Depths:
    """Means of one unit at every depth: of its exemplars, and of what they share with quiet ones.

    Axis h: of all images, then of either half of the probe set. ``share_hq`` is the share of the
    probe set that a depth holds; 0 where it holds none, whose means are zero. ``anchor_hqw`` and
    ``shared_hqw`` are the same means of further values of the images.
    """

    anchor_hqd: Float32[np.ndarray, "h q d"]
    shared_hqd: Float32[np.ndarray, "h q d"]
    share_hq: Float32[np.ndarray, "h q"]
    anchor_hqw: Float32[np.ndarray, "h q w"]
    shared_hqw: Float32[np.ndarray, "h q w"]


def depths_of(
    partners: Partners,
    activation_n: Float32[np.ndarray, " n"],
    quiet_n: Bool[np.ndarray, " n"],
    half_n: Bool[np.ndarray, " n"],
    shares: Sequence[float],
    most: int,
    value_nw: Float32[np.ndarray, "n w"],
) -> Depths:
    """A unit's means at every depth, of all images and of either half."""
    image_nd = partners.space.image_nd
    rings, size_q = ring_images(activation_n, quiet_n, shares, most)
    pairs = partners.of(np.concatenate(rings), quiet_n)
    n_depths, width = len(shares), image_nd.shape[1]
    anchor_hqf = np.zeros((1 + HALVES, n_depths, width + value_nw.shape[1]), np.float32)
    shared_hqf = np.zeros_like(anchor_hqf)
    weight_hq = np.zeros((1 + HALVES, n_depths), np.float32)
    more_kw = pairs.shared_of(value_nw)
    stop_q = np.cumsum([len(ring) for ring in rings])
    for q, stop in enumerate(stop_q):
        part = slice(stop - len(rings[q]), stop)
        image_k = pairs.image_k[part]
        if not len(image_k):
            continue
        each = size_q[q] / len(image_k)  # what one image of a thinned ring stands for
        for half in range(HALVES):
            of_half_k = half_n[image_k] == bool(half)
            chosen = image_k[of_half_k]
            anchor_hqf[1 + half, q, :width] = each * image_nd[chosen].sum(axis=0)
            shared_hqf[1 + half, q, :width] = each * pairs.shared_kd[part][of_half_k].sum(axis=0)
            anchor_hqf[1 + half, q, width:] = each * value_nw[chosen].sum(axis=0)
            shared_hqf[1 + half, q, width:] = each * more_kw[part][of_half_k].sum(axis=0)
            weight_hq[1 + half, q] = each * len(chosen)
    for array in (anchor_hqf, shared_hqf, weight_hq):
        array[0] = array[1:].sum(axis=0)
        np.cumsum(array, axis=1, out=array)
    per_hq = np.where(weight_hq > 0, weight_hq, 1)[:, :, None]
    n_half = np.array([len(half_n), np.count_nonzero(~half_n), np.count_nonzero(half_n)])
    anchor_hqf, shared_hqf = anchor_hqf / per_hq, shared_hqf / per_hq
    return Depths(
        anchor_hqf[..., :width],
        shared_hqf[..., :width],
        (weight_hq / np.maximum(n_half, 1)[:, None]).astype(np.float32),
        anchor_hqf[..., width:],
        shared_hqf[..., width:],
    )
