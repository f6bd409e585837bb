"""Labels as plain tables: one row per neuron, method and rank.

The first four columns, ``layer,unit,description,score``, are what MILAN and CLIP-Dissect write and
read; the others say which neuron, method and rank a row is about and how far to trust it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.bundle.layer_names import chosen_layers, layer_path
from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.files import replacing
from csp_engine.reading.tables import key_of, read_table
from csp_engine.types import LayerId, NeuronRef

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
)
"""Columns of an exported table. ``layer`` is the module path (with ``+name`` for an autoencoder),
``neuron`` is ``model/layer/unit`` as in the address of its page, ``rank`` counts from 1, and
``reliable`` says whether the neuron's best label beats labels of random image sets."""


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
    parts = [
        _method_rows(bundle, name, layer, method, n_labels)
        for name, layer in chosen
        for method in bundle.methods(name, layer)
        if methods is None or method in methods
    ]
    if not parts:
        raise InputError(
            f"Bundle {bundle.name} has no labels to export; make some with: csp label {bundle.path}"
        )
    return pd.concat(parts, ignore_index=True)


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


def read_label_table(path: Path, *, layer: str | None = None) -> pd.DataFrame:
    """Read labels that another tool, or ``export_labels``, wrote.

    Understood are CSV, TSV, JSON lines and Parquet with the columns ``layer,unit,description`` and
    perhaps ``score`` or ``similarity`` (MILAN, CLIP-Dissect), or ``Neuron ID`` with ``label`` or
    ``Label 1``, ``Label 2``, … (Describe-and-Dissect). Ranks come from a ``rank`` column, else from
    falling scores, else from the order of the rows.

    Args:
        path: the table.
        layer: the layer of all rows, for tables that do not say it.

    Returns:
        Columns ``layer`` (str), ``unit`` (int64), ``rank`` (int64, from 1), ``description`` (str),
        ``score`` (float64, NaN where unknown), and ``model``, ``pooling``, ``method`` where the
        table has them; sorted by layer, unit and rank.

    Raises:
        InputError: if the file cannot be read, or a row lacks a layer, a unit or a description;
            the sentence names the row.
    """
    if not path.is_file():
        raise InputError(
            f"There is no label table at {path}; give a CSV, TSV, JSONL or Parquet file."
        )
    raw = read_table(path).rows
    raw.columns = [key_of(str(c)) for c in raw.columns]
    rows = _long_rows(raw, path.name, layer)
    rows["rank"] = _ranks(rows, path.name)
    kept = ["layer", "unit", "rank", "description", "score"]
    kept += [c for c in ("model", "pooling", "method") if c in rows.columns]
    return rows[kept].sort_values(["layer", "unit", "rank"], kind="stable", ignore_index=True)


def _method_rows(
    bundle: Bundle, model: str, layer: str, method: str, n_labels: int
) -> pd.DataFrame:
    scores = bundle.scores(model, layer, method)
    texts = bundle.method_labels(model, layer, method)["text"].to_numpy()
    width = min(n_labels, scores.label_uk.shape[1])
    shown_uk = np.arange(width) < np.asarray(scores.count_u)[:, None]
    unit_r, rank_r = np.nonzero(shown_uk)
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
    }
    return pd.DataFrame(values, columns=list(COLUMNS))


def _write_csv(rows: pd.DataFrame, path: Path) -> None:
    path.write_text(csv_text(rows), encoding="utf-8", newline="")


def _write_jsonl(rows: pd.DataFrame, path: Path) -> None:
    with path.open("w", encoding="utf-8") as out:
        for row in zip(*(list(rows[column].to_numpy()) for column in rows.columns), strict=True):
            plain = {key: _json_value(value) for key, value in zip(rows.columns, row, strict=True)}
            out.write(json.dumps(plain, ensure_ascii=False) + "\n")


def _json_value(value: Any) -> Any:
    if isinstance(value, np.floating):
        # Through the text, so that a float32 keeps its short spelling; NaN has none in JSON.
        return float(str(value)) if math.isfinite(value) else None
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


