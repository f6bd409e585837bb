"""Label tables of other tools as rows: one for each description of a neuron.

What the methods of this field publish differs in its columns, and says different things: several
labels in order, formulas, concepts with weights, words of a group of neurons. All of that is kept.
"""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.errors import InputError
from csp_engine.exchange.thousands import ungrouped
from csp_engine.reading.lengths import MOST_OF_LABEL, MOST_OF_NAME, require_short
from csp_engine.reading.numbers import as_ids
from csp_engine.reading.tables import NOT_KNOWN, Table, cell_text, key_of, known_text, read_table

UNIT = (
    "unit", "neuron_id", "neuron", "neuron_idx", "neuron_index", "unit_id", "feature", "feature_id",
    "feature_idx", "channel", "component", "latent",
)  # fmt: skip
UNITS = ("feature_group", "group", "units", "neurons", "features")
"""Columns that may name several units at once; the first is taken where none of ``UNIT`` is."""
TEXT = ("description", "label", "concept", "explanation", "concept_name", "caption", "annotation",
        "text", "label_name", "class_name", "name", "formula", "descriptions", "labels", "concepts",
        "explanations", "phrase", "phrases", "words", "word")  # fmt: skip
SCORE = ("score", "similarity", "sim_correlation", "metric", "auroc", "auc", "iou", "correlation",
         "mean_activation", "val_correlation", "confidence", "scores", "similarities",
         "cosine_similarity", "clip_score")  # fmt: skip
"""Names of columns, in the spelling of ``tables.key_of``; the first that a table has is taken."""

_KNOWN = frozenset({*UNIT, *UNITS, *TEXT, *SCORE, "layer", "rank", "weight"})

_NUMBERED = re.compile(r"(label|description|concept|explanation)_?(\d+)")
_WORDS = re.compile(r"\b(AND|OR|NOT)\b")
_SIGNS = re.compile(
    r"[~¬∧∨|]|&&|\(.*\s&\s.*\)|(&\s*|\b(and|or)\s+)\(*not\b|^\(*not\s*\(", re.IGNORECASE
)
_MOST_LITERAL = 1_000_000
_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class _Said:
    """One thing a cell says, with what stands beside it."""

    text: str
    score: float = math.nan
    weight: float = math.nan


def read_label_table(path: Path, *, layer: str | None = None) -> pd.DataFrame:
    """Read labels that another tool, or ``export_labels``, wrote.

    Any form of ``csp_engine.reading.tables``. A row names a unit (or a group of units) and says
    something about it: one description; several in numbered columns, perhaps with a weight each; or
    a list of them, perhaps with a score each. Ranks come from a ``rank`` column, else from falling
    scores, else from the order of columns and rows; weighted and numbered ones keep their order.

    Args:
        path: the table.
        layer: the layer of all rows, for tables that do not say it, or call their only one
            otherwise.

    Returns:
        Columns ``layer`` (str), ``unit`` (int64), ``rank`` (int64, from 1), ``description`` (str),
        ``score`` and ``weight`` (float64, NaN where unknown), ``group`` (str, "" where none),
        ``score_name`` (str, what the scores are), and ``model``, ``pooling``, ``method`` where the
        table has them; sorted by layer, unit and rank.

    Raises:
        InputError: if the file cannot be read, or a row lacks a layer, a unit or a description;
            the sentence names the row.
    """
    if not path.is_file():
        raise InputError(
            f"There is no label table at {path}; give a CSV, TSV, JSONL or Parquet file."
        )
    table = read_table(path)
    table.rows.columns = _keys(table)
    if path.suffix.casefold() == ".json":
        table = _of_units(table)
    rows = _long_rows(ungrouped(table, _numbers_in(table)), layer)
    rows["rank"] = _ranks(rows, path.name)
    kept = ["layer", "unit", "rank", "description", "score", "weight", "group", "score_name"]
    kept += [c for c in ("model", "pooling", "method") if c in rows.columns]
    return rows[kept].sort_values(["layer", "unit", "rank"], kind="stable", ignore_index=True)


def is_formula(text: str) -> bool:
    """Whether a description joins concepts by a rule (``a AND NOT b``), rather than being one."""
    return bool((_WORDS.search(text) and text != text.upper()) or _SIGNS.search(text))


# --- columns -------------------------------------------------------------------------------------


def _keys(table: Table) -> pd.Index:
    """Names of columns as they are compared; two that are one then are refused."""
    names = [str(column) for column in table.rows.columns]
    by_key: dict[str, str] = {}
    for name in names:
        bare = key_of(re.split(r"[(\[]", name)[0])  # "Similarity (CLIP)"
        other = by_key.setdefault(bare if bare in _KNOWN else key_of(name), name)
        if other != name:
            raise InputError(
                f"{table.name} has the columns {other!r} and {name!r}, which are one name here; "
                "rename or remove one."
            )
    return pd.Index(list(by_key), dtype=object)


