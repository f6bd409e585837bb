"""CSV that a spreadsheet only shows: a text that it would run gets an apostrophe in front.

Labels, notes and names of files come from anywhere. A spreadsheet takes a cell that begins with
``=``, ``+``, ``-`` or ``@`` for a formula, some of them also behind blanks or in full-width form.
An apostrophe is what people type there themselves to say "this is text". Every CSV of the
project is written here, and ``original`` takes the apostrophe away again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_RUNS = (
    "["
    "=+\\-@"
    "\uff1d\uff0b\uff0d\uff20"  # full-width
    "\ufe66\ufe62\ufe63\ufe6b"  # small
    "\u207c\u208c\u207a\u208a\u207b\u208b"  # raised and lowered
    "\u2212\u2010\u2011"  # minus and hyphens that some programs take for one
    "]"
)
_UNSEEN = r"[\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
_AT_RISK = re.compile(f"'*(?:[\\t\\r\\n\\x00]|{_UNSEEN}*{_RUNS})")
"""Apostrophes in front belong to it, so that a text which has them already comes back as it was."""
_ENDS = "[;\\t\\r\\n]"
_LATER = f"(?='*(?:(?!{_ENDS}){_UNSEEN})*{_RUNS})"
_LATER_AT_RISK = re.compile(f"(?<={_ENDS}){_LATER}")
_LATER_MARKED = re.compile(f"(?<={_ENDS})'{_LATER}")
"""Where a spreadsheet that ends cells at semicolons or tabs begins one within a text of ours."""


def neutral(text: str) -> str:
    """A text as a cell that no spreadsheet runs."""
    text = _LATER_AT_RISK.sub("'", text)
    return f"'{text}" if _AT_RISK.match(text) else text


def original(cell: str) -> str:
    """The text that ``neutral`` was given, or what a person meant by an apostrophe."""
    cell = cell[1:] if cell.startswith("'") and _AT_RISK.match(cell) else cell
    return _LATER_MARKED.sub("", cell)


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV without its index: texts made neutral, numbers as they are, none rounded."""
    import csv

    import pandas as pd

    written = table.set_axis([_cell(name) for name in table.columns], axis=1)
    has_return = any("\r" in str(name) for name in written.columns)
    for place, dtype in enumerate(written.dtypes):
        if dtype.kind not in "biufcmM":
            cells = [_cell(value) for value in written.iloc[:, place].tolist()]
            has_return |= any(isinstance(cell, str) and "\r" in cell for cell in cells)
            written.isetitem(place, pd.Series(cells, written.index, object))
    # Readers end a row at a carriage return, and the writer quotes no cell for having one.
    quoting = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    return written.to_csv(index=False, lineterminator="\n", quoting=quoting)


def _cell(value: Any) -> Any:
    return neutral(value) if isinstance(value, str) else value
