"""Families: neurons whose labels mean the same, under the wording that most of them have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from csp_engine.bundle import Bundle
from csp_engine.views.controls import SAME_AT, own_labels
from csp_engine.views.memo import Memo

BLOCK = 512
"""Wordings that are compared with others at a time."""


def families(bundle: Bundle, memo: Memo, n_of: Mapping[str, int]) -> dict[str, str]:
    """The family of every wording, by name.

    Wordings come from the most frequent to the rarest, ties in the order of the alphabet. Each
    joins the first founder that it means the same as: the cosine of their vectors, less what all
    labels share, is at least ``SAME_AT``. Where there is none it founds a family, which has its
    name. So every wording means the same as the name of its family; two others of one family need
    not mean the same as each other. A text that is no label of the vocabulary stands alone.

    Args:
        bundle: holds the vectors of its vocabulary.
        memo: keeps what all labels share.
        n_of: how many neurons have each wording.
    """
    ids = bundle.label_ids
    ordered = sorted(n_of, key=lambda text: (-n_of[text], text))
    known = [text for text in ordered if text in ids]
    if not known:  # there may be no vocabulary at all
        return {text: text for text in ordered}
    founder_t = founders(own_labels(bundle, memo, [ids[text] for text in known]))
    names = {text: known[at] for text, at in zip(known, founder_t.tolist(), strict=True)}
    return {text: names.get(text, text) for text in ordered}


def founders(own_td: Float32[np.ndarray, "t d"]) -> Int64[np.ndarray, " t"]:
    """For each of some unit rows the first founder at a cosine of ``SAME_AT``, or itself.

    Rows are compared block by block: one after the other, all founders before it would be copied
    for each.
    """
    founder_t = np.arange(len(own_td))
    before = np.zeros(0, np.int64)
    for start in range(0, len(own_td), BLOCK):
        own_bd = own_td[start : start + BLOCK]
        alike_bf = own_bd @ own_td[before].T >= SAME_AT
        alike_bb = own_bd @ own_bd.T >= SAME_AT
        is_known_b = alike_bf.any(axis=1)
        if is_known_b.any():
            known = start + np.flatnonzero(is_known_b)
            founder_t[known] = before[alike_bf[is_known_b].argmax(axis=1)]
        founds_b = np.zeros(len(own_bd), bool)
        for at in np.flatnonzero(~is_known_b):
            alike_b = alike_bb[at] & founds_b
            if alike_b.any():
                founder_t[start + at] = start + int(alike_b.argmax())
            else:
                founds_b[at] = True
        before = np.concatenate([before, start + np.flatnonzero(founds_b)])
    return founder_t


def families_of(rows: pd.DataFrame) -> list[str]:
    """The families of a bundle, the largest first."""
    return [str(name) for name in rows["family"].cat.categories] if "family" in rows else []


def family_of(bundle: Bundle, memo: Memo, label: pd.Series, reliable: pd.Series) -> pd.Series:
    """The family of each neuron by its best label; none where that is not reliable.

    A category, whose values are ordered by the number of neurons, the largest first.

    Args:
        bundle: of the neurons.
        memo: as in ``families``.
        label: best label of every neuron of the bundle by one method, empty where there is none.
        reliable: whether it is reliable.
    """
    said = label.where(reliable.to_numpy(bool) & (label != "").to_numpy(bool))
    counts = said.value_counts()
    n_of = {str(text): int(n) for text, n in counts.items()}
    family = said.map(families(bundle, memo, n_of))
    n_in = family.value_counts()
    names = sorted(n_in.index, key=lambda name: (-n_in[name], name))
    return family.astype(pd.CategoricalDtype(names))
