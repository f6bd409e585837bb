"""Lists of names as they circulate: one a line, JSON, a Python dictionary, a table, synset ids.

Vocabularies and class names are read here. A list in a form that is not known for certain is
refused, because brackets and numbers would become part of the names.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.reading.tables import cell_text, key_of, parse_delimited, read_table, read_text

NAME_COLUMNS = (
    "label", "name", "text", "class_name", "class", "concept", "description", "term", "word",
    "title", "display_name", "category",
)  # fmt: skip
"""Columns that hold the names, in the spelling of ``tables.key_of``; the first wins."""

ID_COLUMNS = ("id", "index", "idx", "number", "class_id", "class_index", "label_id")
"""Columns that say which place a name has."""

_INSIDE = ("id2label", "categories", "names", "classes", "labels", "class_names")
_SYNSET = re.compile(r"n\d{8}")
_WITH_SYNSET = re.compile(r"n\d{8}[\s,;:]+(?=\S)")
_WORDNET = re.compile(r"(\S+?)\.[nvars]\.\d\d")
_NUMBERED = re.compile(r"[\"']?(\d{1,9})[\"']?(\s*[,;:\t]\s*|\s+)(?=\S)")
_FORMS = "one name a line, a JSON list of names, or a table with a column 'label'"


@dataclass(frozen=True, slots=True)
class Name:
    """One name of a list, as it is written there; ``place`` says where, such as "Line 3"."""

    text: str
    place: str


def read_names(path: Path, *, what: str) -> list[Name]:
    """The names of a list in its own order, or by their numbers where it has some.

    Lines that are empty or begin with ``#`` are left out; names that come twice stay.

    Args:
        path: a text file, JSON, CSV or TSV, JSON lines or Parquet.
        what: what the list is, as the beginning of messages ("Vocabulary").

    Raises:
        InputError: if it is no list of names, in one sentence.
    """
    ending = path.suffix.lower()
    if ending in (".parquet", ".jsonl", ".ndjson"):
        return _of_table(read_table(path).rows, path, what)
    text = read_text(path, what=what)
    body = re.sub(r"\A(\s*#[^\n]*\n|\s*\n)+", "", text)
    if ending == ".json" or body.lstrip()[:1] in ("[", "{"):
        return _of_json(body, path, what)
    if ending in (".csv", ".tsv") or _has_name_column(body):
        found = _of_csv(body, path, what)
        if found is not None:
            return found
    return _of_lines(text, path, what)


# --- lines ---------------------------------------------------------------------------------------


def _of_lines(text: str, path: Path, what: str) -> list[Name]:
    names = [
        Name(line.strip(), f"Line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if names and re.fullmatch(r"[\w-]+:", names[0].text):
        rest = [each.text for each in names[1:]]
        if rest and all(_NUMBERED.match(each) or each.startswith("- ") for each in rest):
            names = names[1:]
    if names and re.match(r"<(\?xml|!doctype|html)\b", names[0].text, re.IGNORECASE):
        raise _no_list(path, what, "it is XML or HTML")
    for each in names:
        if re.match(r"([\"'])[^\"']*\1\s*:", each.text):
            raise _no_list(path, what, f"{each.place} ({each.text[:40]!r}) is no name")
    texts = [each.text for each in names]
    if texts and all(_SYNSET.fullmatch(each) for each in texts):
        raise _no_list(path, what, f"it holds synset ids such as {texts[0]!r} without their words")
    starts = [_WITH_SYNSET.match(each) for each in texts]
    if sum(map(bool, starts)) * 2 > len(starts):
        return [Name(_after(_WITH_SYNSET, each, path, what), each.place) for each in names]
    if texts and all(_WORDNET.fullmatch(each) for each in texts):
        return [Name(_WORDNET.sub(r"\1", each.text), each.place) for each in names]
    if _is_numbered(texts):
        return [Name(_NUMBERED.sub("", each.text, count=1), each.place) for each in names]
    return names


def _after(start: re.Pattern[str], name: Name, path: Path, what: str) -> str:
    if start.match(name.text) is None:
        raise _no_list(
            path, what, f"{name.place} ({name.text[:40]!r}) has no synset id, as others have"
        )
    return start.sub("", name.text, count=1)


def _is_numbered(texts: Sequence[str]) -> bool:
    """Whether numbers in front count the names, or a mark sets them apart in every line."""
    starts = [_NUMBERED.match(each) for each in texts]
    if len(texts) < 2 or not all(starts):
        return False
    found = [start for start in starts if start is not None]
    numbers = [int(start[1]) for start in found]
    if all(start[2].strip() or "\t" in start[2] for start in found):
        return True
    # "1 euro, 2 euro" is counted as well, and the numbers are all that tells them apart.
    bare = {_NUMBERED.sub("", text, count=1) for text in texts}
    is_counted = numbers in (list(range(len(texts))), list(range(1, len(texts) + 1)))
    return is_counted and len(texts) > 2 and len(bare) == len(texts)


# --- JSON and Python -----------------------------------------------------------------------------


def _of_json(text: str, path: Path, what: str) -> list[Name]:
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        try:
            held = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            raise _no_list(path, what, "it begins like JSON and is none") from None
    names = _names_in(held)
    if names is None:
        raise _no_list(path, what, "its JSON is no list of names")
    return [Name(text, f"Entry {at}") for at, text in enumerate(names, start=1)]


def _names_in(held: Any) -> list[str] | None:
    if isinstance(held, Mapping):
        inner = next((held[key] for key in _INSIDE if isinstance(held.get(key), list | dict)), None)
        if inner is not None:
            return _names_in(inner)
        if held and all(isinstance(value, int) for value in held.values()):
            order = {str(name): int(number) for name, number in held.items()}
            return sorted(order, key=order.__getitem__)
        keys = [str(key) for key in held]
        values = [_one_name(value) for value in held.values()]
        if not keys or None in values:
            return None
        if all(key.isdecimal() for key in keys):
            order = sorted(range(len(keys)), key=lambda at: int(keys[at]))
            return [str(values[at]) for at in order]
        return [str(v) for v in values] if all(map(_SYNSET.fullmatch, keys)) else None
    if not isinstance(held, list | tuple) or not held:
        return None
    if all(isinstance(each, Mapping) for each in held):
        rows = pd.DataFrame(list(held))
        column = _name_column(rows)
        return None if column is None else _in_order(rows, column)
    values = [_one_name(value) for value in held]
    return None if None in values else [str(value) for value in values]


def _one_name(value: Any) -> str | None:
    """A text, or the first in a short list that is no number and no synset id."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        texts = [v for v in value if isinstance(v, str) and not _SYNSET.fullmatch(v)]
        return next((text for text in texts if not text.isdecimal()), None)
    return None


