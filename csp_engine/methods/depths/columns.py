"""What a label says about each probe image, by the encoder alone: its *pseudo-column*."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32, Float64

from csp_engine.stats.otsu import otsu
from csp_engine.vectors import normalise_rows

_MOST_BYTES = 256 << 20


def correlation(
    x_n: np.ndarray, y_n: np.ndarray, rows: Bool[np.ndarray, " n"] | None = None
) -> float:
    """Pearson's r, in float64; 0 where either is constant or fewer than three rows are left."""
    x_n, y_n = (np.asarray(a if rows is None else a[rows], np.float64) for a in (x_n, y_n))
    if len(x_n) < 3:
        return 0.0
    x_n, y_n = x_n - x_n.mean(), y_n - y_n.mean()
    scale = np.sqrt(np.dot(x_n, x_n) * np.dot(y_n, y_n))
    return float(np.dot(x_n, y_n) / scale) if scale > 1e-12 * max(len(x_n), 1) else 0.0


class LabelColumns:
    """Similarity of every image with a label, and where it is above Otsu's threshold.

    Columns are made when asked for, and the latest are kept, within 256 MB. ``given`` gives the
    similarities of labels that have other ones than the product of the vectors.
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
        self._kept: OrderedDict[int, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._most = max(8, _MOST_BYTES // (5 * max(1, len(image_nd))))

    def of(self, label: int) -> tuple[Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Similarities with the label, and which images show it."""
        if label in self._kept:
            self._kept.move_to_end(label)
            return self._kept[label]
        similarity_n = self.given(label)
        if similarity_n is None:
            similarity_n = self.image_nd @ self.label_td[label]
        made = similarity_n, similarity_n > otsu(similarity_n)
        self._kept[label] = made
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return made


def whole_of(
    columns: LabelColumns,
    score_t: Float32[np.ndarray, " t"],
    activation_n: Float32[np.ndarray, " n"],
    may_be_t: Bool[np.ndarray, " t"],
    *,
    near: float,
    holds: float,
    larger: float,
) -> int | None:
    """A label of which the best one is only a frequent part, if the unit answers to the whole.

    The best label A is a *part* of B where nearly all images of A show B too (``P(B | A) >=
    holds``) and B is shown by ``larger`` times as many. Whichever explains the activation where the
    other is no help is what the unit answers to: B, if the activation follows B outside A more than
    it follows A within B. Looked for among labels that score at least ``near`` times as much as A;
    of several, the one that scores most; only labels of ``may_be_t``.
    """
    best = int(score_t.argmax())
    if score_t[best] <= 0:
        return None
    part_n, in_part_n = columns.of(best)
    n_part = np.count_nonzero(in_part_n)
    rivals = np.flatnonzero(may_be_t & (score_t >= near * score_t[best]))
    for rival in rivals[np.argsort(-score_t[rivals], kind="stable")]:
        if rival == best:
            continue
        whole_n, in_whole_n = columns.of(int(rival))
        n_both = np.count_nonzero(in_part_n & in_whole_n)
        if n_both < holds * n_part or np.count_nonzero(in_whole_n) <= larger * n_part:
            continue
        if correlation(activation_n, part_n, in_whole_n) < correlation(
            activation_n, whole_n, ~in_part_n
        ):
            return int(rival)
    return None


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
