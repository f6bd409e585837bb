"""Tables of a document, made from measured figures: each between ``<!-- table: NAME -->`` and end.

A page of tables is a module with ``TABLES``; run as ``python -m tools.NAME`` it prints them, and
with ``--write`` it puts them into the document.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MISSING = "*Not measured yet.*"

Record = Mapping[str, Any]
Writers = Mapping[str, tuple[Path, Callable[[Record], str]]]
"""Where the figures of each table are, and what writes it."""


def rows_of(head: str, rows: list[list[str]]) -> str:
    """A table of Markdown."""
    n = head.count("|") + 1
    lines = [f"| {head} |", "|---" * n + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def area(figure: Record) -> str:
    """An area under a ROC curve with its interval."""
    return f"{figure['auroc']:.2f} ({figure['low']:.2f}–{figure['high']:.2f})"


def written(tables: Writers, name: str) -> str:
    """One table, or that it was not measured."""
    path, write = tables[name]
    if not path.is_file():
        return MISSING
    record = json.loads(path.read_text(encoding="utf-8"))
    return write(record.get("quality", record))


def filled(page: str, table: Callable[[str], str]) -> str:
    """The page with every table as the files have it now; ``table`` writes the one of a name."""
    return re.sub(
        r"(<!-- table: ([\w-]+) -->\n)(?:(?!<!--).*\n)*(<!-- end -->)",
        lambda found: f"{found[1]}{table(found[2])}\n{found[3]}",
        page,
    )


def main(page: Path, names: Iterable[str], table: Callable[[str], str]) -> None:
    """Print the tables of a page, or put them into it."""
    if sys.argv[1:] == ["--write"]:
        page.write_text(filled(page.read_text(encoding="utf-8"), table), encoding="utf-8")
    else:
        for each in names:
            print(f"\n{each}\n\n{table(each)}")