def _of_units(table: Table) -> Table:
    """One record whose names are units, as a table of them; any other as it is."""
    raw = table.rows
    if len(raw) != 1 or not all(re.fullmatch(r"\d{1,9}", str(each)) for each in raw.columns):
        return table
    cells = raw.iloc[0].tolist()
    rows = pd.DataFrame({"unit": list(raw.columns), "description": cells})
    if all(isinstance(cell, Mapping) for cell in cells):
        own = Table(table.name, pd.DataFrame(cells))
        own.rows.columns = _keys(own)
        rows = own.rows if _first(own.rows, UNIT) else rows  # numbers only count the records
    return replace(table, rows=rows)


def _numbers_in(table: Table) -> list[str]:
    """Columns that hold numbers, if anything: all that name nothing."""
    names = {*UNIT, *UNITS, *TEXT, "layer", "model", "method", "pooling"}
    return [c for c in table.rows.columns if c not in names and not _NUMBERED.fullmatch(c)]


def _long_rows(table: Table, layer: str | None) -> pd.DataFrame:
    """One row per description, whatever the shape of the table."""
    raw, name = table.rows, table.name
    unit = _first(raw, UNIT) or _first(raw, UNITS)
    texts = _text_columns(raw)
    if unit is None or not texts:
        raise InputError(
            f"{name} has the columns {', '.join(raw.columns)[:200] or 'none'}; it needs 'layer', "
            "'unit' and 'description' (or 'Neuron ID' and 'Label 1', or 'neuron' and 'concept')."
        )
    if raw.empty:
        raise InputError(f"{name} has no rows; give a table with at least one description.")
    _require_one_unit(raw, name)
    layers = _layers(raw, name, layer)
    groups = [""] * len(raw)
    if "group" in raw.columns and unit != "group":
        groups = [
            require_short(_text(value), MOST_OF_NAME, f"The group in row {row} of {name}")
            for row, value in enumerate(raw["group"], start=1)
        ]
    score = _first(raw, SCORE)
    cells = {column: raw[column].tolist() for column in raw.columns}
    scores = [None] * len(raw) if score is None else cells[score]
    extras = [c for c in ("rank", "model", "pooling", "method") if c in raw.columns]
    numbered = len(texts) > 1 and _NUMBERED.fullmatch(texts[-1]) is not None
    found = []
    units = _units(unit, cells[unit], name)
    for row in range(len(raw)):
        said = _said(cells, row, name, texts, scores[row], score or "score")
        if not said and not numbered:
            raise InputError(
                f"Row {row + 1} of {name} has no description; fill it in or remove it."
            )
        members = units[row]
        group = groups[row] if len(members) == 1 else ", ".join(map(str, members))
        for place, each in enumerate(said):
            require_short(each.text, MOST_OF_LABEL, f"A label in row {row + 1} of {name}")
            for member in members:
                found.append(
                    {
                        "line": row + 1,
                        "place": place,
                        "layer": layers[row],
                        "unit": member,
                        "description": each.text,
                        "score": each.score,
                        "weight": each.weight,
                        "group": group,
                        **{extra: cells[extra][row] for extra in extras},
                    }
                )
    if not found:
        raise InputError(f"{name} has no description in any row; is it the right table?")
    rows = pd.DataFrame(found)
    for extra in extras:
        if extra == "rank":
            rows[extra] = [
                _number(v, r, name, extra) for v, r in zip(rows[extra], rows["line"], strict=True)
            ]
        else:
            rows[extra] = rows[extra].map(_text)
    if _counts_from_one(raw) and rows["unit"].min() > 0:
        rows["unit"] -= 1
    rows["is_ordered"] = numbered
    rows["score_name"] = _score_name(raw, score)
    return rows


def _require_one_unit(raw: pd.DataFrame, name: str) -> None:
    """Refuse two columns by whose names either could say which unit a row is of."""
    first, *others = [column for column in UNIT if column in raw.columns] or [""]
    for other in others:
        for row, cells in enumerate(zip(raw[first], raw[other], strict=True), start=1):
            one, two = (_text(cell) for cell in cells)
            if one.isdecimal() and two.isdecimal() and int(one) != int(two):
                raise InputError(
                    f"{name} has the columns {first!r} and {other!r}, which name different units "
                    f"({one[:20]!r} and {two[:20]!r} in row {row}); remove the one that is not "
                    "the neuron's number in its layer."
                )


def _counts_from_one(raw: pd.DataFrame) -> bool:
    """Whether this is a table of Network Dissection, whose first unit is 1.

    It has the best label with its category, and then the best label of every category.
    """
    own = {"unit", "category", "label", "score"} <= set(raw.columns)
    return own and any(str(column).endswith("_label") for column in raw.columns)


