"""Tables as people have them: whatever a spreadsheet or a script wrote comes out as rows of text.

One reader for lists of images, their metadata and labels of other tools. It takes what can be told
for certain from the file itself (encoding, separator, trailing commas) and refuses the rest with
the line, because a row that vanishes is worse than a table that must be mended.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.cells import original
from csp_engine.errors import InputError, shortened
from csp_engine.files import ALLOWED, allowed_folders, given_bytes, is_inside
from csp_engine.reading.encodings import decoded, guess, why_not_western
from csp_engine.reading.lengths import MOST_OF_NAME, require_short
from csp_engine.reading.numbers import has_decimal_commas

logger = logging.getLogger(__name__)

MISSING = frozenset({"", "na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "-nan", "null", "nat"})
"""Words that stand for nothing in any column, in lower case."""

NOT_KNOWN = MISSING | frozenset(
    {"none", "unknown", "unk", "k.a.", "k. a.", "keine angabe", "unbekannt", "inconnu",
     "missing", "not available", "not known", "undefined", "-", "--", "–", "—", "?", ".",
     "#value!", "#ref!", "#div/0!", "#num!", "#name?", "#null!"}
)  # fmt: skip
"""Words that stand for nothing where a number, a flag, a file or a group should be; elsewhere they
may be what is meant: "none" is a class of its own in many sets."""

SEPARATORS = (",", ";", "\t", "|")
_LOOKED_AT = 64
_MOST_CELL = 10_000_000

csv.field_size_limit(_MOST_CELL)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table that was read: its rows, and the line of the file that each began on.

    Cells of text tables are text without white space around them, "" where empty, and without an
    apostrophe that only keeps a spreadsheet from running them (``csp_engine.cells``); those of
    Parquet and JSON keep their types. ``lines`` is empty where rows have no lines of their own.
    ``has_decimal_commas``: numbers are written as 0,5 (``numbers.has_decimal_commas``).
    """

    name: str
    rows: pd.DataFrame
    lines: tuple[int, ...] = ()
    has_decimal_commas: bool = False

    def place(self, row: int) -> str:
        """Where a row stands, as the beginning of a sentence."""
        return f"Line {self.lines[row]}" if self.lines else f"Row {row + 1}"


def read_table(path: Path) -> Table:
    """Read a table: CSV or TSV in any usual spelling, JSON lines, a JSON list of objects, Parquet.

    Text may be UTF-8, UTF-16 (or Windows' own encoding where it is neither), with a byte order mark
    or without; fields may be separated by commas, semicolons, tabs or bars, which a first line
    ``sep=;`` may say; separators at the ends of lines and empty lines mean nothing.

    Raises:
        InputError: if it cannot be read as that, with the line where there is one.
    """
    allowed = allowed_folders()
    if allowed is not None and not is_inside(path, allowed):
        raise InputError(
            f"{path.name!r} lies outside of the folders that may be read ({ALLOWED}); start the "
            "server with --allow FOLDER to add the one that it leads to."
        )
    ending = path.suffix.lower().removeprefix(".")
    try:
        read = _READERS[ending]
    except KeyError:
        raise InputError(
            f"{path.name!r} is not a table; give a file that ends in {', '.join(_READERS)}."
        ) from None
    try:
        table = read(path)
    # What pandas and pyarrow raise for a file that is not Parquet are ValueErrors and OSErrors.
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
        raise InputError(
            f"Table {path.name!r} cannot be read as {ending.upper()} ({reason})."
        ) from error
    table.rows.columns = _names(table.rows)
    for column in table.rows.columns:
        require_short(column, MOST_OF_NAME, f"The name of a column of {path.name!r}")
    doubled = table.rows.columns[table.rows.columns.duplicated()]
    if len(doubled):
        raise InputError(f"Table {path.name!r} has two columns named {doubled[0]!r}; rename one.")
    return table


def read_text(path: Path, *, what: str) -> str:
    """A text file in any usual encoding, lines ending as on Unix.

    Args:
        path: of the file.
        what: what the file is to be, as the beginning of a message.

    Raises:
        InputError: if it cannot be read or is no text.
    """
    try:
        content = given_bytes(path)
    except OSError as error:
        raise InputError(
            f"{what} {str(path)!r} cannot be read ({error.strerror}); check its permissions."
        ) from None
    try:
        text = decoded(content)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"{what} {path.name!r} is not a text file; save it as plain text (UTF-8).")
    if why := why_not_western(content):
        raise InputError(f"{what} {path.name!r} is not in UTF-8, and {why}; save it as UTF-8.")
    if (guessed := guess(content)) is not None:
        name, line, letters = guessed
        logger.warning(
            "%s %r is not in UTF-8 and is read as %s, so line %d is %r; save it as UTF-8 if it "
            "should say something else.",
            *(what, path.name, name, line, shortened(letters, 80)),
        )
    return text


