"""Labels that have kinds, such as "dog": what an image says of one is what it says of some kind.

Also which labels the probe set shows at all, and which of several is the most general.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from csp_engine.methods.depths.columns import spread_root

_BLOCK = 4096


class KindColumns:
    """For each label with kinds, an image's best value among the label's own and its kinds'.

    ``value_nw[n, w]`` is the largest of ``(x_n . T_t - mean_t) / deviation_t`` over the label
    ``label_w[w]`` and all kinds of it, where mean and deviation are those over the images: so no
    kind speaks louder than another only because its text lies closer to everything.
    """

    def __init__(
        self,
        image_nd: Float32[np.ndarray, "n d"],
        label_td: Float32[np.ndarray, "t d"],
        kinds: Mapping[int, Sequence[int]],
    ) -> None:
        self.kinds = kinds
        self.label_w: Int64[np.ndarray, " w"] = np.array(sorted(kinds), np.int64)
        self.place = {int(label): w for w, label in enumerate(self.label_w)}
        self.value_nw = np.zeros((len(image_nd), len(self.label_w)), np.float32)
        used = sorted({*kinds, *(t for below in kinds.values() for t in below)})
        if not used:
            return
        column = {t: at for at, t in enumerate(used)}
        members = [np.array([column[t] for t in (w, *kinds[w])]) for w in self.label_w.tolist()]
        image_nd = np.asarray(image_nd, np.float32)
        mean_d = image_nd.mean(axis=0, dtype=np.float64)
        mean_d = mean_d.astype(np.float32)
        text_sd = label_td[used].astype(np.float64) @ spread_root(image_nd)
        deviation_s = np.maximum(np.linalg.norm(text_sd, axis=1), 1e-6)
        text_sd = (label_td[used] / deviation_s[:, None]).astype(np.float32)
        for start in range(0, len(image_nd), _BLOCK):
            value_ns = (image_nd[start : start + _BLOCK] - mean_d) @ text_sd.T
            for w, own in enumerate(members):
                self.value_nw[start : start + _BLOCK, w] = value_ns[:, own].max(axis=1)

    def of(self, label: int) -> Float32[np.ndarray, " n"] | None:
        """An image's values of a label with kinds; None of one without."""
        place = self.place.get(label)
        return None if place is None else np.ascontiguousarray(self.value_nw[:, place])


def shown_by(
    image_nd: Float32[np.ndarray, "n d"],
    label_td: Float32[np.ndarray, "t d"],
    kinds: Mapping[int, Sequence[int]],
    *,
    among: int,
    images: int,
) -> Bool[np.ndarray, " t"]:
    """Which labels the probe set shows: themselves, or some kind of them.

    An image shows the ``among`` labels whose similarities, less their mean over the images and
    divided by their deviation, are the largest; a label is shown if ``images`` images show it.
    """
    image_nd = np.asarray(image_nd, np.float32)
    mean_d = image_nd.mean(axis=0, dtype=np.float64).astype(np.float32)
    root_dd = spread_root(image_nd)
    deviation_t = np.maximum(np.linalg.norm(label_td.astype(np.float64) @ root_dd, axis=1), 1e-6)
    text_td = (label_td / deviation_t[:, None]).astype(np.float32)
    n_labels = len(label_td)
    among = min(among, n_labels)
    count_t = np.zeros(n_labels, np.int64)
    for start in range(0, len(image_nd), _BLOCK):
        value_nt = (image_nd[start : start + _BLOCK] - mean_d) @ text_td.T
        best_nk = np.argpartition(value_nt, n_labels - among, axis=1)[:, n_labels - among :]
        count_t += np.bincount(best_nk.ravel(), minlength=n_labels)
    is_shown_t = count_t >= images
    below = [t for t, own in kinds.items() if is_shown_t[list(own)].any()]
    is_shown_t[below] = True
    return is_shown_t


def most_general(
    score_t: Float32[np.ndarray, " t"], kinds: Mapping[int, Sequence[int]], near: float | int
) -> int:
    """The label with most kinds among the best one and those that it is a kind of.

    Only such as score at least ``1 - near`` times as much as the best one; of equals the better.
    """
    best = int(score_t.argmax())
    if score_t[best] <= 0:
        return best
    above = [t for t, below in kinds.items() if best in below]
    rivals = [t for t in above if score_t[t] >= (1 - near) * score_t[best]]
    return max([best, *rivals], key=lambda t: (len(kinds.get(t, ())), score_t[t], -t))
