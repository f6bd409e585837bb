"""Label tables of other tools as rows: one for each description of a neuron.

What the methods of this field publish differs in its columns, and says different things: several
labels in order, formulas, concepts with weights, words of a group of neurons. All of that is kept.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.errors import InputError
from csp_engine.exchange.label_cells import (
    SCORE,
    SEVERAL,
    TEXT,
    WEIGHT,
    Said,
    for_each,
    is_words,
    listed,
    members,
    number_of,
    places_of,
    text_of,
    unit_numbers,
)
from csp_engine.exchange.label_nesting import IN_LIST, UNIT, UNITS, nested_table
from csp_engine.exchange.thousands import ungrouped
from csp_engine.reading.lengths import MOST_OF_LABEL, MOST_OF_NAME, require_short
from csp_engine.reading.tables import NOT_KNOWN, Table, key_of, known_text, read_table

logger = logging.getLogger(__name__)

_KNOWN = frozenset({*UNIT, *UNITS, *TEXT, *SCORE, *WEIGHT, "layer", "rank"})
_LIKE_SCORES = frozenset(
    {"score", "scores", "similarity", "similarities", "sim", "cos", "cosine", "auroc", "auc", "iou"}
    | {"correlation", "correlations", "corr", "pearson", "spearman", "alignment", "probability"}
    | {"probabilities", "prob", "confidence", "metric", "activation", "activations", "agreement"}
    | {"accuracy", "f1"}
)
"""Words of names of columns that hold scores, where none of the usual names is there."""
_OURS = frozenset(
    {"neuron", "model", "pooling", "method", "margin", "percentile", "best_percentile", "reliable"}
    | {"group", "score_name", IN_LIST}
)

INDEX = ("index", "unnamed:_0")
"""What pandas calls the column that counts rows: units, where no other column names them."""

SCORES = ("score", "similarity", "sim")
WEIGHTS = (*WEIGHT, "w")
"""Words beside the number of a label, in the names of the columns of its score and weight."""

_STEMS = "label|description|concept|explanation|caption|annotation|phrase|word|text|name"
_NUMBERED = re.compile(rf"({_STEMS}|top(?:_(?:{_STEMS}))?)_?(\d+)((?:_(?:{_STEMS}))?)")
_WORDS = re.compile(r"\b(AND|OR|NOT)\b")
_SIGNS = re.compile(
    r"[~¬∧∨|∩∪]|&&|\(.*\s&\s.*\)|(&\s*|\b(and|or)\s+)\(*not\b|^\(*not\s*\(|\b(And|Or|Not)\(",
    re.IGNORECASE,
)


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
    table = nested_table(path) or read_table(path)
    called = [str(column) for column in table.rows.columns]
    table.rows.columns = _keys(table)
    for key, name in zip(table.rows.columns, called, strict=True):
        if key not in (*UNIT, *UNITS, *TEXT) and re.search(
            r"%|(?<![a-z])(percent|pct)(?![a-z])", name.casefold()
        ):
            table.rows[key] = [_as_percent(cell) for cell in table.rows[key]]
    rows = _long_rows(ungrouped(table, _numbers_in(table)), layer)
    rows["rank"] = _ranks(rows, path.name)
    kept = ["layer", "unit", "rank", "description", "score", "weight", "group", "score_name"]
    kept += [c for c in ("model", "pooling", "method", IN_LIST) if c in rows.columns]
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
        bare = key_of(re.split(r"[(\[%]", name)[0])  # "Similarity (CLIP)"
        is_known = bare in _KNOWN or _NUMBERED.fullmatch(bare) is not None
        other = by_key.setdefault(bare if is_known else key_of(name), name)
        if other != name:
            raise InputError(
                f"{table.name} has the columns {other!r} and {name!r}, which are one name here; "
                "rename or remove one."
            )
    return pd.Index(list(by_key), dtype=object)


def _numbers_in(table: Table) -> list[str]:
    """Columns that hold numbers, if anything: all that name nothing."""
    names = {*UNIT, *UNITS, *TEXT, "layer", "model", "method", "pooling"}
    return [c for c in table.rows.columns if c not in names and not _NUMBERED.fullmatch(c)]


def _long_rows(table: Table, layer: str | None) -> pd.DataFrame:
    """One row per description, whatever the shape of the table."""
    raw, name = table.rows, table.name
    unit = _first(raw, UNIT) or _first(raw, UNITS) or _first(raw, INDEX)
    texts = _text_columns(raw, unit)
    if unit is None or not texts:
        raise InputError(
            f"{name} has the columns {', '.join(raw.columns)[:200] or 'none'}; it needs 'layer', "
            "'unit' and 'description' (or 'Neuron ID' and 'Label 1', or 'neuron' and 'concept')."
        )
    if raw.empty:
        raise InputError(f"{name} has no rows; give a table with at least one description.")
    _require_one_unit(raw, name)
    if unit not in UNITS:
        raw = _with_places(raw, unit, name)
    layers = _layers(raw, name, layer)
    groups = [""] * len(raw)
    if "group" in raw.columns and unit != "group":
        groups = [
            require_short(text_of(value), MOST_OF_NAME, f"The group in row {row} of {name}")
            for row, value in enumerate(raw["group"], start=1)
        ]
    score = _score_column(raw, texts, name)
    cells = {column: raw[column].tolist() for column in raw.columns}
    extras = [c for c in ("rank", "model", "pooling", "method", IN_LIST) if c in raw.columns]
    numbered = len(texts) > 1 and _NUMBERED.fullmatch(texts[-1]) is not None
    found = []
    units = _units(unit, cells[unit], name)
    for row in range(len(raw)):
        said = _said(cells, row, name, texts, score)
        if not said and not numbered:
            raise InputError(
                f"Row {row + 1} of {name} has no description; fill it in or remove it."
            )
        own = units[row]
        group = groups[row] if len(own) == 1 else ", ".join(map(str, own))
        for place, (text, its_score, weight) in enumerate(said):
            require_short(text, MOST_OF_LABEL, f"A label in row {row + 1} of {name}")
            for member in own:
                found.append(
                    {
                        "line": row + 1,
                        "place": place,
                        "layer": layers[row],
                        "unit": member,
                        "description": text,
                        "score": its_score,
                        "weight": weight,
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
                number_of(value, f"Row {row} of {name}", extra)
                for value, row in zip(rows[extra], rows["line"], strict=True)
            ]
        elif extra != IN_LIST:
            rows[extra] = rows[extra].map(text_of)
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
            one, two = (text_of(cell) for cell in cells)
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


def _text_columns(raw: pd.DataFrame, unit: str | None) -> list[str]:
    """The columns of descriptions: one by its name, those with numbers, or FALCON's two lists.

    Where one holds nothing but numbers (of classes, of concepts), the next has their words. What
    compositional explanations call a feature is a text, where another column names the neuron.
    """
    names = TEXT if unit == "feature" else (*TEXT, "feature")
    called = [name for name in names if name in raw.columns]
    numbered = [(m[1] + m[3], int(m[2]), c) for c in raw.columns if (m := _NUMBERED.fullmatch(c))]
    if called:
        first = next((name for name in called if raw[name].map(is_words).any()), called[0])
        # Columns of one name are label, label.1, label.2 once pandas has written them.
        more = sorted((number, column) for stem, number, column in numbered if stem == first)
        return [first, *(column for _, column in more)]
    worded = {stem for stem, _, column in numbered if raw[column].map(is_words).any()}
    stems = worded or {stem for stem, _, _ in numbered if not stem.startswith("top")}
    if len(stems) == 1:
        own = sorted((number, column) for stem, number, column in numbered if stem in stems)
        return [column for _, column in own]
    return [column for column in raw.columns if column.startswith("concept_set")]


def _score_column(raw: pd.DataFrame, texts: Sequence[str], name: str) -> str | None:
    """The column of scores: by one of the usual names, or the first that is called like scores."""
    named = _first(raw, SCORE)
    taken = {each for text in texts for each in (*_beside(text, SCORES), *_beside(text, WEIGHTS))}
    like = [
        column
        for column in raw.columns
        if column not in taken | _OURS
        and not _LIKE_SCORES.isdisjoint(column.split("_"))
        and texts
        and all(_fits(*pair) for pair in zip(raw[column], raw[texts[0]], strict=True))
    ]
    chosen = named or (like[0] if like else None)
    if len(like) > 1 and named is None:
        logger.warning(
            "%s has the columns %s that may be scores; %r is kept. Rename the one to keep to "
            "'score'.",
            *(name, ", ".join(map(repr, like[:5])), chosen),
        )
    return chosen


def _fits(cell: Any, text: Any) -> bool:
    """Whether a cell may be the score of a text, or the scores of several."""
    try:
        several = listed(text, "")
        cells = [cell] if several is None else for_each(cell, len(several), "", "")
        return all(number_of(each, "", "") is not None for each in cells)
    except InputError:
        return False


def _with_places(raw: pd.DataFrame, unit: str, name: str) -> pd.DataFrame:
    """The table with the layers that its units name, as ``layer4/7`` does, in a column."""
    layers, units = places_of(raw[unit])
    raw = raw.assign(**{unit: units})
    if not any(layers):
        return raw
    if "layer" not in raw.columns:
        return raw.assign(layer=layers)
    for row, (one, other) in enumerate(
        zip(layers, raw["layer"].map(text_of), strict=True), start=1
    ):
        if one and other and one not in (other, other.split("@")[0]):
            raise InputError(
                f"Row {row} of {name} names the layer {other!r} and a unit of {one!r}; correct one."
            )
    return raw


def _score_name(raw: pd.DataFrame, score: str | None) -> str:
    """What the scores are, in words; INVERT's metric is the area under the ROC curve."""
    if "score_name" in raw.columns:
        named = {text_of(value) for value in raw["score_name"]} - {""}
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
    layers = [text_of(value) for value in raw["layer"]]
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
    cells: Mapping[str, list[Any]], row: int, name: str, texts: Sequence[str], score: str | None
) -> list[tuple[str, float, float]]:
    """Texts of one row with score and weight, in the order of columns; empty ones say nothing."""
    found: list[tuple[str, float, float]] = []
    place = f"Row {row + 1} of {name}"
    what = score or "score"
    for column in texts:
        number = _NUMBERED.fullmatch(column)
        # A sum has its concepts in numbered columns, each with a weight beside it.
        own_weight = _beside_of(cells, row, _beside(column, WEIGHTS) if number else WEIGHT)
        own_score = _beside_of(cells, row, (*_beside(column, SCORES), what))
        cell = cells[column][row]
        several = listed(cell, place, splits=column in SEVERAL)
        if several is None:
            text, weight = text_of(cell), number_of(own_weight, place, "weight")
            # Files of weighted concepts fill their columns up with 0.
            if number and not text and weight and not math.isnan(weight):
                raise InputError(
                    f"{place} has the weight {weight:g} and no {column!r} that it is the weight "
                    "of; fill it in, or empty the weight too."
                )
            several = [Said(text)] if text and not (number and weight == 0) else []
            scores, weights = [own_score] * len(several), [own_weight] * len(several)
        else:
            scores = for_each(own_score, len(several), place, what)
            weights = for_each(own_weight, len(several), place, "weight")
        for each, its_score, its_weight in zip(several, scores, weights, strict=True):
            of_score = its_score if each.score is None else each.score
            of_weight = its_weight if each.weight is None else each.weight
            numbers = number_of(of_score, place, what), number_of(of_weight, place, "weight")
            found.append((each.text, *numbers))
    if len(texts) > 1 and texts[0].startswith("concept_set"):
        found.sort(key=lambda each: -each[1] if not math.isnan(each[1]) else math.inf)
    return [each for each in found if each[0]]


def _beside(column: str, words: Sequence[str]) -> list[str]:
    """How columns may be called that say something of a numbered one: score1, label_1_score."""
    match = _NUMBERED.fullmatch(column)
    if match is None:
        return []
    stem, number = column[: match.end(2)], match[2]
    return [
        spelling
        for word in words
        for spelling in (
            f"{word}{number}",
            f"{word}_{number}",
            f"{stem}_{word}",
            f"{column}_{word}",
        )
    ]


def _beside_of(cells: Mapping[str, list[Any]], row: int, names: Sequence[str]) -> Any:
    return next((cells[name][row] for name in names if name in cells), None)


def _units(column: str, cells: Sequence[Any], name: str) -> list[list[int]]:
    """The units that each row is about: one, or several where a column may name a group."""
    in_groups = column in UNITS
    rows = [
        members(cell, f"Row {row} of {name}") if in_groups else [text_of(cell)]
        for row, cell in enumerate(cells, start=1)
    ]
    return unit_numbers(rows, name, apart=in_groups)


def _as_percent(cell: Any) -> Any:
    """A cell of a column of per cents, with the sign that it may lack."""
    text = known_text(cell, NOT_KNOWN)
    return cell if text is None or text.endswith("%") else f"{text} %"


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