def _long_rows(raw: pd.DataFrame, name: str, layer: str | None) -> pd.DataFrame:
    """One row per description, whatever the shape of the table."""
    unit_column = next((c for c in ("unit", "neuron_id") if c in raw.columns), None)
    ranked = sorted(
        (c for c in raw.columns if re.fullmatch(r"label_\d+", c)), key=lambda c: int(c[6:])
    )
    text_columns = [c for c in ("description", "label") if c in raw.columns][:1] or ranked
    if unit_column is None or not text_columns:
        raise InputError(
            f"{name} has the columns {', '.join(raw.columns) or 'none'}; it needs 'layer', 'unit' "
            "and 'description' (or 'Neuron ID' and 'Label 1')."
        )
    if raw.empty:
        raise InputError(f"{name} has no rows; give a table with at least one description.")
    if "layer" not in raw.columns:
        if layer is None:
            raise InputError(
                f"{name} does not say which layer its units belong to; name it with --layer."
            )
        raw = raw.assign(layer=layer)
    score_column = next((c for c in ("score", "similarity") if c in raw.columns), None)
    several = len(text_columns) > 1
    parts = []
    for place, column in enumerate(text_columns):
        part = pd.DataFrame(
            {
                "line": np.arange(len(raw)) + 1,
                "place": place,
                "layer": raw["layer"].map(_text),
                "unit": _units(raw[unit_column], name),
                "description": raw[column].map(_text),
                "score": np.nan
                if score_column is None or several
                else _numbers(raw[score_column], name, score_column),
            }
        )
        for extra in ("rank", "model", "pooling", "method"):
            if extra in raw.columns and not several:
                part[extra] = (
                    _numbers(raw[extra], name, extra) if extra == "rank" else raw[extra].map(_text)
                )
        # A blank in 'Label 2' is a unit with fewer labels; a blank in the first is a mistake.
        parts.append(part[part["description"] != ""] if place else part)
    rows = pd.concat(parts, ignore_index=True).sort_values(["line", "place"], ignore_index=True)
    for column in ("layer", "description"):
        blank = rows.loc[rows[column] == "", "line"]
        if len(blank):
            raise InputError(
                f"Row {blank.iloc[0]} of {name} has no {column}; fill it in or remove it."
            )
    return rows


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _units(column: pd.Series, name: str) -> np.ndarray:
    texts = column.map(_text)
    bad = ~texts.str.fullmatch(r"\d{1,9}(\.0+)?", case=True)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"Row {row + 1} of {name} has the unit {texts.iloc[row]!r}; "
            "a unit is a whole number from 0 up."
        )
    return texts.str.partition(".")[0].astype("int64").to_numpy()


def _numbers(column: pd.Series, name: str, what: str) -> np.ndarray:
    texts = column.map(_text)
    numbers = pd.to_numeric(texts.where(texts != "", "nan"), errors="coerce")
    bad = numbers.isna() & (texts != "") & (texts.str.lower() != "nan")
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"Row {row + 1} of {name} has the {what} {texts.iloc[row]!r}, which is not a number."
        )
    return numbers.to_numpy(np.float64)


def _ranks(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Ranks from 1 within each layer and unit."""
    keys = ["layer", "unit", *(c for c in ("model", "pooling") if c in rows.columns)]
    if "method" in rows.columns and rows["method"].nunique() > 1:
        several = ", ".join(sorted(rows["method"].unique()))
        raise InputError(
            f"{name} holds labels of several methods ({several}); keep one method per table."
        )
    by = "rank" if "rank" in rows.columns and rows["rank"].notna().all() else "score"
    ordered = rows.sort_values(by, ascending=by == "rank", kind="stable", na_position="last")
    doubled = ordered.duplicated([*keys, "rank"]) if by == "rank" else pd.Series(dtype=bool)
    if doubled.any():
        row = ordered[doubled].iloc[0]
        raise InputError(
            f"{name} has two descriptions of rank {row['rank']:g} for unit {row['unit']} of layer "
            f"{row['layer']!r}; give each its own rank."
        )
    return (ordered.groupby(keys, sort=False).cumcount() + 1).sort_index().to_numpy("int64")