# --- tables --------------------------------------------------------------------------------------


def _has_name_column(text: str) -> bool:
    """Whether the first line is a header of several columns, one of them of names."""
    header = text.split("\n", 1)[0]
    for separator in (",", ";", "\t", "|"):
        keys = [key_of(each.strip().strip('"')) for each in header.split(separator)]
        if len(keys) > 1 and any(key in NAME_COLUMNS for key in keys):
            return all(key in NAME_COLUMNS + ID_COLUMNS or key.isidentifier() for key in keys)
    return False


def _of_csv(text: str, path: Path, what: str) -> list[Name] | None:
    """Names of a CSV; None where it is one column without a heading, or numbers and names."""
    if re.match(r'\s*["\']?(\d+|n\d{8})["\']?\s*[,;\t|]', text):
        return None
    table = parse_delimited(text, path.name)
    if len(table.rows.columns) == 1 and key_of(str(table.rows.columns[0])) not in NAME_COLUMNS:
        return None
    return _of_table(table.rows, path, what)


def _of_table(rows: pd.DataFrame, path: Path, what: str) -> list[Name]:
    column = _name_column(rows)
    if column is None:
        raise _no_list(
            path, what, f"it is a table with the columns {', '.join(map(str, rows.columns))[:80]}"
        )
    texts = _in_order(rows, column)
    return [Name(text, f"Row {at}") for at, text in enumerate(texts, start=1) if text]


def _name_column(rows: pd.DataFrame) -> Any:
    """The column of names: by its heading, and holding more than numbers."""
    by_key: dict[str, Any] = {}
    for column in rows.columns:
        by_key.setdefault(key_of(str(column)), column)
    for key in NAME_COLUMNS:
        if key in by_key:
            texts = [cell_text(value) or "" for value in rows[by_key[key]]]
            if any(text and not re.fullmatch(r"-?\d+(\.\d+)?", text) for text in texts):
                return by_key[key]
    return None


def _in_order(rows: pd.DataFrame, column: Any) -> list[str]:
    """The cells of a column, by the numbers of another where each row has one of its own."""
    texts = [cell_text(value) or "" for value in rows[column]]
    for key in ID_COLUMNS:
        other = next((c for c in rows.columns if key_of(str(c)) == key and c != column), None)
        if other is None:
            continue
        numbers = [cell_text(value) or "" for value in rows[other]]
        if all(number.isdecimal() for number in numbers) and len(set(numbers)) == len(numbers):
            order = sorted(range(len(texts)), key=lambda at: int(numbers[at]))
            return [texts[at] for at in order]
    return texts


def _no_list(path: Path, what: str, problem: str) -> InputError:
    return InputError(f"{what} {path.name!r} cannot be read: {problem}; give {_FORMS}.")
