"""Folders of images: what counts in them, what is left out, and what their names say."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.probe.beside import NAMES
from csp_engine.probe.decoding.formats import image_endings, is_image_name, why_not_read

SPLIT_NAME = re.compile(
    r"(train|training|val|valid|validation|dev|test|testing|eval|holdout)([_-]?(set|\d{4}))?",
    re.IGNORECASE,
)
"""Folders called so are parts of a data set, not classes; also ``val2017`` and ``test_set``."""

NOT_UNICODE = "The file name is not valid UTF-8; rename it."
BROKEN_LINK = "links to files that are not there"
LINK_INSIDE = "is a link inside of an archive: pack the files themselves"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files of one ending that were not looked at; ``why`` is empty where they are no images."""

    ending: str
    n_files: int
    first: str
    why: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """What was found below a folder.

    ``table`` has a row per image: ``file``, then ``class`` and ``split`` where folders say so.
    ``unreadable`` gives the reason for images that cannot be read because of their names.
    """

    table: pd.DataFrame
    left_out: tuple[LeftOut, ...]
    unreadable: dict[str, str]


def list_folder(root: Path) -> Folder:
    """All images below a folder, sorted by path, and what else is there.

    Raises:
        InputError: if there is no image.
    """
    images, others = [], []
    for file, is_image in _files_below(root, "", (os.path.realpath(root),)):
        if is_image or PurePosixPath(file).name not in NAMES:
            (images if is_image else others).append(file)
    left_out = by_ending(others, root)
    if not images:
        there = f"; it holds {count_in_words(left_out)}" if left_out else ""
        raise InputError(
            f"No image was found in {str(root)!r}{there}; files that count end in "
            f"{', '.join(image_endings())}."
        )
    names = sorted(images)
    shown = [as_shown(name) for name in names]
    unreadable = {
        text: NOT_UNICODE for name, text in zip(names, shown, strict=True) if name != text
    }
    table = pd.DataFrame({"file": shown})
    for column, values in said_by_folders(shown).items():
        table[column] = pd.Series(values, dtype=object)
    return Folder(table, left_out, unreadable)


def image_files(root: Path) -> list[str]:
    """All image files below a folder as sorted relative paths; what is hidden does not count."""
    return sorted(walk_images(root))


def walk_images(root: Path) -> Iterator[str]:
    """The same one by one, in the order of the disk; to look at no more of it than is needed."""
    for file, is_image in _files_below(root, "", (os.path.realpath(root),)):
        if is_image:
            yield file


def _files_below(
    folder: Path, prefix: str, ancestors: tuple[str, ...]
) -> Iterator[tuple[str, bool]]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InputError(
            f"Folder {str(folder)!r} cannot be listed ({error.strerror}); check its permissions."
        ) from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
            yield prefix + entry.name, False  # it leads nowhere, or to itself
        elif entry.is_dir():
            # A link to a folder that we are inside of would never end.
            real = os.path.realpath(entry.path)
            if real not in ancestors:
                yield from _files_below(
                    Path(entry.path), f"{prefix}{entry.name}/", (*ancestors, real)
                )
        elif entry.is_file():
            yield prefix + entry.name, is_image_name(entry.name)


def as_shown(name: str) -> str:
    r"""A file name as text; bytes that are no UTF-8 are written as ``\xe9``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


# --- what is left out ----------------------------------------------------------------------------


def by_ending(files: Iterable[str], root: Path | None = None) -> tuple[LeftOut, ...]:
    """Files that are no images here, counted; links that lead nowhere by themselves."""
    found: dict[tuple[str, bool], list[str]] = {}
    for file in sorted(files):
        ending = "".join(PurePosixPath(as_shown(file)).suffixes[-1:]).lower()
        is_broken = root is not None and not os.path.exists(root / file)  # noqa: PTH110
        found.setdefault((ending, is_broken), []).append(as_shown(file))
    rows = []
    for (ending, is_broken), names in found.items():
        why = BROKEN_LINK if is_broken else why_not_read(names[0])
        rows.append(LeftOut(ending, len(names), names[0], why))
    return tuple(sorted(rows, key=lambda row: (-bool(row.why), -row.n_files, row.ending)))


def count_in_words(left_out: Sequence[LeftOut], most: int = 6) -> str:
    """How many files of which endings, those first that could be read with a package more."""
    parts = [
        f"{row.n_files:,} {row.ending or 'without an ending'}{f' ({row.why})' if row.why else ''}"
        for row in left_out[:most]
    ]
    n_more = sum(row.n_files for row in left_out[most:])
    return ", ".join([*parts, *([f"{n_more:,} others"] if n_more else [])])


# --- what folders say ----------------------------------------------------------------------------


def said_by_folders(files: Sequence[str]) -> dict[str, list[str | None]]:
    """Class and split of each file, by the folders that it lies in.

    The first folder is the class, unless the folders of that depth are all called like parts of a
    data set (``train``, ``val``): then they are the split, and the class is the next folder. Parts
    may also lie one folder deeper (``cats/train``), or below one folder that holds everything
    (``images/train/cats``). A folder that holds everything is no class where all files lie deeper
    still: ``images/cats`` and ``images/dogs`` are two.
    """
    # macOS takes letters apart, and the same word is the same class wherever it was written.
    folders = [unicodedata.normalize("NFC", file).split("/")[:-1] for file in files]
    depth = _split_depth(folders)
    if depth is None:
        at = 0
        while len({tuple(parts[: at + 1]) for parts in folders}) == 1 and all(
            len(parts) > at + 1 for parts in folders
        ):
            at += 1
        said = {"class": [parts[at] if len(parts) > at else None for parts in folders]}
    else:
        names = Counter(parts[0] for parts in folders if parts)
        is_class_above = depth == 1 and len(names) > 1
        at = 0 if is_class_above else depth + 1
        said = {
            "class": [parts[at] if len(parts) > max(at, depth) else None for parts in folders],
            "split": [parts[depth] if parts else None for parts in folders],
        }
    return {name: values for name, values in said.items() if any(values)}


def _split_depth(folders: Sequence[Sequence[str]]) -> int | None:
    for depth in (0, 1):
        inside = [parts for parts in folders if parts]
        if inside and all(
            len(parts) > depth and SPLIT_NAME.fullmatch(parts[depth]) for parts in inside
        ):
            return depth
    return None
