"""What is known about probe images, in words, and which of it may be counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.stats.enrichment import NONE, UNKNOWN
from csp_engine.types import NeuronRef
from csp_engine.views.images.tiles import Facts
from csp_engine.views.memo import Memo

MOST_KEPT = 5000
"""Images whose facts are kept at once."""
BRIEF = ("class", "group", "split", "shows", "file")
"""Facts that stand where there is room for a line only, with a few of the others."""
N_BRIEF_OTHERS = 2
CONTROL, SHARE = "control_", "share_"
"""What columns of a table of simulated images begin with: what was asked for, and what shows of it.
"""
NEARLY_ALL = 0.995
"""A share that rounds to all of them, of which it is not known that it is."""
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


def properties(bundle: Bundle, memo: Memo) -> Properties:
    """The properties of a bundle's probe images."""
    return memo.once(("properties", bundle.digest), lambda: properties_of(bundle.images()))


def properties_of(images: pd.DataFrame) -> Properties:
    """The properties of the images of a table."""
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


class ActivationFacts:
    """What is known about an image beside one neuron: its activation among all, then the image."""

    def __init__(self, bundle: Bundle, memo: Memo, neuron: NeuronRef) -> None:
        self.bundle = bundle
        self.memo = memo
        self._sorted_n: np.ndarray | None = None
        self._quantile_q: np.ndarray | None = None
        model, layer, unit = neuron.model, neuron.layer, neuron.unit
        stage = kinds.ACTIVATIONS.name(model, layer)
        if bundle.has(stage) and not bundle.stage(stage).omitted:
            self._sorted_n = np.sort(np.asarray(bundle.activations(model, layer)[unit]))
        elif bundle.has(stage):  # a slim copy still has some quantiles
            self._quantile_q = np.asarray(bundle.quantiles(model, layer)[unit])
            held = bundle.stage(kinds.NEURONS.name(model, layer)).facts
            self._level_q = np.asarray(held["quantile_levels"])

    def of(self, image: int, activation: float) -> Facts:
        """Activation and its place among all probe images, then the image itself."""
        rows = [("activation", numbers.activation(activation))]
        if self._sorted_n is not None:
            n_images = len(self._sorted_n)
            n_below = int(np.searchsorted(self._sorted_n, np.float32(activation)))
            share = f"{numbers.percentile(n_below / n_images, n_images)} of {n_images:,} images"
            rows.append(("stronger than", share if n_below < n_images - 1 else "all other images"))
        elif self._quantile_q is not None:
            level = float(np.interp(activation, self._quantile_q, self._level_q))
            share = "nearly all" if level >= NEARLY_ALL else f"about {100 * level:.0f} %"
            rows.append(("stronger than", f"{share} of {self.bundle.n_images:,} images"))
        return (*rows, *known_facts(self.bundle, self.memo, [image])[image])


def known_facts(bundle: Bundle, memo: Memo, images: Iterable[int]) -> dict[int, Facts]:
    """What is known about some probe images: class, group, what each shows, then its file.

    Kept, because neighbours share their images; asked for many at once, a table is read faster.
    """
    known = memo.once(("image facts", bundle.digest), dict)
    found = {image: known.get(image) for image in map(int, images)}
    new = [image for image, facts in found.items() if facts is None]
    if new:
        rows = image_facts(bundle.images(), properties(bundle, memo).flags, new)
        fresh = dict(zip(new, rows, strict=True))
        found.update(fresh)
        if len(known) + len(fresh) > MOST_KEPT:
            known.clear()
        known.update(fresh)
    return found


def brief(facts: Facts) -> Facts:
    """The facts about an image that matter most, for a line of text."""
    first = [each for each in facts if each[0] in BRIEF]
    others = [each for each in facts if each[0] not in (*BRIEF, "pixels", "image")]
    return (*first, *others[:N_BRIEF_OTHERS])


def image_facts(images: pd.DataFrame, flags: frozenset[str], chosen: Sequence[int]) -> list[Facts]:
    """What is known about some probe images: class, group, what each shows, then its file.

    For many at once, because a table is slow row by row.
    """
    columns = list(images.columns)
    values_mc = images.take(list(chosen)).to_numpy(object)
    return [
        _facts_of(dict(zip(columns, values, strict=True)), flags, image)
        for values, image in zip(values_mc, chosen, strict=True)
    ]


def _facts_of(row: Mapping[str, Any], flags: frozenset[str], image: int) -> Facts:
    first = [(name, str(row[name])) for name in ("class", "group", "split") if _has(row, name)]
    present = [_words(name) for name in row if name in flags and row[name] == 1]
    if flags:
        first.append(("shows", ", ".join(present) or "none of the concepts in the table"))
    done = OWN_COLUMNS | flags | {"class", "group", "split"}
    others = [_told(name, row[name]) for name in row if name not in done and _has(row, name)]
    size = [("pixels", f"{row['width']} × {row['height']}")] if _has(row, "width") else []
    file = [("file", str(row["file"]))] if _has(row, "file") else []
    return (*first, *others[:8], *file, *size, ("image", str(image)))


def _told(name: str, value: Any) -> tuple[str, str]:
    """Another column in words; those of simulated images without what they begin with."""
    if name.startswith(CONTROL) and isinstance(value, (int, float)):
        return re.sub("^n ", "number of ", _words(name.removeprefix(CONTROL))), f"{value:.4g}"
    if name.startswith(SHARE) and isinstance(value, (int, float)) and 0 <= value <= 1:
        return f"{_words(name.removeprefix(SHARE))} covers", numbers.share(float(value))
    return _words(name), str(value)


def _has(row: Mapping[str, Any], name: str) -> bool:
    return name in row and bool(pd.notna(row[name]))
