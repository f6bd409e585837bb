"""What is known about probe images, in words, and which of it exemplars share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.stats.enrichment import NONE, UNKNOWN, Enrichment, enriched

MAX_LEVELS = 24
"""A column of text with more different values than this is no property to count."""
OWN_COLUMNS = frozenset(
    [
        "file",
        "sha256",
        "perceptual_hash",
        "listed",
        "duplicate_of",
        "duplicate_group",
        "width",
        "height",
        "thumb_bytes",
    ]
)
"""Columns that describe files, not what is in the images."""


@dataclass(frozen=True, slots=True)
class Properties:
    """What may be counted of images: class, flags and columns of few values.

    ``column_p`` says which column each comes from; ``property_cn`` has one row for each of these
    columns, see ``enriched``.
    """

    names: list[str]
    column_p: np.ndarray
    property_cn: np.ndarray
    flags: frozenset[str]


def properties_of(images: pd.DataFrame) -> Properties:
    """The properties of the probe images."""
    names: list[str] = []
    column_p: list[int] = []
    rows: list[np.ndarray] = []
    flags = []
    for column in images.columns:
        values = images[column]
        if column in OWN_COLUMNS | {"group", "split"}:
            continue
        if _is_flag(values):
            flags.append(str(column))
            has_it = (values == 1).fillna(False).to_numpy(bool)
            code_n = np.where(has_it, 0, np.where(values.isna(), UNKNOWN, NONE))
            found = [_words(column)]
        elif not pd.api.types.is_numeric_dtype(values):
            text_n = values.astype(object).where(values.isna(), values.astype(str))
            code_n, texts = pd.factorize(text_n, sort=True)
            is_known_n = code_n >= 0
            # What no two images share, such as the name of a mask, is no property either.
            is_unique = len(texts) == int(is_known_n.sum())
            if column != "class" and (len(texts) > MAX_LEVELS or is_unique):
                continue
            code_n = np.where(is_known_n, code_n, UNKNOWN)
            found = [f"{_words(column)}: {text}" for text in texts]
        else:
            continue
        column_p += [len(rows)] * len(found)
        rows.append(np.where(code_n >= 0, code_n + len(names), code_n).astype(np.int32))
        names += found
    property_cn = np.stack(rows) if rows else np.zeros((0, len(images)), np.int32)
    return Properties(names, np.array(column_p, np.int64), property_cn, frozenset(flags))


def _is_flag(values: pd.Series) -> bool:
    is_number = pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values)
    return is_number and bool(values.dropna().isin((0, 1)).all()) and bool((values == 1).any())


def _words(column: object) -> str:
    return str(column).replace("_", " ")


def shared_properties(
    images: pd.DataFrame, known: Properties, chosen: np.ndarray
) -> list[Enrichment]:
    """What chosen images, strongest first, have more often than all; one of each group counts."""
    for column in ("group", "duplicate_group"):
        if column in images:
            keys = images[column].iloc[chosen]
            chosen = chosen[~(keys.duplicated() & keys.notna()).to_numpy()]
    return enriched(known.names, known.column_p, known.property_cn, chosen)


def image_facts(
    images: pd.DataFrame, flags: frozenset[str], chosen: Sequence[int]
) -> list[tuple[tuple[str, str], ...]]:
    """What is known about some probe images: class, group, what each shows, then its file.

    For many at once, because a table is slow row by row.
    """
    columns = list(images.columns)
    values_mc = images.take(list(chosen)).to_numpy(object)
    return [
        _facts_of(dict(zip(columns, values, strict=True)), flags, image)
        for values, image in zip(values_mc, chosen, strict=True)
    ]


def _facts_of(
    row: Mapping[str, Any], flags: frozenset[str], image: int
) -> tuple[tuple[str, str], ...]:
    first = [(name, str(row[name])) for name in ("class", "group", "split") if _has(row, name)]
    present = [_words(name) for name in row if name in flags and row[name] == 1]
    if flags:
        first.append(("shows", ", ".join(present) or "none of what is marked"))
    done = OWN_COLUMNS | flags | {"class", "group", "split"}
    others = [
        (_words(name), str(row[name])) for name in row if name not in done and _has(row, name)
    ]
    size = [("size", f"{row['width']} × {row['height']}")] if _has(row, "width") else []
    file = [("file", str(row["file"]))] if _has(row, "file") else []
    return (*first, *others[:8], *file, *size, ("image", str(image)))


def _has(row: Mapping[str, Any], name: str) -> bool:
    return name in row and bool(pd.notna(row[name]))
