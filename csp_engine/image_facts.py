"""What is known about probe images, in words, and which of it exemplars share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.enrichment import Enrichment, enriched

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
    """What may be counted of images: class, flags and columns of few values, one row each.

    ``has_pn`` says which image has which, and ``is_known_pn`` of which image that is known.
    """

    names: list[str]
    has_pn: np.ndarray
    is_known_pn: np.ndarray
    flags: frozenset[str]


def properties_of(images: pd.DataFrame) -> Properties:
    """The properties of the probe images."""
    names: list[str] = []
    rows: list[np.ndarray] = []
    known: list[np.ndarray] = []
    flags = []
    for column in images.columns:
        values = images[column]
        if column in OWN_COLUMNS | {"group", "split"}:
            continue
        if _is_flag(values):
            flags.append(str(column))
            names.append(_words(column))
            rows.append((values == 1).to_numpy(bool))
            known.append(values.notna().to_numpy(bool))
        elif not pd.api.types.is_numeric_dtype(values):
            texts = values.dropna().astype(str)
            # What no two images share, such as the name of a mask, is no property either.
            if column != "class" and (texts.nunique() > MAX_LEVELS or texts.is_unique):
                continue
            for text in sorted(texts.unique()):
                names.append(f"{_words(column)}: {text}")
                rows.append((values.astype(object) == text).to_numpy(bool))
                known.append(values.notna().to_numpy(bool))
    nothing = np.zeros((0, len(images)), bool)
    has_pn, is_known_pn = (np.stack(each) if each else nothing for each in (rows, known))
    return Properties(names, has_pn, is_known_pn, frozenset(flags))


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
    return enriched(known.names, known.has_pn, chosen, known.is_known_pn)


def image_facts(
    images: pd.DataFrame, flags: frozenset[str], image: int
) -> tuple[tuple[str, str], ...]:
    """What is known about a probe image: class, group, what it shows, then its file."""
    row = images.iloc[image]
    first = [(name, str(row[name])) for name in ("class", "group", "split") if _has(row, name)]
    present = [_words(name) for name in row.index if name in flags and row[name] == 1]
    if flags:
        first.append(("shows", ", ".join(present) or "none of what is marked"))
    done = OWN_COLUMNS | flags | {"class", "group", "split"}
    others = [
        (_words(name), str(value))
        for name, value in row.items()
        if name not in done and pd.notna(value)
    ]
    size = [("size", f"{row['width']} × {row['height']}")] if _has(row, "width") else []
    file = [("file", str(row["file"]))] if _has(row, "file") else []
    return (*first, *others[:8], *file, *size, ("image", str(image)))


def _has(row: pd.Series, name: str) -> bool:
    return name in row and pd.notna(row[name])
