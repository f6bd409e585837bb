"""Lists of paths: a text file of one path a line, as ``find`` and training code write it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.probe.decoding.formats import is_image_name
from csp_engine.reading.tables import Table, read_text

LIST_EXTENSIONS = (".txt", ".lst", ".list")
FILE = "\0file"
_WITH_CLASS = re.compile(r"(.+\.\w+)[ \t]+(\S+)")


def read_list(path: Path) -> Table | None:
    """The lines of a list of image paths, with the class that may follow each.

    Lines that begin with ``#`` and empty ones mean nothing. None where the lines are no names of
    images, such as those of a table.

    Raises:
        InputError: if the file is no text, or lists nothing.
    """
    lines = read_text(path, what="List").splitlines()
    held = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    held = [(number, line) for number, line in held if line and not line.startswith("#")]
    if not held:
        raise InputError(f"List {path.name!r} lists no image; write one path a line.")
    texts = [line for _, line in held]
    classes: list[str] = []
    if not all(map(is_image_name, texts)):
        found = [_WITH_CLASS.fullmatch(text) for text in texts]
        if not all(match and is_image_name(match[1]) for match in found):
            return None
        texts, classes = ([match[i] for match in found if match] for i in (1, 2))
    rows = pd.DataFrame({FILE: texts} | ({"class": classes} if classes else {}))
    return Table(path.name, rows, tuple(number for number, _ in held))


def table_of_paths(paths: Sequence[str | Path], name: str = "paths") -> Table:
    """The same of paths in Python."""
    return Table(name, pd.DataFrame({FILE: [os.fspath(path) for path in paths]}))


def common_root(table: Table, usual: Path) -> Path:
    """The folder that paths start from: of absolute paths the one they share."""
    texts = table.rows[FILE].tolist()
    if texts and all(Path(text).is_absolute() for text in texts):
        return Path(os.path.commonpath([os.path.dirname(text) for text in texts]))  # noqa: PTH120
    return usual