def _first(raw: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in raw.columns), None)


def _text_columns(raw: pd.DataFrame) -> list[str]:
    """The columns of descriptions: one by its name, those with numbers, or FALCON's two lists.

    Where one holds nothing but numbers (of classes, of concepts), the next has their words.
    """
    called = [name for name in TEXT if name in raw.columns]
    numbered = [(m[1], int(m[2]), c) for c in raw.columns if (m := _NUMBERED.fullmatch(c))]
    if called:
        first = next((name for name in called if _has_words(raw[name])), called[0])
        # Columns of one name are label, label.1, label.2 once pandas has written them.
        more = sorted((number, column) for stem, number, column in numbered if stem == first)
        return [first, *(column for _, column in more)]
    stems = {stem for stem, _, _ in numbered}
    if len(stems) == 1:
        return [column for _, _, column in sorted(numbered, key=lambda each: each[1])]
    return [column for column in raw.columns if column.startswith("concept_set")]


def _has_words(cells: pd.Series) -> bool:
    return any(re.search(r"[^\W\d]", _text(cell)) for cell in cells)


def _score_name(raw: pd.DataFrame, score: str | None) -> str:
    """What the scores are, in words; INVERT's metric is the area under the ROC curve."""
    if "score_name" in raw.columns:
        named = {_text(value) for value in raw["score_name"]} - {""}
        only = named.pop() if len(named) == 1 else "score"
        return require_short(only, MOST_OF_NAME, "The cell 'score_name'")
    if score == "metric" and "concept" in raw.columns:
        return "AUROC"
    return (
        "score"
        if score is None
        else {"auroc": "AUROC", "iou": "IoU"}.get(score, score.replace("_", " "))
    )


def _layers(raw: pd.DataFrame, name: str, layer: str | None) -> list[str]:
    if "layer" not in raw.columns:
        if layer is None:
            raise InputError(
                f"{name} does not say which layer its units belong to; name it with --layer."
            )
        return [layer] * len(raw)
    layers = [_text(value) for value in raw["layer"]]
    if "" in layers:
        raise InputError(
            f"Row {layers.index('') + 1} of {name} has no layer; fill it in or remove it."
        )
    if layer is None:
        return layers
    if len(set(layers)) > 1:
        raise InputError(
            f"{name} names several layers ({', '.join(sorted(set(layers))[:5])}), so --layer "
            f"{layer} cannot stand for all; leave it out, or write the layers as the bundle does."
        )
    return [layer] * len(raw)


# --- cells ---------------------------------------------------------------------------------------


def _said(
    cells: Mapping[str, list[Any]],
    row: int,
    name: str,
    texts: Sequence[str],
    score: Any,
    score_column: str,
) -> list[_Said]:
    """What one row says, in the order of its columns; columns that are empty say nothing."""
    found: list[_Said] = []
    for column in texts:
        match = _NUMBERED.fullmatch(column)
        number = match[2] if match else ""
        weight = math.nan
        for spelling in (f"weight{number}", f"weight_{number}") if number else ("weight",):
            if spelling in cells:
                weight = _number(cells[spelling][row], row + 1, name, spelling)
        cell = cells[column][row]
        listed = _listed(cell)
        if listed is not None:
            many = _listed(score)
            values = [each[0] for each in many] if many and len(many) == len(listed) else []
            for at, (text, own) in enumerate(listed):
                value = own if own is not None else (values[at] if values else score)
                found.append(_Said(text, _number(value, row + 1, name, score_column), weight))
            continue
        text = _text(cell)
        # Files of weighted concepts fill their columns up with 0.
        if number and not text and weight and not math.isnan(weight):
            raise InputError(
                f"Row {row + 1} of {name} has the weight {weight:g} and no {column!r} that it is "
                "the weight of; fill it in, or empty the weight too."
            )
        if not text or (number and weight == 0):
            continue
        own = score
        for stem in ("score", "similarity", "sim"):
            for spelling in (f"{stem}{number}", f"{stem}_{number}", f"{column}_{stem}"):
                if number and spelling in cells:
                    own = cells[spelling][row]
        found.append(_Said(text, _number(own, row + 1, name, score_column), weight))
    if len(texts) > 1 and texts[0].startswith("concept_set"):
        found.sort(key=lambda each: -each.score if not math.isnan(each.score) else math.inf)
    return [each for each in found if each.text]


