"""Whether tables of ground truth name concepts that there are, in the form they are read in."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pandas as pd


def fault_of_concepts(rows: pd.DataFrame) -> str:
    """What is wrong with a table of concepts, as the end of "concepts.parquet of STAGE …"."""
    if rows["name"].duplicated().any():
        return f"names concept {rows['name'][rows['name'].duplicated()].iloc[0]!r:.80} twice"
    for name, wordings in zip(rows["name"], rows["wordings"], strict=True):
        if not _texts(wordings):
            return f"has no list of wordings of concept {name!r:.80}"
    return ""


def fault_of_truths(rows: pd.DataFrame, names: Collection[str]) -> str:
    """What is wrong with the truths of units, as the end of "units.parquet of STAGE …"."""
    for column in ("true_concept", "concept"):
        if column not in rows:
            return f"has no column {column!r}"
        named = [value for value in rows[column] if not _is_nothing(value)]
        if strangers := [each for each in named if each not in names]:
            return f"names concept {strangers[0]!r:.80}, which there is not"
    if "planted" not in rows:
        return ""
    planted = rows[[not _is_nothing(value) for value in rows["planted"]]]
    for column in ("planted_kind", "planted_concepts"):
        if column not in rows:
            return f"has no column {column!r}"
    for kind, concepts in zip(planted["planted_kind"], planted["planted_concepts"], strict=True):
        held = _texts(concepts)
        if not isinstance(kind, str) or held is None or not set(held) <= set(names):
            return f"has a planted unit of concepts {concepts!r:.80}, which there are not"
    return ""


def _is_nothing(value: Any) -> bool:
    return value is None or value is pd.NA or value != value


def _texts(stored: Any) -> list[str] | None:
    """A JSON list of texts, or None."""
    try:
        held = json.loads(stored) if isinstance(stored, str) else None
    except (ValueError, RecursionError):
        return None
    is_list = isinstance(held, list) and all(isinstance(each, str) for each in held)
    return held if is_list else None
