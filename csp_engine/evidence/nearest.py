"""The nearest images of many images: one matrix product, of which hardly anything is kept.

A sample of the images says from which product on an image can be among the nearest of a query; the
rest is compared tile by tile and dropped at once. Products of two queries serve both. So the search
costs little more than the products alone, and half of those where all images are queries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt64

from csp_engine.types import Progress

# Bounds on working memory, and sizes that suit the caches; they change no result.
_PANEL_BYTES = 512 << 20
_TILE = 1024
_SAMPLE = 16
"""One image in so many says how near the nearest are."""
_SPARE = 128
"""Places beyond twice the length of a list; a row that has filled all is sorted and cut."""
_DIRECT_VALUES = 16_000_000
_NONE = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def nearest_images(
    image_nd: Float32[np.ndarray, "n d"],
    query_e: Int64[np.ndarray, " e"],
    length: int,
    progress: Progress,
) -> tuple[Int32[np.ndarray, "e l"], Float32[np.ndarray, "e l"]]:
    """The ``length`` images with the largest products with each queried image, largest first.

    No image outside a list has a larger float32 product than the last one in it; of equal products
    any may be in it. Images are compared with themselves as well.

    Args:
        image_nd: one row for each image.
        query_e: distinct images.
        length: at most the number of images.
        progress: told about queries done.

    Returns:
        Images and their products.
    """
    image_el = np.empty((len(query_e), length), np.int32)
    product_el = np.empty((len(query_e), length), np.float32)
    n_images = len(image_nd)
    is_direct = n_images < max(_TILE, 2 * (2 * length + _SPARE))
    most = _PANEL_BYTES // (8 * (2 * length + _SPARE))
    step = max(1, _DIRECT_VALUES // max(1, n_images)) if is_direct else most
    for start in range(0, len(query_e), step):
        part = slice(start, min(start + step, len(query_e)))

        def told(share: float, part: slice = part) -> None:
            done = part.start + round(share * (part.stop - part.start))
            progress("neighbours", done, len(query_e))

        if is_direct:
            found = _direct(image_nd, query_e[part], length)
        else:
            found = _of_panel(image_nd, query_e[part], length, told)
        image_el[part], product_el[part] = found
        told(1.0)
    return image_el, product_el


def _direct(
    image_nd: Float32[np.ndarray, "n d"], query_q: Int64[np.ndarray, " q"], length: int
) -> tuple[Int32[np.ndarray, "q l"], Float32[np.ndarray, "q l"]]:
    """Every product of some queries at once."""
    product_qn = image_nd[query_q] @ image_nd.T
    key_qn = _keys(product_qn, np.arange(len(image_nd)))
    if length < key_qn.shape[1]:
        key_qn = np.partition(key_qn, length - 1, axis=1)[:, :length]
    return _from_keys(np.sort(key_qn, axis=1))


def _of_panel(
    image_nd: Float32[np.ndarray, "n d"],
    query_e: Int64[np.ndarray, " e"],
    length: int,
    told: Callable[[float], None],
) -> tuple[Int32[np.ndarray, "e l"], Float32[np.ndarray, "e l"]]:
    """As many queries as may be kept in mind together."""
    # Mixed, so that every tile holds some of the nearest images of each row, and none holds many.
    rng = np.random.default_rng(0)
    is_query_n = np.zeros(len(image_nd), bool)
    is_query_n[query_e] = True
    order_e = rng.permutation(len(query_e))
    query_e = query_e[order_e]
    column_n = np.concatenate([query_e, rng.permutation(np.flatnonzero(~is_query_n))])
    row_nd = image_nd[column_n]

    best = _Best.within(_floors(row_nd, len(query_e), length, rng), length)
    n_rows, n_images = len(query_e), len(image_nd)
    n_all = n_rows * n_images - n_rows * (n_rows - 1) // 2
    product_ij = np.empty((_TILE, _TILE), np.float32)
    n_done = 0
    for row in range(0, n_rows, _TILE):
        i = slice(row, min(row + _TILE, n_rows))
        for column in range(row, n_images, _TILE):
            j = slice(column, min(column + _TILE, n_images))
            tile_ij = product_ij[: i.stop - i.start, : j.stop - j.start]
            np.matmul(row_nd[i], row_nd[j].T, out=tile_ij)
            best.add(tile_ij, i, column_n[j])
            if column != row and column < n_rows:
                # What lies beyond the queries is no row of its own.
                own = slice(column, min(j.stop, n_rows))
                best.add(tile_ij[:, : own.stop - own.start], own, column_n[i], is_turned=True)
        n_done += n_images - row
        told(min(1.0, n_done * _TILE / n_all))

    image_el, product_el, is_short_e = best.finish()
    short = np.flatnonzero(is_short_e)
    for start in range(0, len(short), max(1, _DIRECT_VALUES // n_images)):
        rows = short[start : start + max(1, _DIRECT_VALUES // n_images)]
        image_el[rows], product_el[rows] = _direct(image_nd, query_e[rows], length)
    back_e = np.argsort(order_e)
    return image_el[back_e], product_el[back_e]


def _floors(
    row_nd: Float32[np.ndarray, "n d"], n_rows: int, length: int, rng: np.random.Generator
) -> Float32[np.ndarray, " e"]:
    """A product that some more images than wanted exceed, for each row, by a sample of images."""
    n_images = len(row_nd)
    sample_s = rng.choice(n_images, max(_TILE // 2, n_images // _SAMPLE), replace=False)
    sample_sd = row_nd[sample_s]
    # Some more than wanted, so that hardly any row gets too few and has to meet all images again.
    expected = length * len(sample_s) / n_images
    n_above = int(np.ceil(1.25 * expected + 2 * np.sqrt(expected) + 2))
    place = len(sample_s) - min(len(sample_s), n_above)
    floor_e = np.empty(n_rows, np.float32)
    for start in range(0, n_rows, 4 * _TILE):
        part = slice(start, min(start + 4 * _TILE, n_rows))
        product_qs = row_nd[part] @ sample_sd.T
        floor_e[part] = np.partition(product_qs, place, axis=1)[:, place]
    return np.nextafter(floor_e, np.float32(-np.inf))


@dataclass(slots=True, eq=False)
class _Best:
    """The largest products of each row so far, as numbers that sort (see ``_keys``).

    ``floor_e`` is what a product must exceed to be worth keeping.
    """

    length: int
    floor_e: Float32[np.ndarray, " e"]
    key_ec: UInt64[np.ndarray, "e c"]
    count_e: Int64[np.ndarray, " e"]

    @classmethod
    def within(cls, floor_e: Float32[np.ndarray, " e"], length: int) -> _Best:
        """Nothing yet."""
        key_ec = np.empty((len(floor_e), 2 * length + _SPARE), np.uint64)
        return cls(length, floor_e, key_ec, np.zeros(len(floor_e), np.int64))

    def add(
        self,
        product_ij: Float32[np.ndarray, "i j"],
        rows: slice,
        image_c: Int64[np.ndarray, " c"],
        *,
        is_turned: bool = False,
    ) -> None:
        """Products of the rows with some images; turned where the rows run along the second axis.

        Args:
            product_ij: of rows and images, or of images and rows.
            rows: which of the rows.
            image_c: which images.
            is_turned: see above.
        """
        floor_r = self.floor_e[rows]
        is_near_ij = product_ij > (floor_r[None, :] if is_turned else floor_r[:, None])
        near_c = np.flatnonzero(is_near_ij)
        if not len(near_c):
            return
        i_c, j_c = np.divmod(near_c, product_ij.shape[1])
        value_c = product_ij[i_c, j_c]
        if is_turned:
            order_c = np.argsort(j_c.astype(np.int16), kind="stable")
            i_c, j_c, value_c = j_c[order_c], i_c[order_c], value_c[order_c]
        self._keep(rows.start + i_c, _keys(value_c, image_c[j_c]))

    def _keep(self, row_c: Int64[np.ndarray, " c"], key_c: UInt64[np.ndarray, " c"]) -> None:
        """Put keys of rows, sorted by row, behind those that the rows have."""
        start_r = np.flatnonzero(np.append(True, row_c[1:] != row_c[:-1]))
        row_r, n_r = row_c[start_r], np.diff(np.append(start_r, len(row_c)))
        is_full_r = self.count_e[row_r] + n_r > self.key_ec.shape[1]
        if is_full_r.any():
            self._cut(row_r[is_full_r])
            is_full_r = self.count_e[row_r] + n_r > self.key_ec.shape[1]
            for r in np.flatnonzero(is_full_r):  # very many alike
                row, stop = row_r[r], start_r[r] + n_r[r]
                held_c = self.key_ec[row, : self.count_e[row]]
                most_c = np.sort(np.concatenate([held_c, key_c[start_r[r] : stop]]))[: self.length]
                self.key_ec[row, : len(most_c)], self.count_e[row] = most_c, len(most_c)
                self.floor_e[row] = _products(most_c[-1:])[0]
            n_r = np.where(is_full_r, 0, n_r)
            is_left_c = ~np.repeat(is_full_r, np.diff(np.append(start_r, len(row_c))))
            row_c, key_c = row_c[is_left_c], key_c[is_left_c]
            start_r = np.cumsum(n_r) - n_r
        place_c = np.repeat(self.count_e[row_r] - start_r, n_r) + np.arange(len(row_c))
        self.key_ec[row_c, place_c] = key_c
        self.count_e[row_r] += n_r

    def _cut(self, row_r: Int64[np.ndarray, " r"]) -> None:
        """Leave each of these rows what belongs to its list so far."""
        is_held_rc = np.arange(self.key_ec.shape[1]) < self.count_e[row_r, None]
        key_rc = np.sort(np.where(is_held_rc, self.key_ec[row_r], _NONE), axis=1)
        self.key_ec[row_r] = key_rc
        self.count_e[row_r] = np.minimum(self.count_e[row_r], self.length)
        is_whole_r = self.count_e[row_r] == self.length
        last_r = _products(key_rc[:, self.length - 1])
        floor_r = self.floor_e[row_r]
        self.floor_e[row_r] = np.where(is_whole_r, np.maximum(floor_r, last_r), floor_r)

    def finish(
        self,
    ) -> tuple[Int32[np.ndarray, "e l"], Float32[np.ndarray, "e l"], np.ndarray]:
        """Images and products of every row, largest first; and which rows have too few."""
        n_rows = len(self.count_e)
        image_el = np.zeros((n_rows, self.length), np.int32)
        product_el = np.zeros((n_rows, self.length), np.float32)
        for start in range(0, n_rows, 4 * _TILE):
            part = np.arange(start, min(start + 4 * _TILE, n_rows))
            self._cut(part)
            image_el[part], product_el[part] = _from_keys(self.key_ec[part, : self.length])
        return image_el, product_el, self.count_e < self.length


def _keys(product_c: Float32[np.ndarray, ...], image_c: np.ndarray) -> UInt64[np.ndarray, ...]:
    """Numbers that rise as products fall, and then with the image: product above, image below.

    The bits of float32 numbers, read as whole numbers, rise with them where they are positive and
    fall where they are negative; the sum takes -0 to 0.
    """
    bits = (product_c + np.float32(0)).view(np.uint32)
    rising = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(0x8000_0000))
    return ((~rising).astype(np.uint64) << np.uint64(32)) | np.asarray(image_c, np.uint64)


def _products(key_c: UInt64[np.ndarray, ...]) -> Float32[np.ndarray, ...]:
    """The products that ``_keys`` were made of."""
    rising = ~(key_c >> np.uint64(32)).astype(np.uint32)
    is_positive = (rising >> np.uint32(31)).astype(bool)
    bits = np.where(is_positive, rising & np.uint32(0x7FFF_FFFF), ~rising)
    return bits.astype(np.uint32).view(np.float32)


def _from_keys(
    key_ql: UInt64[np.ndarray, "q l"],
) -> tuple[Int32[np.ndarray, "q l"], Float32[np.ndarray, "q l"]]:
    """Images and products behind keys."""
    return (key_ql & np.uint64(0xFFFF_FFFF)).astype(np.int32), _products(key_ql)
