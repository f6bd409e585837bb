"""Whether labels differ only as another machine's rounding may have them, where images are parted.

Similarities are sums, and their last digit depends on the machine. Where a method asks of every
image whether it is above a threshold, some of a million answers turn with it: a figure then moves
by what one image weighs, and of two formulas that are nearly as good the other may be the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import LOSS
from csp_engine.methods import Labelled
from csp_engine.types import LabelScores

MOST = 0.25
"""Of the sampled units, how many may differ so."""
_MOVED = ("score_uk", "raw_uk", "margin_uk", "count_u", "best_percentile_u")
_NOT_MOVED = (
    "percentile_uk", "vector_ud", "n_exemplar_u", "pool_u", "similarity_u", "reuse_u"
)  # fmt: skip


def may_be_rounding(
    bundle: Bundle,
    stage: str,
    done: Labelled,
    rows: Int[np.ndarray, " b"],
    coarse: float,
) -> bool:
    """Whether few units differ, and each names a formula that is as good but for ``coarse``."""
    if done.texts is None:
        return False
    held = {name: np.asarray(bundle.array(stage, name))[rows] for name in LabelScores.__slots__}
    own = {name: np.asarray(bundle.array(stage, name))[rows] for name in done.arrays}
    texts = bundle.table(stage, "labels")["text"].tolist()
    said = _said(held["label_uk"], held["count_u"], texts)
    fresh_said = _said(done.scores.label_uk, done.scores.count_u, done.texts)
    off_b = np.array([mine != its for mine, its in zip(said, fresh_said, strict=True)], bool)
    for name in _MOVED:
        off_b |= _off(held[name], getattr(done.scores, name), LOSS)
    for name, values in own.items():
        off_b |= _off(values, done.arrays[name], LOSS)
    if any(_off(held[name], getattr(done.scores, name), LOSS).any() for name in _NOT_MOVED):
        return False
    turned_b = (held["reliable_u"] != done.scores.reliable_u) & ~off_b
    if off_b.sum() > MOST * len(rows) or turned_b.any():
        return False
    n_images = bundle.n_images
    for b in np.flatnonzero(off_b).tolist():
        if not said[b] or said[b][0] not in fresh_said[b]:
            return False
        k = fresh_said[b].index(said[b][0])
        score_k = done.scores.score_uk[b]
        gaps = [score_k[0] - score_k[k], held["score_uk"][b, 0] - score_k[k]]
        gaps += [held["best_percentile_u"][b] - done.scores.best_percentile_u[b]]
        for name, values in own.items() if k == 0 else ():
            share = n_images if values.dtype.kind in "iu" else 1
            gaps.append((float(values[b]) - float(done.arrays[name][b])) / share)
        if np.abs(gaps).max() > coarse or not _is_ranking(held, said[b], b):
            return False
        for name in ("score_uk", "raw_uk"):
            fresh_of = dict(zip(fresh_said[b], getattr(done.scores, name)[b], strict=False))
            least = min(fresh_of.values())
            for text, value in zip(said[b], held[name][b], strict=False):
                # What is not among the best here was nearly: it is no better than they are.
                gap = value - fresh_of[text] if text in fresh_of else max(0, value - least)
                if not abs(gap) <= coarse:
                    return False
    return True


def _is_ranking(held: Mapping[str, np.ndarray], said: Sequence[str], b: int) -> bool:
    """Whether scores fall from label to label, by the margins that are kept beside them."""
    score_k, margin_k = (held[name][b, : len(said)] for name in ("score_uk", "margin_uk"))
    falls_k = score_k[:-1] - score_k[1:]
    is_near = np.allclose(margin_k[:-1], falls_k, rtol=0, atol=LOSS)
    return is_near and bool((margin_k >= -LOSS).all()) and bool((margin_k <= 1 + LOSS).all())


def _said(label_uk: np.ndarray, count_u: np.ndarray, texts: Sequence[str]) -> list[list[str]]:
    rows = zip(label_uk.tolist(), count_u.tolist(), strict=True)
    return [[texts[t] for t in label_k[:count]] for label_k, count in rows]


def _off(kept: np.ndarray, fresh: np.ndarray, loss: float) -> Bool[np.ndarray, " b"]:
    if kept.shape != fresh.shape:
        return np.ones(len(kept), bool)
    near = np.isclose(kept, fresh, rtol=0, atol=loss, equal_nan=kept.dtype.kind == "f")
    return np.asarray(~near.reshape(len(kept), -1).all(axis=1))
