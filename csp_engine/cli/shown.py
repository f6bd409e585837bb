"""What the command line shows: progress with an ETA, tables, JSON; nothing a terminal obeys."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from csp_engine.cells import csv_text
from csp_engine.jobs import PROGRESS_FILE, ProgressFile
from csp_engine.printable import escaped, lines, one_line
from csp_engine.types import Progress

if TYPE_CHECKING:
    import pandas as pd

PLAIN_INTERVAL_S = 10.0
"""Seconds between progress lines where there is no terminal."""


@contextmanager
def progress_bars() -> Generator[Progress]:
    """A progress callback: bars with an ETA on a terminal, a line now and then elsewhere.

    Where the environment names a file for it (``CSP_PROGRESS_FILE``), that is kept up to date too.
    """
    file = os.environ.get(PROGRESS_FILE)
    if file is None:
        with _shown() as show:
            yield show
        return
    with ProgressFile(Path(file)) as keep, _shown() as show:

        def both(stage: str, done: int, total: int) -> None:
            keep(stage, done, total)
            show(stage, done, total)

        yield both


@contextmanager
def _shown() -> Generator[Progress]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _PlainProgress()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(one_line(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


class _PlainProgress:
    """Progress for logs: the first, the last, and one line every few seconds."""

    def __init__(self) -> None:
        self._started: dict[str, tuple[float, int]] = {}
        self._last = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage not in self._started:
            self._started[stage] = (now, done)
        elif done < total and now - self._last < PLAIN_INTERVAL_S:
            return
        self._last = now
        since, first = self._started[stage]
        left = ""
        if first < done < total:
            seconds = (now - since) / (done - first) * (total - done)
            left = f", {int(seconds // 60)}:{int(seconds % 60):02d} left"
        sys.stderr.write(f"{one_line(stage)}: {done}/{total}{left}\n")


def write_json(value: Any) -> None:
    """Print JSON on standard output."""
    sys.stdout.write(escaped(json.dumps(value, indent=1, ensure_ascii=False)) + "\n")


def write_csv(table: pd.DataFrame) -> None:
    """Print a table as CSV on standard output; a file or another program gets it as it is."""
    text = csv_text(table)
    sys.stdout.write(lines(text) if sys.stdout.isatty() else text)


def write_lines(sentences: Iterable[str]) -> None:
    """Print plain lines on standard output."""
    sys.stdout.write("".join(f"{one_line(sentence)}\n" for sentence in sentences))


def write_failure(sentence: str) -> None:
    """Say on standard error why a check did not pass."""
    sys.stderr.write(f"csp: {one_line(sentence)}\n")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on standard output; numbers to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [list(row) for row in rows]
    for place, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[place], int | float) for row in rows)
        table.add_column(one_line(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    width = None if sys.stdout.isatty() else 200
    Console(width=width, markup=False, highlight=False, emoji=False).print(table)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else one_line(str(value))
