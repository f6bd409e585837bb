"""The columns of a probe set that units are compared with, and what of it goes with each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from csp_engine.evaluation.associations.confounding import (
    Together,
    kin,
    levels_of,
    what_goes_with,
)
from csp_engine.evaluation.associations.measuring import Asked
from csp_engine.reading.groups import joined

CONCEPT, CLASS = "concept", "class"
_OWN = frozenset(
    {
        "file", "sha256", "split", "group", "listed", "width", "height", "perceptual_hash",
        "duplicate_of", "duplicate_group", "thumb_bytes",
    }
)  # fmt: skip
"""Columns that identify images or say nothing of what they show."""


@dataclass(frozen=True, slots=True, eq=False)
class ColumnsAsked:
    """Concept columns, then classes; what each is called, and the strongest that goes with it.

    ``beside`` leaves out columns of the same kind and those that cannot be told apart from it;
    None where nothing goes with a column.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    asked: Asked
    beside: tuple[Together | None, ...]


def columns_asked(
    images: pd.DataFrame,
    concepts: Sequence[str],
    left_out: Sequence[str] = (),
    *,
    as_before: bool = False,
) -> ColumnsAsked:
    """What a probe set asks of units.

    Args:
        images: one row per image: concept columns, ``class``, ``group``, ``duplicate_of`` and
            metadata, each where there is any.
        concepts: names of the concept columns.
        left_out: columns that say nothing of what images show, such as names of masks.
        as_before: as ``levels_of``.
    """
    value_nc = images[list(concepts)].to_numpy(np.float32).reshape(len(images), len(concepts))
    classes: list[str] = []
    if "class" in images:
        class_n = images["class"]
        classes = sorted(str(name) for name in class_n.dropna().unique())
        shown_nc = np.stack([(class_n == name).to_numpy(np.float32) for name in classes], axis=1)
        shown_nc[class_n.isna().to_numpy()] = np.nan
        value_nc = np.concatenate([value_nc, shown_nc], axis=1)
    names = (*map(str, concepts), *classes)
    is_kin_cc = np.eye(len(names), dtype=bool)
    n = len(concepts)
    is_kin_cc[:n, :n] = kin(value_nc[:, :n])
    levels = levels_of(images, concepts, (*_OWN, *left_out), as_before=as_before)
    stratum_nc = np.zeros(value_nc.shape, np.int64)
    beside = []
    for c in range(len(names)):
        found = _beside(c, names, n, value_nc, is_kin_cc, levels)
        beside.append(found)
        if found is not None:
            stratum_nc[:, c] = levels[found.name]
    kinds = (CONCEPT,) * n + (CLASS,) * len(classes)
    asked = Asked(value_nc, is_kin_cc, stratum_nc, groups_of(images))
    return ColumnsAsked(names, kinds, asked, tuple(beside))


def groups_of(images: pd.DataFrame) -> Int[np.ndarray, " n"] | None:
    """Images that belong together, by number; None if all differ.

    Those of one group do, and copies of one another, whichever groups they are listed in; and so do
    those that belong together with a third.
    """
    n = len(images)
    key_kn = []
    if "duplicate_of" in images:
        key_kn.append(images["duplicate_of"].to_numpy(np.int64))
    if "group" in images:
        key_kn.append(pd.factorize(images["group"])[0])
    number_n, found = pd.factorize(joined(key_kn, n))
    return None if len(found) == n else number_n.astype(np.int64)


def related(is_kin_cc: Bool[np.ndarray, "c c"]) -> Bool[np.ndarray, "c c"]:
    """Columns of one kind, and those that share a kind, such as blue and green patches."""
    kin = is_kin_cc.astype(np.int64)
    return kin @ kin > 0


def _beside(
    c: int,
    names: tuple[str, ...],
    n_concepts: int,
    value_nc: np.ndarray,
    is_kin_cc: np.ndarray,
    levels: dict[str, np.ndarray],
) -> Together | None:
    own_n = np.nan_to_num(value_nc[:, c], nan=-1).astype(np.int64)
    of_kind = {names[d] for d in np.flatnonzero(related(is_kin_cc)[c]) if d < n_concepts}
    if c >= n_concepts:
        of_kind = {"class"}
    others = {name: level for name, level in levels.items() if name not in of_kind}
    found = what_goes_with(own_n, others)
    return next((each for each in found if not each.is_same), None)
