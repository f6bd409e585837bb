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
from csp_engine.vectors import VANISHED

LIST_LENGTH = 256
HEADS = (16, 64)
"""How far into the lists to look first; the quiet images of most lie there."""
N_PARTNERS = 2
HALVES = 2
_ROWS = 1024  # so many images at a time stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """The ``N_PARTNERS`` nearest quiet images of each image, in no order, and how many there are.

    Beyond the count, numbers mean nothing.
    """

    image_kj: Int32[np.ndarray, "k j"]
    count_k: Int32[np.ndarray, " k"]

    def part(self, rows: slice) -> Near:
        """The same for some of the images."""
        return Near(self.image_kj[rows], self.count_k[rows])

    def sum_of(self, value_nw: Float32[np.ndarray, "n w"]) -> Float32[np.ndarray, "k w"]:
        """Sums of values over the partners of each image."""
        total_kw = value_nw.take(self.image_kj[:, 0], axis=0)
        for j in range(1, N_PARTNERS):
            total_kw += value_nw.take(self.image_kj[:, j], axis=0)
        for k in np.flatnonzero(self.count_k < N_PARTNERS):
            total_kw[k] = value_nw[self.image_kj[k, : self.count_k[k]]].sum(axis=0)
        return total_kw


class Partners:
    """Finds the quiet images that are nearest to given ones; compares all images once.

    What an image p shares with its quiet partners is ``s n`` with ``s = p . n`` and ``n`` the
    direction of the partners' mean; with m their sum it is ``(p . m) / (m . m) m``. An image
    without partners shares nothing.

    Args:
        image_nd: unit rows (or zero).
        lists: of all images, ``LIST_LENGTH`` long or as long as there are images; made if not
            given.
    """

    def __init__(
        self, image_nd: Float32[np.ndarray, "n d"], lists: NeighbourLists | None = None
    ) -> None:
        self.space = ImageSpace(np.ascontiguousarray(image_nd))
        everything = np.arange(len(image_nd), dtype=np.int64)
        self.lists = lists or neighbour_lists(self.space, everything, LIST_LENGTH, silent)
        n_listed = self.lists.image_el.shape[1]
        self._product_p = np.ascontiguousarray(self.lists.product_el).ravel()
        self._lengths = [*(length for length in HEADS if length < n_listed), n_listed]
        self._heads = {
            length: tuple(
                np.ascontiguousarray(listed_el[:, :length])
                for listed_el in (self.lists.image_el, self.lists.is_open_el)
            )
            for length in self._lengths
        }

    def near(self, images: Sequence[np.ndarray], quiet_bn: Bool[np.ndarray, "b n"]) -> list[Near]:
        """The nearest quiet images of some images of several units.

        Nearly all are found near the head of a list, and far enough from the next quiet image that
        rounding decides nothing; only the others are compared exactly. Where lists end too early,
        all units meet all images at once.
        """
        # One after the other, as all that is small here: threads would wait for Python's lock.
        searched = [self._in_lists(*each) for each in zip(images, quiet_bn, strict=True)]
        found = [near for near, _ in searched]
        query_p = np.concatenate([images[b][left] for b, (_, left) in enumerate(searched)])
        row_p = np.repeat(np.arange(len(images)), [len(left) for _, left in searched])
        if len(query_p):
            p_c, near_c = candidates_by_mask(self.space, query_p, row_p, quiet_bn, N_PARTNERS)
            near_pj, count_p = self._best(query_p, p_c, near_c)
            for b, (near, left) in enumerate(searched):
                near.image_kj[left] = near_pj[row_p == b]
                near.count_k[left] = count_p[row_p == b]
        return found

    def _in_lists(
        self, image_k: Int64[np.ndarray, " k"], quiet_n: Bool[np.ndarray, " n"]
    ) -> tuple[Near, Int64[np.ndarray, " left"]]:
        """What the lists say, and which images they do not suffice for."""
        near_kj = np.zeros((len(image_k), N_PARTNERS), np.int32)
        count_k = np.full(len(image_k), N_PARTNERS, np.int32)
        left_k = np.arange(len(image_k))
        for length in self._lengths:
            found_kj, is_sure_k = self._at_head(image_k[left_k], quiet_n, length)
            near_kj[left_k[is_sure_k]] = found_kj[is_sure_k]
            left_k = left_k[~is_sure_k]
        if not len(left_k):
            return Near(near_kj, count_k), left_k
        k_c, near_c, suffices_k = candidates_in_lists(
            self.space, self.lists, image_k[left_k], quiet_n, N_PARTNERS
        )
        near_kj[left_k], count_k[left_k] = self._best(image_k[left_k], k_c, near_c)
        return Near(near_kj, count_k), left_k[~suffices_k]

    def _best(
        self,
        image_k: Int64[np.ndarray, " k"],
        k_c: Int64[np.ndarray, " c"],
        near_c: Int64[np.ndarray, " c"],
    ) -> tuple[Int32[np.ndarray, "k j"], Int32[np.ndarray, " k"]]:
        """The nearest of candidates, by products in float64."""
        similarity_c = self.space.similarity(image_k[k_c], near_c)
        near_kj, _, count_k = choose_best(k_c, near_c, similarity_c, len(image_k), N_PARTNERS)
        return near_kj, count_k

    def _at_head(
        self, image_k: Int64[np.ndarray, " k"], quiet_n: Bool[np.ndarray, " n"], length: int
    ) -> tuple[Int32[np.ndarray, "k j"], Bool[np.ndarray, " k"]]:
        """The first quiet images of each list, and whether these are the nearest for sure."""
        # All images have a list, in their order. Whole rows are taken from arrays of that width
        # and single numbers by their place: twice as fast as indexing with two axes.
        image_el, is_open_el = self._heads[length]
        image_kl = image_el.take(image_k, axis=0)
        is_quiet_kl = quiet_n.take(image_kl)
        is_quiet_kl &= is_open_el.take(image_k, axis=0)
        is_quiet_p, start_k = is_quiet_kl.ravel(), length * np.arange(len(image_k))
        place_kj = np.empty((len(image_k), N_PARTNERS), np.int64)
        has_k = np.ones(len(image_k), bool)
        for j in range(N_PARTNERS):
            place_kj[:, j] = is_quiet_kl.argmax(axis=1)
            has_k &= is_quiet_p[start_k + place_kj[:, j]]
            is_quiet_p[start_k + place_kj[:, j]] = False
        next_k = is_quiet_kl.argmax(axis=1)
        n_listed = self.lists.image_el.shape[1]
        product_p, own_k = self._product_p, n_listed * image_k
        is_whole = self.lists.is_whole and length == n_listed
        beyond_k = np.float32(-np.inf) if is_whole else product_p[own_k + length - 1]
        bound_k = np.where(is_quiet_p[start_k + next_k], product_p[own_k + next_k], beyond_k)
        floor_k = product_p[own_k + place_kj[:, -1]] - np.float32(self.space.slack)
        found_kj = image_kl.ravel()[start_k[:, None] + place_kj]
        return found_kj, has_k & (floor_k > bound_k)

    def sums(
        self,
        image_k: Int64[np.ndarray, " k"],
        near: Near,
        weight_gk: Float32[np.ndarray, "g k"],
        value_nw: Float32[np.ndarray, "n w"],
    ) -> tuple[Float32[np.ndarray, "g f"], Float32[np.ndarray, "g f"]]:
        """Weighted sums of images and of further values, and of what is shared of both.

        Images first: the axis f is d and then w.
        """
        image_nd = self.space.image_nd
        n_groups, width = len(weight_gk), image_nd.shape[1]
        anchor_gf = np.zeros((n_groups, width + value_nw.shape[1]), np.float32)
        shared_gf = np.zeros_like(anchor_gf)
        for start in range(0, len(image_k), _ROWS):
            part = slice(start, start + _ROWS)
            some, own_gk = near.part(part), weight_gk[:, part]
            p_kd, m_kd = image_nd.take(image_k[part], axis=0), some.sum_of(image_nd)
            shared_gk = own_gk * _factors(p_kd, m_kd)
            anchor_gf[:, :width] += own_gk @ p_kd
            shared_gf[:, :width] += shared_gk @ m_kd
            if value_nw.shape[1]:
                anchor_gf[:, width:] += own_gk @ value_nw[image_k[part]]
                shared_gf[:, width:] += shared_gk @ some.sum_of(value_nw)
        return anchor_gf, shared_gf

    def shared(
        self,
        image_k: Int64[np.ndarray, " k"],
        quiet_n: Bool[np.ndarray, " n"],
        value_nw: Float32[np.ndarray, "n w"],
    ) -> tuple[Float32[np.ndarray, "k d"], Float32[np.ndarray, "k w"]]:
        """What each image shares with its quiet partners: of itself, and of further values."""
        (near,) = self.near([image_k], quiet_n[None])
        m_kd = near.sum_of(self.space.image_nd)
        factor_k = _factors(self.space.image_nd[image_k], m_kd)[:, None]
        return factor_k * m_kd, factor_k * near.sum_of(value_nw)


def _factors(
    p_kd: Float32[np.ndarray, "k d"], m_kd: Float32[np.ndarray, "k d"]
) -> Float32[np.ndarray, " k"]:
    """``(p . m) / (m . m)``, 0 where hardly anything is left of m."""
    length_k = np.einsum("kd,kd->k", m_kd, m_kd)
    is_there_k = length_k > VANISHED**2
    factor_k = np.einsum("kd,kd->k", p_kd, m_kd) / np.where(is_there_k, length_k, 1)
    return np.where(is_there_k, factor_k, 0).astype(np.float32)


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
    activation_bn: Float32[np.ndarray, "b n"],
    quiet_bn: Bool[np.ndarray, "b n"],
    half_n: Bool[np.ndarray, " n"],
    shares: Sequence[float],
    most: int,
    value_nw: Float32[np.ndarray, "n w"],
) -> list[Depths]:
    """The means of some units at every depth, of all images and of either half.

    ``value_nw`` are further values of the images, of which the same means are taken.
    """
    rings = [
        ring_images(activation_n, quiet_n, shares, most)
        for activation_n, quiet_n in zip(activation_bn, quiet_bn, strict=True)
    ]
    images = [np.concatenate(each) for each, _ in rings]
    found = partners.near(images, quiet_bn) if images else []

    def means(row: int) -> Depths:
        ring_q, size_q = rings[row]
        weight_hqk = _weights(ring_q, size_q, half_n)
        sums = partners.sums(
            images[row], found[row], weight_hqk.reshape(-1, len(images[row])), value_nw
        )
        return _means(weight_hqk, *sums, half_n, partners.space.image_nd.shape[1])

    return [means(row) for row in range(len(quiet_bn))]


def _weights(
    ring_q: Sequence[np.ndarray], size_q: Sequence[int], half_n: Bool[np.ndarray, " n"]
) -> Float32[np.ndarray, "h q k"]:
    """What each image counts in its half and ring: more than once where the ring is thinned."""
    count_q = np.array([len(ring) for ring in ring_q])
    image_k, ring_k = np.concatenate(ring_q), np.repeat(np.arange(len(ring_q)), count_q)
    each_q = np.asarray(size_q, np.float32) / np.maximum(count_q, 1).astype(np.float32)
    weight_hqk = np.zeros((HALVES, len(ring_q), len(image_k)), np.float32)
    weight_hqk[half_n[image_k].astype(np.int64), ring_k, np.arange(len(image_k))] = each_q[ring_k]
    return weight_hqk


def _means(
    weight_hqk: Float32[np.ndarray, "h q k"],
    anchor_gf: Float32[np.ndarray, "g f"],
    shared_gf: Float32[np.ndarray, "g f"],
    half_n: Bool[np.ndarray, " n"],
    width: int,
) -> Depths:
    """From sums over the rings of either half to means down to every depth."""
    n_depths = weight_hqk.shape[1]
    anchor_hqf = np.zeros((1 + HALVES, n_depths, anchor_gf.shape[1]), np.float32)
    shared_hqf = np.zeros_like(anchor_hqf)
    weight_hq = np.zeros((1 + HALVES, n_depths), np.float32)
    anchor_hqf[1:] = anchor_gf.reshape(HALVES, n_depths, -1)
    shared_hqf[1:] = shared_gf.reshape(HALVES, n_depths, -1)
    weight_hq[1:] = weight_hqk.sum(axis=2)
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
