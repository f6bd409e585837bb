"""Labels as plain tables: one row per neuron, method and rank.

The first four columns, ``layer,unit,description,score``, are what MILAN and CLIP-Dissect write and
read; the others say which neuron, method and rank a row is about and how far to trust it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.bundle.names import chosen_layers, layer_path
from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.exchange.label_reading import read_label_table
from csp_engine.files import replacing
from csp_engine.types import LayerId, NeuronRef

__all__ = ["COLUMNS", "export_labels", "json_value", "label_rows", "read_label_table", "write_rows"]

COLUMNS = (
    "layer",
    "unit",
    "description",
    "score",
    "neuron",
    "model",
    "pooling",
    "method",
    "rank",
    "margin",
    "percentile",
    "best_percentile",
    "reliable",
    "weight",
    "group",
    "score_name",
)
"""Columns of an exported table. ``layer`` is the module path (with ``+name`` for an autoencoder),
``neuron`` is ``model/layer/unit`` as in the address of its page, ``rank`` counts from 1, and
``reliable`` says whether the neuron's best label beats labels of random image sets. ``weight``,
``group`` and ``score_name`` are what imported labels bring: the weight of a concept in a sum, the
neurons that a label is of, and what the scores are called there."""


def label_rows(
    bundle: Bundle,
    *,
    methods: Sequence[str] | None = None,
    model: str | None = None,
    layers: Sequence[str] | None = None,
    n_labels: int = 1,
) -> pd.DataFrame:
    """The stored labels as one table with the columns of ``COLUMNS``.

    Neurons without evidence have no row. Nothing is rounded.

    Args:
        bundle: an open bundle.
        methods: names of label methods; all by default.
        model: name of one target model; all by default.
        layers: layer ids (``layer4@mean``) or bare module paths; all by default.
        n_labels: labels per neuron and method, best first.

    Raises:
        InputError: if a name is not in the bundle, or ``n_labels`` is not positive.
    """
    return LabelTable.of(bundle, methods, model, layers, n_labels).rows()


@dataclass(frozen=True, slots=True, eq=False)
class LabelTable:
    """The table of ``label_rows``, of which only the rows that are asked for are made.

    ``parts`` are model, layer and method with their numbers of rows.
    """

    bundle: Bundle
    parts: tuple[tuple[str, str, str, int], ...]
    n_labels: int

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        methods: Sequence[str] | None,
        model: str | None,
        layers: Sequence[str] | None,
        n_labels: int,
    ) -> LabelTable:
        """The table as ``label_rows`` is asked for it; raises the same."""
        if n_labels < 1:
            raise InputError(f"Cannot export {n_labels} labels per neuron; ask for 1 or more.")
        chosen = chosen_layers(bundle, model, layers)
        known = {m for name, layer in chosen for m in bundle.methods(name, layer)}
        for method in methods or ():
            if method not in known:
                raise InputError(
                    f"There are no labels by method {method!r} in {bundle.name}; "
                    f"it has {', '.join(sorted(known)) or 'none yet'}."
                )
        parts = tuple(
            (name, layer, method, int(_n_rows(bundle, name, layer, method, n_labels).sum()))
            for name, layer in chosen
            for method in bundle.methods(name, layer)
            if methods is None or method in methods
        )
        if not parts:
            raise InputError(
                f"Bundle {bundle.name} has no labels to export; "
                f"make some with: csp label {quote(str(bundle.path))}"
            )
        return cls(bundle, parts, n_labels)

    def __len__(self) -> int:
        return sum(n for *_, n in self.parts)

    def rows(self, start: int = 0, stop: int | None = None) -> pd.DataFrame:
        """The rows from one up to another; by default all."""
        found, first = [], 0
        stop = len(self) if stop is None else stop
        for model, layer, method, n in self.parts:
            own = slice(max(0, start - first), min(n, stop - first))
            if own.start < own.stop:
                found.append(_method_rows(self.bundle, model, layer, method, self.n_labels, own))
            first += n
        if not found:
            found = [_method_rows(self.bundle, *self.parts[0][:3], self.n_labels, slice(0, 0))]
        return pd.concat(found, ignore_index=True)


def _n_rows(bundle: Bundle, model: str, layer: str, method: str, n_labels: int) -> np.ndarray:
    """How many of its labels each unit gives rows of."""
    scores = bundle.scores(model, layer, method)
    return np.minimum(np.asarray(scores.count_u), min(n_labels, scores.label_uk.shape[1]))


def export_labels(
    bundle: Bundle,
    out_path: Path,
    *,
    file_format: str | None = None,
    methods: Sequence[str] | None = None,
    model: str | None = None,
    layers: Sequence[str] | None = None,
    n_labels: int = 1,
) -> int:
    """Write ``label_rows`` to a file and return how many rows it has.

    Parquet and JSON lines hold texts exactly as the bundle does. In CSV, a text that a spreadsheet
    would take for a formula gets an apostrophe in front, which ``read_label_table`` takes away.

    Args:
        bundle: an open bundle.
        out_path: replaced if it exists, and only once the new file is whole.
        file_format: ``csv``, ``parquet`` or ``jsonl``; by default what the file's name ends with.
        methods: this and the following as in ``label_rows``.
        model: one target model.
        layers: layer ids or module paths.
        n_labels: labels per neuron and method.

    Raises:
        InputError: if the format is unknown, a name is not in the bundle, or the file cannot be
            written.
    """
    rows = label_rows(bundle, methods=methods, model=model, layers=layers, n_labels=n_labels)
    return write_rows(rows, out_path, file_format)


def write_rows(rows: pd.DataFrame, out_path: Path, file_format: str | None = None) -> int:
    """Write a table to a file, which is replaced only once the new one is whole.

    Raises:
        InputError: if the format is unknown or the file cannot be written.
    """
    write = _by_format(_WRITERS, file_format or out_path.suffix.removeprefix("."), out_path)
    temporary = out_path.with_name(f".{out_path.name}.partial")
    try:
        out_path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out_path, temporary):
            write(rows, temporary)
    except OSError as error:
        raise InputError(
            f"Cannot write {out_path} ({error.strerror}); choose another file."
        ) from error
    return len(rows)


def _method_rows(
    bundle: Bundle, model: str, layer: str, method: str, n_labels: int, own: slice
) -> pd.DataFrame:
    """Some of the rows of a layer by a method."""
    scores = bundle.scores(model, layer, method)
    labels = bundle.method_labels(model, layer, method)
    texts = labels["text"].to_numpy()
    weight_uk = bundle.imported_weights(model, layer, method)
    facts = bundle.stage(kinds.SCORES.name(model, layer, method)).facts
    n_u = _n_rows(bundle, model, layer, method, n_labels)
    end_u = np.cumsum(n_u)
    row_r = np.arange(own.start, own.stop)
    unit_r = np.searchsorted(end_u, row_r, side="right")
    rank_r = row_r - (end_u - n_u)[unit_r]
    here = (unit_r, rank_r)
    values: dict[str, Any] = {
        "layer": layer_path(layer),
        "unit": unit_r,
        "description": texts[np.asarray(scores.label_uk[here])],
        "score": scores.score_uk[here],
        "neuron": [str(NeuronRef(model, layer, int(u))) for u in unit_r],
        "model": model,
        "pooling": LayerId.parse(layer).pooling,
        "method": method,
        "rank": rank_r + 1,
        "margin": scores.margin_uk[here],
        "percentile": scores.percentile_uk[here],
        "best_percentile": scores.best_percentile_u[unit_r],
        "reliable": scores.reliable_u[unit_r],
        "weight": np.nan if weight_uk is None else weight_uk[here],
        "group": labels["group"].to_numpy()[scores.label_uk[here]] if "group" in labels else "",
        "score_name": facts.get("score_name", "score"),
    }
    return pd.DataFrame(values, columns=list(COLUMNS))


def _write_csv(rows: pd.DataFrame, path: Path) -> None:
    path.write_text(csv_text(rows), encoding="utf-8", newline="")


def _write_jsonl(rows: pd.DataFrame, path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        for row in zip(*(list(rows[column].to_numpy()) for column in rows.columns), strict=True):
            plain = {key: json_value(value) for key, value in zip(rows.columns, row, strict=True)}
            out.write(json.dumps(plain, ensure_ascii=False) + "\n")


def json_value(value: Any) -> Any:
    """A cell as JSON has it: a float32 keeps its short spelling, what is not known is null."""
    if isinstance(value, (float, np.floating)):
        return numbers.short_float(value)
    return value.item() if isinstance(value, np.generic) else value


def _write_parquet(rows: pd.DataFrame, path: Path) -> None:
    rows.to_parquet(path, index=False)


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "jsonl": _write_jsonl,
}


def _by_format(table: dict[str, Callable[..., Any]], name: str, path: Path) -> Callable[..., Any]:
    try:
        return table[name.lower()]
    except KeyError:
        raise InputError(
            f"{name or path.name!r} is not a table format; use one of {', '.join(table)}."
        ) from None
