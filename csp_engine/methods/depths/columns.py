"""What a label says about each probe image, by the encoder alone: its *pseudo-column*."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from csp_engine.stats.otsu import otsu
from csp_engine.vectors import normalise_rows

_MOST_BYTES = 256 << 20
_AT_ONCE = 16


def correlation(
    x_n: np.ndarray, y_n: np.ndarray, rows: Bool[np.ndarray, " n"] | None = None
) -> float:
    """Pearson's r, in float64; 0 where either is constant or fewer than three rows are left."""
    x_n, y_n = (np.asarray(a if rows is None else a[rows], np.float64) for a in (x_n, y_n))
    if len(x_n) < 3 or any(a_n.min() == a_n.max() for a_n in (x_n, y_n)):
        return 0.0
    x_n, y_n = x_n - x_n.mean(), y_n - y_n.mean()
    scale = np.sqrt(np.dot(x_n, x_n) * np.dot(y_n, y_n))
    return float(np.dot(x_n, y_n) / scale)


class LabelColumns:
    """Similarity of every image with a label, and where it is above Otsu's threshold.

    Columns are made when asked for, many at a time, and the latest are kept: similarities within
    256 MB, and within as much which images show a label, a bit for each. ``given`` gives the
    similarities of labels that have other ones than the product of the vectors.

    The last digits of a product depend on how many rows it has, and may depend on which row is
    which. So each is of ``_AT_ONCE`` labels, and a label has its own row: what a label gets does
    not depend on what was asked for with it or before.
    """

    def __init__(
        self,
        image_nd: Float32[np.ndarray, "n d"],
        label_td: Float32[np.ndarray, "t d"],
        given: Callable[[int], Float32[np.ndarray, " n"] | None] = lambda label: None,
    ) -> None:
        self.image_nd = np.ascontiguousarray(image_nd)
        self.label_td = label_td
        self.given = given
        self._similarity: OrderedDict[int, np.ndarray] = OrderedDict()
        self._shown: OrderedDict[int, np.ndarray] = OrderedDict()
        self._n_similarity = max(8, _MOST_BYTES // (4 * max(1, len(image_nd))))
        self._n_shown = max(8, 8 * _MOST_BYTES // max(1, len(image_nd)))

    def load(self, labels: Iterable[int]) -> None:
        """Make what is missing of some columns, by few matrix products."""
        for label, similarity_n in self._similarities(
            t for t in dict.fromkeys(labels) if t not in self._shown
        ):
            self._keep(label, similarity_n)

    def _similarities(
        self, labels: Iterable[int]
    ) -> Iterator[tuple[int, Float32[np.ndarray, " n"]]]:
        """Distinct labels with the similarities of all images."""
        batches: list[dict[int, int]] = []
        n_at_row: Counter[int] = Counter()
        for label in labels:
            row = label % _AT_ONCE
            if n_at_row[row] == len(batches):
                batches.append({})
            batches[n_at_row[row]][row] = label
            n_at_row[row] += 1
        for batch in batches:
            rows = [batch.get(row, 0) for row in range(_AT_ONCE)]
            similarity_bn = self.label_td[rows] @ self.image_nd.T
            for row, label in batch.items():
                own_n = self.given(label)
                yield label, similarity_bn[row].copy() if own_n is None else own_n

    def _keep(self, label: int, similarity_n: Float32[np.ndarray, " n"]) -> None:
        self._similarity[label] = similarity_n
        if label not in self._shown:
            self._shown[label] = np.packbits(similarity_n > otsu(similarity_n))
        for kept, most in ((self._similarity, self._n_similarity), (self._shown, self._n_shown)):
            while len(kept) > most:
                kept.popitem(last=False)

    def similarity(self, label: int) -> Float32[np.ndarray, " n"]:
        """How near every image is to a label."""
        if label not in self._similarity:
            self._keep(*next(self._similarities([label])))
        self._similarity.move_to_end(label)
        return self._similarity[label]

    def bits(self, label: int) -> UInt8[np.ndarray, " b"]:
        """Which images show a label, eight to a byte."""
        if label not in self._shown:
            self._keep(*next(self._similarities([label])))
        self._shown.move_to_end(label)
        return self._shown[label]

    def shown(self, label: int) -> Bool[np.ndarray, " n"]:
        """Which images show a label."""
        return np.unpackbits(self.bits(label), count=len(self.image_nd)).astype(bool)


def near_best(
    score_t: Float32[np.ndarray, " t"], may_be_t: Bool[np.ndarray, " t"], near: float
) -> list[int]:
    """The best label, and those that score at least ``near`` times as much, the next best first.

    Only labels of ``may_be_t``; none where there are no others, or the best scores nothing.
    """
    best = int(score_t.argmax())
    if score_t[best] <= 0:
        return []
    rival_r = np.flatnonzero(may_be_t & (score_t >= near * score_t[best]))
    rival_r = rival_r[rival_r != best]
    rivals = rival_r[np.argsort(-score_t[rival_r], kind="stable")].tolist()
    return [best, *rivals] if rivals else []


def whole_of(
    columns: LabelColumns,
    best_first: Sequence[int],
    activation_n: Float32[np.ndarray, " n"],
    *,
    holds: float,
    larger: float,
) -> int | None:
    """A label of which the best one is only a frequent part, if the unit answers to the whole.

    The best label A is a *part* of B where nearly all images of A show B too (``P(B | A) >=
    holds``) and B is shown by ``larger`` times as many. Whichever explains the activation where the
    other is no help is what the unit answers to: B, if the activation follows B outside A more than
    it follows A within B. Looked for among the labels of ``near_best``; of several, the one that
    scores most.
    """
    if not best_first:
        return None
    best, *rivals = best_first
    columns.load(best_first)
    part_b = columns.bits(best)
    whole_rb = np.stack([columns.bits(rival) for rival in rivals])
    n_part = int(_n_shown(part_b[None])[0])
    n_whole_r, n_both_r = _n_shown(whole_rb), _n_shown(whole_rb & part_b)
    is_whole_r = (n_both_r >= holds * n_part) & (n_whole_r > larger * n_part)
    for rival in compress(rivals, is_whole_r):
        if correlation(activation_n, columns.similarity(best), columns.shown(rival)) < correlation(
            activation_n, columns.similarity(rival), ~columns.shown(best)
        ):
            return rival
    return None


def _n_shown(bits_rb: UInt8[np.ndarray, "r b"]) -> Int64[np.ndarray, " r"]:
    return np.bitwise_count(bits_rb).sum(axis=1, dtype=np.int64)


def meanings(
    image_nd: Float32[np.ndarray, "n d"], label_td: Float32[np.ndarray, "t d"]
) -> Float32[np.ndarray, "t d"]:
    """Rows whose products are the correlations of the labels' similarities over the images."""
    return normalise_rows(label_td.astype(np.float64) @ spread_root(image_nd))


def spread_root(image_nd: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, "d d"]:
    """R with R R' the covariance of the images: products of rows in it are covariances."""
    centred_nd = np.asarray(image_nd, np.float64)
    centred_nd = centred_nd - centred_nd.mean(axis=0)
    spread_dd: Float64[np.ndarray, "d d"] = centred_nd.T @ centred_nd / max(len(image_nd), 1)
    value_d, axis_dd = np.linalg.eigh(spread_dd)
    return axis_dd * np.sqrt(np.maximum(value_d, 0))


def grouped(meaning_td: Float32[np.ndarray, "t d"], same: float) -> list[list[int]]:
    """Labels that mean one thing, by unit rows such as those of ``meanings``.

    Each joins the first group with whose first label its product is ``same`` or more.
    """
    groups: list[list[int]] = []
    is_free_t = np.ones(len(meaning_td), bool)
    for label in range(len(meaning_td)):
        if is_free_t[label]:
            joins_t = is_free_t & (meaning_td @ meaning_td[label] >= same)
            joins_t[label] = True
            is_free_t &= ~joins_t
            groups.append(np.flatnonzero(joins_t).tolist())
    return groups
