"""Lists of names as they circulate: one a line, JSON, a Python dictionary, a table, synset ids.

Vocabularies and class names are read here. A list in a form that is not known for certain is
refused, because brackets and numbers would become part of the names.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.errors import InputError
from csp_engine.reading.numbers import as_ids
from csp_engine.reading.tables import cell_text, key_of, parse_delimited, read_table, read_text

NAME_COLUMNS = (
    "label", "name", "text", "class_name", "class", "concept", "description", "term", "word",
    "title", "display_name", "category",
)  # fmt: skip
"""Columns that hold the names, in the spelling of ``tables.key_of``; the first wins."""

PARENT_COLUMNS = ("parents", "parent")
"""Columns that say what a name is a kind of: other names of the list, with semicolons between."""

ID_COLUMNS = ("id", "index", "idx", "number", "class_id", "class_index", "label_id")
"""Columns that say which place a name has; so does any other that counts the rows."""

_MAY_COUNT = (*NAME_COLUMNS, "category_id", "target", "class_idx", "label_idx", "unnamed:_0", "")
_INSIDE = (
    "id2label", "categories", "names", "classes", "labels", "class_names", "class_to_idx",
    "label2id",
)  # fmt: skip
_CODE = (".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".pbtxt", ".py", ".js")
"""Endings of files of settings or code, whose lines are no names unless they count or list them."""
_SYNSET = re.compile(r"n\d{8}")
_WITH_SYNSET = re.compile(r"n\d{8}[\s,;:]+(?=\S)")
_WORDNET = re.compile(r"(\S+?)\.[nvars]\.\d\d")
_NUMBERED = re.compile(
    r"[\"']?(\d{1,9})[\"']?(\s*[,;:=\t]\s*|[.)]\s+|\s+[-\u2013\u2014]\s+|\s+)(?=\S)"
)
_NUMBER_LAST = re.compile(r"(?<=\S)(\s*[,;:=\t]\s*|\s+)[\"']?(\d{1,9})[\"']?\s*,?$")
_ONLY_NUMBER = re.compile(r"[\"']?(\d{1,9})[\"']?\s*[,;:=\t.)]?")
_BULLET = re.compile(r"[-*\u2022\u2013\u2014\u00b7]\s+(?=\S)")
_QUOTED = re.compile(r"([\"'])(.*\S.*)\1\s*,?")
_ASSIGNED = re.compile(
    r"\A\s*((const|let|var|export)\s+)*[A-Za-z_][\w.]*\s*(:\s*\w+)?\s*=\s*(?=[\[{(])"
)
_HEADING = re.compile(r"^(names|classes|class_names|labels|id2label)\s*:[ \t]*", re.MULTILINE)
_INVISIBLE = " \t\r\n\f\v\u00a0\u200b\u2060\ufeff"
_FORMS = "one name a line, a JSON list of names, or a table with a column 'label'"


@dataclass(frozen=True, slots=True)
class Name:
    """One name of a list, as it is written there; ``place`` says where, such as "Line 3".

    ``parents`` are names of what it is a kind of, where the list says so.
    """

    text: str
    place: str
    parents: tuple[str, ...] = ()


def read_names(path: Path, *, what: str) -> list[Name]:
    """The names of a list in its own order, or by their numbers where it has some.

    Lines that are empty or begin with ``#`` are left out; names that come twice stay.

    Args:
        path: a text file, JSON, CSV or TSV, JSON lines or Parquet.
        what: what the list is, as the beginning of messages ("Vocabulary").

    Raises:
        InputError: if it is no list of names, in one sentence.
    """
    names = _read(path, what)
    texts = [each.text for each in names]
    if texts and all(_SYNSET.fullmatch(each) for each in texts):
        raise _no_list(path, what, f"it holds synset ids such as {texts[0]!r} without their words")
    return names


def _read(path: Path, what: str) -> list[Name]:
    ending = path.suffix.lower()
    if ending in (".parquet", ".jsonl", ".ndjson"):
        return _of_table(read_table(path).rows, path, what)
    text = read_text(path, what=what)
    body = re.sub(r"\A(\s*#[^\n]*\n|\s*\n)+", "", text)
    assigned = _ASSIGNED.match(body)
    if ending == ".json" or assigned or body.lstrip()[:1] in ("[", "{"):
        return _of_json(body[assigned.end() :].rstrip(" \n;") if assigned else body, path, what)
    if ending in (".yaml", ".yml") and (heading := _HEADING.search(body)):
        return _of_yaml(body[heading.end() :], path, what)
    if ending in (".csv", ".tsv") or _has_name_column(body):
        found = _of_csv(body, path, what)
        if found is not None:
            return found
    return _of_lines(text, path, what)


# --- lines ---------------------------------------------------------------------------------------


def _of_lines(text: str, path: Path, what: str) -> list[Name]:
    names = [
        Name(line.strip(_INVISIBLE), f"Line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip(_INVISIBLE) and not line.lstrip().startswith("#")
    ]
    if names and re.fullmatch(r"[\w-]+:", names[0].text):
        rest = [each.text for each in names[1:]]
        if rest and all(_NUMBERED.match(each) or each.startswith("- ") for each in rest):
            names = names[1:]
    _refuse_other_forms(names, path, what)
    texts = [each.text for each in names]
    starts = [_WITH_SYNSET.match(each) for each in texts]
    if sum(map(bool, starts)) * 2 > len(starts):
        return [Name(_after(_WITH_SYNSET, each, path, what), each.place) for each in names]
    if texts and all(_WORDNET.fullmatch(each) for each in texts):
        return [Name(_WORDNET.sub(r"\1", each.text), each.place) for each in names]
    is_marked = len(texts) > 1 and all(map(_BULLET.match, texts))
    if is_marked:
        names = [Name(_BULLET.sub("", each.text, count=1), each.place) for each in names]
    alone = [match for each in names if (match := _ONLY_NUMBER.fullmatch(each.text))]
    rest = [each for each in names if not _ONLY_NUMBER.fullmatch(each.text)]
    in_order = _numbered(rest, [int(match[1]) for match in alone])
    if in_order is None and path.suffix.lower() in _CODE and not is_marked:
        raise _no_list(path, what, f"it is a {path.suffix} file without a list of names")
    return _without_quotes(names if in_order is None else in_order)


def _refuse_other_forms(names: Sequence[Name], path: Path, what: str) -> None:
    """Lines that are surely no names, so that the rest of the file is none either."""
    if names and re.match(r"<(\?xml|!doctype|html)\b", names[0].text, re.IGNORECASE):
        raise _no_list(path, what, "it is XML or HTML")
    if len(names) == 1 and re.search(r"[^,]+,\s*[^,\s]", names[0].text):
        raise _no_list(path, what, "it is one line with commas")
    for each in names:
        is_entry = re.match(r"([\"'])[^\"']*\1\s*:", each.text)
        is_code = re.search(r"[{\[(]$", each.text) or re.fullmatch(r"[\]\[{}(),;]+", each.text)
        is_rule = re.fullmatch(r"\|[\s:|-]+\|", each.text)
        if is_entry or is_code or is_rule:
            raise _no_list(path, what, f"{each.place} ({each.text[:40]!r}) is not a name")


def _after(start: re.Pattern[str], name: Name, path: Path, what: str) -> str:
    if start.match(name.text) is None:
        raise _no_list(
            path, what, f"{name.place} ({name.text[:40]!r}) has no synset id, as others have"
        )
    return start.sub("", name.text, count=1)


def _numbered(names: Sequence[Name], alone: Sequence[int]) -> list[Name] | None:
    """Names by the numbers before or behind them; None if there are none.

    A mark sets numbers in front apart, in every line; others must count the names. ``alone`` are
    the numbers of lines without a name.
    """
    for pattern, mark, number in ((_NUMBERED, 2, 1), (_NUMBER_LAST, 1, 2)):
        found = [match for each in names if (match := pattern.search(each.text))]
        if len(found) < max(2, len(names)) or (number == 1 and any(m.start() for m in found)):
            continue
        numbers = [int(match[number]) for match in found]
        bare = [pattern.sub("", each.text, count=1) for each in names]
        has_marks = all(match[mark].strip() or "\t" in match[mark] for match in found)
        # "1 euro, 2 euro" is counted as well, and the numbers are all that tells them apart.
        is_counted = _counts([*numbers, *alone]) and (has_marks or len(names) > 2)
        is_counted |= _rises(numbers) and (number == 1 or has_marks)
        if (number == 1 and has_marks) or (is_counted and len(set(bare)) == len(bare)):
            order = sorted(range(len(names)), key=numbers.__getitem__)
            return [Name(bare[at], names[at].place) for at in order]
    return None


def _counts(numbers: Sequence[int]) -> bool:
    """Whether each of so many numbers is there once, from 0 or from 1."""
    first = min(numbers, default=0)
    return first in (0, 1) and sorted(numbers) == list(range(first, first + len(numbers)))


def _rises(numbers: Sequence[int]) -> bool:
    """Whether numbers count something of which some are left out, such as the classes of COCO."""
    rises = all(last < each for last, each in itertools.pairwise(numbers))
    return rises and len(numbers) > 4 and numbers[0] < 2 and numbers[-1] <= 2 * len(numbers)


def _without_quotes(names: list[Name]) -> list[Name]:
    """Names without quotation marks and commas around them, if every one has those."""
    found = [_QUOTED.fullmatch(each.text) for each in names]
    if not names or not all(found):
        return names
    return [Name(match[2], each.place) for match, each in zip(found, names, strict=True) if match]


def _of_yaml(rest: str, path: Path, what: str) -> list[Name]:
    """What stands after a heading such as ``names:``, in its line or below it."""
    if rest[:1] in ("[", "{"):
        return _of_json(rest[: rest.rfind("]" if rest[0] == "[" else "}") + 1], path, what)
    lines = rest.split("\n")[1:]
    n_own = next((at for at, line in enumerate(lines) if re.match(r"[^\s#-]", line)), len(lines))
    return _of_lines("\n".join(lines[:n_own]), path, what)


# --- JSON and Python -----------------------------------------------------------------------------


def _of_json(text: str, path: Path, what: str) -> list[Name]:
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        try:
            held = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            raise _no_list(path, what, "it begins like JSON but is not") from None
    if isinstance(held, list) and held and all(isinstance(each, Mapping) for each in held):
        return _of_table(pd.DataFrame(held), path, what, place="Entry")
    names = _names_in(held)
    if names is None:
        raise _no_list(path, what, "its JSON is not a list of names")
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
    if all(isinstance(each, list | tuple) and len(each) == 2 for each in held):
        for at in (0, 1):
            numbers = [each[at] for each in held]
            if all(type(number) is int for number in numbers) and _counts(numbers):
                return _names_in({str(each[at]): each[1 - at] for each in held})
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
    lines = [line for line in text.split("\n") if line.strip()]
    if all(_NUMBER_LAST.search(line) for line in lines):
        return None
    table = parse_delimited(text, path.name)
    if len(table.rows.columns) == 1 and key_of(str(table.rows.columns[0])) not in NAME_COLUMNS:
        return None
    return _of_table(table.rows, path, what)


def _of_table(rows: pd.DataFrame, path: Path, what: str, place: str = "Row") -> list[Name]:
    column = _name_column(rows)
    if column is None:
        raise _no_list(
            path, what, f"it is a table with the columns {', '.join(map(str, rows.columns))[:80]}"
        )
    above = next((c for c in rows.columns if key_of(str(c)) in PARENT_COLUMNS), None)
    texts = [cell_text(value) or "" for value in rows[column]]
    parents = [()] * len(rows) if above is None else [_parents(value) for value in rows[above]]
    return [
        Name(texts[row], f"{place} {at}", parents[row])
        for at, row in enumerate(_order(rows, column), start=1)
        if texts[row]
    ]


def _parents(cell: Any) -> tuple[str, ...]:
    """The names in one cell: a list, or text with semicolons between."""
    if isinstance(cell, list | tuple | np.ndarray):
        parts = [str(part) for part in cell]
    else:
        parts = (cell_text(cell) or "").split(";")
    return tuple(part.strip() for part in parts if part.strip())


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
    """The cells of a column, in the order of ``_order``."""
    return [cell_text(value) or "" for value in rows[column].iloc[_order(rows, column)]]


def _order(rows: pd.DataFrame, column: Any) -> list[int]:
    """Rows by the numbers of a column where each row has one of its own.

    That is a column called like one of ``ID_COLUMNS``, else one that counts the rows, whatever it
    is called: ``label`` in a table of ``label`` and ``name``, or none.
    """
    n_rows = len(rows)
    numbers_of: dict[str, list[int]] = {}
    for other in rows.columns:
        found = as_ids([cell_text(value) for value in rows[other]])
        numbers = [number for number in found if number is not None]
        if other != column and len(numbers) == n_rows == len(set(numbers)):
            numbers_of.setdefault(key_of(str(other)), numbers)
    named = [key for key in ID_COLUMNS if key in numbers_of]
    # Two rows of 0 and 1 may be a flag; of more, no flag has every number once.
    counting = [
        key
        for key, numbers in numbers_of.items()
        if _counts(numbers) and (len(numbers) > 2 or key in _MAY_COUNT)
    ]
    for key in (*named, *counting):
        return sorted(range(n_rows), key=numbers_of[key].__getitem__)
    return list(range(n_rows))


def _no_list(path: Path, what: str, problem: str) -> InputError:
    return InputError(f"{what} {path.name!r} cannot be read: {problem}; give {_FORMS}.")
