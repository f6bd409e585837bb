"""Where the project's own files lie, and text files that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_COPY = _PACKAGE / "_app"
IS_CHECKOUT = not _COPY.is_dir()
"""Whether the package runs from the repository; what an installed wheel holds is not to change."""
ROOT = _PACKAGE.parent if IS_CHECKOUT else _COPY
"""The folder of ``app.py``, ``pages/``, ``assets/`` and ``docs/``.

The repository, or in an installed wheel a copy of them inside the package.
"""


def write_whole(path: Path, text: str) -> None:
    """Write or replace a text file so that no reader, and no stop in between, sees half of it.

    For what can be made again: it is not forced to disk, as the manifest of a bundle is.

    Args:
        path: in a folder that exists; ``.tmp-NAME`` beside it is used meanwhile.
        text: written as UTF-8, its line ends as they are.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)