def _listed(cell: Any) -> list[tuple[str, Any]] | None:
    """A cell that holds several texts, perhaps with a score each; None if it does not.

    That is a list of texts, of pairs or of records of both, or a record of scores by text.
    """
    if isinstance(cell, str):
        text = cell.strip()
        if text[:1] + text[-1:] not in ("[]", "{}") or len(text) > _MOST_LITERAL:
            return None
        try:
            cell = json.loads(text)
        except (ValueError, RecursionError):
            try:
                cell = ast.literal_eval(text)
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                return None
    if isinstance(cell, Mapping):
        one = _of_record(cell)
        if one is not None:
            return [one]
        scores = [(_text(key), value) for key, value in cell.items() if value is not None]
        is_scored = scores and all(isinstance(v, int | float | np.number) for _, v in scores)
        return scores if is_scored else None
    if not isinstance(cell, list | tuple | np.ndarray):
        return None
    found: list[tuple[str, Any]] = []
    for each in cell:
        if isinstance(each, list | tuple | np.ndarray) and len(each) == 2:
            found.append((_text(each[0]), each[1]))
        elif isinstance(each, str | int | float | np.number):
            found.append((_text(each), None))
        elif isinstance(each, Mapping) and (one := _of_record(each)) is not None:
            found.append(one)
        else:
            return None
    return found


def _of_record(record: Mapping[Any, Any]) -> tuple[str, Any] | None:
    """The text and the score of one record, by the names that columns have."""
    held = {key_of(str(key)): value for key, value in record.items()}
    text = next((held[name] for name in TEXT if isinstance(held.get(name), str)), None)
    if text is None:
        return None
    return _text(text), next((held[name] for name in SCORE if name in held), None)


def _text(value: Any) -> str:
    """A cell as text; "null" and "none" are labels like any other."""
    return unicodedata.normalize("NFC", cell_text(value) or "")


def _units(column: str, cells: Sequence[Any], name: str) -> list[list[int]]:
    """The units that each row is about: one, or several where a column may name a group."""
    if column in UNITS:  # a comma may stand between units, so that each is read by itself
        texts = [_members(value) for value in cells]
        numbers = (as_ids([text])[0] for own in texts for text in own)
    else:
        texts = [[_text(value)] for value in cells]
        numbers = iter(as_ids([text for (text,) in texts]))
    units = []
    for row, own in enumerate(texts, start=1):
        found = [next(numbers) for _ in own]
        if None in found:
            raise InputError(
                f"Row {row} of {name} has the unit {own[found.index(None)]!r}; a unit is a whole "
                "number from 0 up, without marks between thousands."
            )
        if not found:
            raise InputError(f"Row {row} of {name} names no unit; fill it in or remove it.")
        units.append(list(dict.fromkeys(number for number in found if number is not None)))
    return units


def _members(value: Any) -> list[str]:
    """The units that a cell of a group names."""
    inside = _listed(value)
    if inside is not None:
        return [text for text, _ in inside]
    return [part for part in re.split(r"[\s,;+_]+", _text(value).strip("()[]")) if part]


def _number(value: Any, row: int, name: str, what: str) -> float:
    text = known_text(value, NOT_KNOWN)
    if text is None:
        return math.nan
    if re.fullmatch(r"[-−]?\d*,\d+(e[-+]?\d+)?", text, re.IGNORECASE):
        text = text.replace(",", ".")
    try:
        number = float(text.replace("−", "-"))
    except ValueError:
        number = math.inf
    if abs(number) > _MOST:
        raise InputError(
            f"Row {row} of {name} has the {what.replace('_', ' ')} {text[:80]!r}, which is not a "
            "number that can be kept; correct it or leave it empty."
        )
    return number


def _ranks(rows: pd.DataFrame, name: str) -> np.ndarray:
    """Ranks from 1 within each layer and unit."""
    keys = ["layer", "unit", *(c for c in ("model", "pooling") if c in rows.columns)]
    if "method" in rows.columns and rows["method"].nunique() > 1:
        several = ", ".join(sorted(rows["method"].unique()))
        raise InputError(
            f"{name} holds labels of several methods ({several}); keep one method per table."
        )
    has_order = bool(rows["is_ordered"].any()) or bool(rows["weight"].notna().any())
    by = "rank" if "rank" in rows.columns and rows["rank"].notna().all() else "score"
    if by == "score" and has_order:
        return (rows.groupby(keys, sort=False).cumcount() + 1).to_numpy("int64")
    ordered = rows.sort_values(by, ascending=by == "rank", kind="stable", na_position="last")
    doubled = ordered.duplicated([*keys, "rank"]) if by == "rank" else pd.Series(dtype=bool)
    if doubled.any():
        row = ordered[doubled].iloc[0]
        raise InputError(
            f"{name} has two descriptions of rank {row['rank']:g} for unit {row['unit']} of layer "
            f"{row['layer']!r}; give each its own rank."
        )
    return (ordered.groupby(keys, sort=False).cumcount() + 1).sort_index().to_numpy("int64")