# --- names and cells -----------------------------------------------------------------------------


def key_of(name: str) -> str:
    """A column name as it is compared: ``Image ID``, ``image-id`` and ``IMAGE_ID`` are one."""
    plain = unicodedata.normalize("NFKC", name).strip().casefold()
    return re.sub(r"[\s_\-./]+", "_", plain).strip("_")


def singular_key(name: str) -> str:
    """The same without the ending of a plural: ``Patches`` and ``patch`` are one."""
    return key_of(name).removesuffix("s").removesuffix("e")


def cell_text(value: object) -> str | None:
    """One cell as text, None where it is empty; whole floats lose their '.0'."""
    if isinstance(value, list | tuple | dict | np.ndarray):  # cells of Parquet and JSON
        held = value.tolist() if isinstance(value, np.ndarray) else value
        return str(held) if held else None
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def known_text(value: object, missing: frozenset[str] = MISSING) -> str | None:
    """One cell as text, None where it is empty or holds a word for nothing."""
    text = cell_text(value)
    return None if text is None or text.casefold() in missing else text


# --- text tables ---------------------------------------------------------------------------------


def parse_delimited(text: str, name: str, separator: str | None = None) -> Table:
    """The rows of a text table.

    Args:
        text: of the table, lines ending as on Unix.
        name: of the table, for messages.
        separator: between cells; told from the text if not given.

    Raises:
        InputError: if a quotation mark is left open or stands in the way, or a row is too long.
    """
    n_before = 0
    stated = re.match(r'\s*"?sep=(.|\\t)"?[;,\t]*(\n|$)', text, re.IGNORECASE)
    if stated:
        separator = "\t" if stated[1] == "\\t" else stated[1]
        n_before = text[: stated.end()].count("\n")
        text = text[stated.end() :]
    if separator is None:
        separator = _separator(text)
    records = _records(text, name, separator, n_before)
    if not records:
        raise InputError(
            f"Table {name!r} cannot be read: it is empty; its first line must name its columns."
        )
    (_, header), *body = records
    while header and not header[-1].strip() and all(_is_short(row, len(header)) for _, row in body):
        header = header[:-1]
    for line, row in body:
        if any(cell.strip() for cell in row[len(header) :]):
            raise InputError(
                f"Table {name!r} cannot be read: line {line} has {len(row)} cells and the header "
                f"has {len(header)}; put cells that hold {_SPELT[separator]} in quotation marks."
            )
    cells = [[original(cell).strip() for cell in row[: len(header)]] for _, row in body]
    cells = [row + [""] * (len(header) - len(row)) for row in cells]
    rows = pd.DataFrame(
        cells, columns=pd.Index([original(name) for name in header], dtype=object), dtype=object
    )
    has_commas = has_decimal_commas((cell for row in cells for cell in row), separator)
    return Table(name, rows, tuple(line for line, _ in body), has_commas)


_SPELT = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def _is_short(row: Sequence[str], width: int) -> bool:
    return len(row) < width or not row[width - 1].strip()


def _records(text: str, name: str, separator: str, n_before: int) -> list[tuple[int, list[str]]]:
    """Records with the line that each begins on; those of empty cells are left out."""
    reader = csv.reader(
        io.StringIO(text), delimiter=separator, strict=True, skipinitialspace=separator != "\t"
    )
    found: list[tuple[int, list[str]]] = []
    first = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                found.append((first + n_before, row))
            first = reader.line_num + 1
    except csv.Error as error:
        if "field larger" in str(error):
            problem = f"line {first + n_before} begins a cell of more than {_MOST_CELL:,} letters"
        else:
            problem = f"line {first + n_before} has a quotation mark that is not closed properly"
        raise InputError(
            f"Table {name!r} cannot be read: {problem}; write a quotation mark inside a cell twice "
            "and the cell in quotation marks, or leave it out."
        ) from None
    _refuse_swallowed_rows(found, name, separator)
    return found


