"""Whether the label methods say the same of a neuron, in other words too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.views.controls import SAME_AT, label_cosines
from csp_engine.views.memo import Memo

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""How far apart two texts are, pair by pair; NaN where that is not known."""


def label_distance(bundle: Bundle, memo: Memo) -> Distance:
    """1 − the cosine of two labels' vectors, less what all labels share, from 0 to 2.

    The same text is at 0 from itself; a text that is no label of the vocabulary has no vector, and
    is at no known distance from others.
    """

    def distance(one_p: np.ndarray, other_p: np.ndarray) -> np.ndarray:
        ids = bundle.label_ids
        row_p, column_p = (
            np.array([ids.get(text, -1) for text in texts], int) for texts in (one_p, other_p)
        )
        is_known_p = (row_p >= 0) & (column_p >= 0)
        apart_p = np.full(len(one_p), np.nan, np.float32)
        cosine_p = label_cosines(bundle, memo, row_p[is_known_p], column_p[is_known_p])
        apart_p[is_known_p] = np.maximum(1 - cosine_p, 0)
        return np.where(one_p == other_p, 0, apart_p).astype(np.float32)

    return distance


def disagreement(
    said: Mapping[str, np.ndarray], reliable: Mapping[str, np.ndarray], distance: Distance
) -> dict[str, np.ndarray]:
    """How far apart the reliable best labels of each unit lie, and whether two of them differ.

    ``disagreement`` is the largest distance between two of them, NaN where there are no two or none
    is known. ``disagree``: two of them are not alike to the encoder (``SAME_AT``) or, where that is
    not known, not the same text.

    Args:
        said: best label of every unit by every method, empty where there is none.
        reliable: whether it is reliable.
        distance: how far apart two texts are.
    """
    n_units = len(next(iter(said.values()), ()))
    largest_u = np.full(n_units, np.nan, np.float32)
    disagree_u = np.zeros(n_units, bool)
    for one, other in combinations(said, 2):
        both_u = reliable[one] & reliable[other] & (said[one] != "") & (said[other] != "")
        at = np.flatnonzero(both_u)
        if not len(at):
            continue
        # Pairs of labels repeat from unit to unit: each is compared once.
        code_a, texts = pd.factorize(np.concatenate([said[one][at], said[other][at]]))
        one_a, other_a = np.split(code_a, 2)
        pair_p, where_a = np.unique(one_a * len(texts) + other_a, return_inverse=True)
        first_p, second_p = texts[pair_p // len(texts)], texts[pair_p % len(texts)]
        apart_p = distance(first_p, second_p)
        differ_p = np.where(np.isnan(apart_p), first_p != second_p, apart_p > 1 - SAME_AT)
        largest_u[at] = np.fmax(largest_u[at], apart_p[where_a])
        disagree_u[at] |= differ_p[where_a]
    return {"disagreement": largest_u, "disagree": disagree_u}