def _refuse_swallowed_rows(
    found: Sequence[tuple[int, list[str]]], name: str, separator: str
) -> None:
    """Two stray quotation marks make one cell of the rows between them; that is refused.

    A cell may have several lines. It is taken for swallowed rows where a line of it has as many
    separators as a row would and begins as the first cells of other rows do.
    """
    if not any("\n" in cell for _, row in found for cell in row):
        return
    width = len(found[0][1])
    shapes = {_shape(row[0]) for _, row in found[1:]}
    for line, row in found:
        for place, cell in enumerate(row):
            head, *others = cell.split("\n")
            for at, other in enumerate(others):
                is_last = at == len(others) - 1
                # The last line goes on after the closing mark, so it holds the cells before this.
                wanted = place if is_last else width - 1
                begins = _shape(other.split(separator, 1)[0]) in shapes
                is_cut = place > 0 or head.count(separator) >= width - 1
                if width > 1 and other.count(separator) == wanted and begins and is_cut:
                    raise InputError(
                        f"Table {name!r} cannot be read: a cell that begins in line {line} runs "
                        f"over {len(others) + 1} lines that look like rows; look for a stray "
                        "quotation mark there."
                    )


def _shape(text: str) -> str:
    """What a cell looks like: letters as ``a``, digits as ``0``, runs as one."""
    text = re.sub(r"[^\W\d_]+", "a", text.strip().strip('"'))
    return re.sub(r"\d+", "0", text)


def _separator(text: str) -> str:
    """The separator that divides the header and the rows after it most alike."""
    lines = [line for line in text.split("\n", _LOOKED_AT)[:_LOOKED_AT] if line.strip()]
    if not lines:
        return ","
    best, best_rank = ",", (0.0, 0)
    for separator in SEPARATORS:
        n_header = _n_cells(lines[0], separator)
        if n_header < 2:
            continue
        alike = sum(abs(_n_cells(line, separator) - n_header) < 1 for line in lines[1:])
        share = alike / (len(lines) - 1) if len(lines) > 1 else 1.0
        rank = (share, n_header)
        if rank > best_rank:
            best, best_rank = separator, rank
    return best


def _n_cells(line: str, separator: str) -> int:
    """Cells of one line, without those at its end that are empty."""
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=separator != "\t"), [])
    except csv.Error:
        return line.count(separator) + 1
    return len(row)


def _names(rows: pd.DataFrame) -> pd.Index:
    """Names of columns without white space around them; a nameless one goes by its place."""
    texts = [unicodedata.normalize("NFC", str(name)).strip().strip("\ufeff") for name in rows]
    return pd.Index([text or f"Unnamed: {at}" for at, text in enumerate(texts)], dtype=object)


# --- other forms ---------------------------------------------------------------------------------


def _read_csv(path: Path) -> Table:
    return parse_delimited(read_text(path, what="Table"), path.name)


def _read_tsv(path: Path) -> Table:
    text = read_text(path, what="Table")
    return parse_delimited(text, path.name, "\t" if "\t" in text.split("\n", 1)[0] else None)


def _read_jsonl(path: Path) -> Table:
    lines, rows = [], []
    for number, line in enumerate(read_text(path, what="Table").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            held = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"Table {path.name!r} cannot be read: line {number} is not JSON ({error})."
            ) from None
        lines.append(number)
        rows.append(held)
    return _of_objects(path, rows, tuple(lines))


def _read_json(path: Path) -> Table:
    held = json.loads(read_text(path, what="Table"))
    if isinstance(held, Mapping):
        if {"columns", "data"} <= set(held):  # as pandas writes with orient="split"
            return Table(path.name, pd.DataFrame(held["data"], columns=held["columns"]))
        parts = list(held.values())
        is_table = all(isinstance(p, Mapping) and p.keys() == parts[0].keys() for p in parts)
        # Numbers in front of names count records; they are no columns.
        of_records = is_table and all(map(str.isdecimal, held)) and any(
            not str(key).isdecimal() for part in parts for key in part
        )  # fmt: skip
        if parts and is_table and not of_records:
            return Table(path.name, pd.DataFrame(held).reset_index(drop=True))  # and without it
    return _of_objects(path, held if isinstance(held, list) else [held], ())


def _of_objects(path: Path, rows: Sequence[Any], lines: tuple[int, ...]) -> Table:
    if not all(isinstance(row, Mapping) for row in rows):
        raise InputError(
            f"Table {path.name!r} cannot be read: each row must be one JSON object, such as "
            '{"layer": "layer4", "unit": 7, "description": "stripes"}.'
        )
    return Table(path.name, pd.DataFrame(list(rows)), lines)


def _read_parquet(path: Path) -> Table:
    rows = pd.read_parquet(path)
    # pandas keeps what a table was indexed by, which may be the column of images.
    named = [name for name in rows.index.names if name is not None]
    return Table(path.name, rows.reset_index() if named else rows.reset_index(drop=True))


_READERS: dict[str, Callable[[Path], Table]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "txt": _read_csv,
    "jsonl": _read_jsonl,
    "ndjson": _read_jsonl,
    "json": _read_json,
    "parquet": _read_parquet,
}
TABLE_ENDINGS = tuple(_READERS)
"""What names of tables end in, without the point."""
