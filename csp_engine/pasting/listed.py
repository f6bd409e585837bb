"""Pairs that somebody made: a table says which image is which."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from PIL import Image

from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.hashing import sha256_file, sha256_json
from csp_engine.pasting.pairs import Triple
from csp_engine.probe.columns import ROLE_COLUMNS, called, warn_of_groups, warn_of_look_alikes
from csp_engine.probe.decoding import decode
from csp_engine.probe.paths import FolderListing, locate_images, refuse_outside
from csp_engine.reading.tables import NOT_KNOWN, Table, key_of, known_text, read_table

logger = logging.getLogger(__name__)

WANTED = ("artefact", "without", "with")
"""Columns that a table of pairs must have; ``artifact`` does for the first."""
_SPELT = {"artifact": "artefact"}
_N_THREADS = 4


class ListedPairs:
    """Pairs from a table with the columns artefact, without, with; maybe neutral, group, file.

    A group may be called as in lists of images, such as ``patient_id``.

    Every image is decoded once when this is made, so that what cannot be used is said before any
    of it is measured.
    """

    def __init__(self, table_path: Path, root: Path | None = None) -> None:
        """Read the table and look at each image.

        Args:
            table_path: in any form of ``csp_engine.reading.tables``.
            root: folder that the paths start from; default the table's own.

        Raises:
            InputError: if the table lacks a column, an image is missing, outside of the root or
                unreadable, or the images of a pair differ in size.
        """
        table = read_table(Path(table_path))
        if not len(table.rows):
            raise InputError(f"Table {table.name!r} lists no pair; add one row for each.")
        self._root = Path(table_path).parent if root is None else Path(root)
        if not self._root.is_dir():
            raise InputError(f"The image root {str(self._root)!r} is not a folder; check the path.")
        rows = _by_plain_names(table)
        folders = FolderListing(self._root)
        plain = Table(table.name, rows, table.lines)
        self._files: dict[str, list[str | None]] = {
            role: list(locate_images(plain, role, folders)) for role in ("without", "with")
        }
        self._files["neutral"] = _neutral(plain, folders)
        held = sorted({file for files in self._files.values() for file in files if file})
        refuse_outside(self._root, held)
        self.table = pd.DataFrame(
            {
                "artefact": _artefacts(plain),
                "file": _file_column(rows, self._files["without"]),
                "group": _texts(rows, "group"),
            },
            dtype=object,
        )
        self.name = f"{len(rows)} pairs listed in {table.name}"
        warn_of_look_alikes(self.table, table.name)
        warn_of_groups(rows.assign(group=self.table["group"]), table.name)
        self._refuse_unequal(plain)
        hashes = dict(zip(held, _hashes(self._root, held), strict=True))
        self._tell_of_same(plain, hashes)
        self.table["sha256"] = [hashes[file] for file in self._files["without"] if file]
        self.fingerprint = sha256_json(
            [
                [artefact, *(hashes[file] if file else None for file in files)]
                for artefact, files in zip(
                    self.table["artefact"], zip(*self._files.values(), strict=True), strict=True
                )
            ]
        )

    def images(self, row: int) -> Triple:
        """Without, with, and neutral where the table names one.

        Raises:
            UnreadableImageError: if a file has gone since.
        """
        without, with_it, neutral = (files[row] for files in self._files.values())
        assert without is not None
        assert with_it is not None
        return self._read(without), self._read(with_it), self._read(neutral) if neutral else None

    def _read(self, file: str) -> Image.Image:
        try:
            return decode((self._root / file).read_bytes())
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{file!r}: {error}") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UnreadableImageError(f"{file!r} cannot be read ({reason}).") from None

    def _refuse_unequal(self, table: Table) -> None:
        held = sorted({file for files in self._files.values() for file in files if file})
        with ThreadPoolExecutor(_N_THREADS) as pool:
            sizes = dict(zip(held, pool.map(lambda file: self._read(file).size, held), strict=True))
        for row, files in enumerate(zip(*self._files.values(), strict=True)):
            first, *others = (file for file in files if file)
            for other in others:
                if sizes[other] != sizes[first]:
                    raise InputError(
                        f"{table.place(row)} of {table.name!r}: {first!r} is "
                        f"{_spelt(sizes[first])} pixels and {other!r} {_spelt(sizes[other])}; a "
                        "pair shows one photograph, so save both in one size."
                    )

    def _tell_of_same(self, table: Table, hashes: Mapping[str, str]) -> None:
        """Warn of pairs of which two images are one, which show no effect whatever is asked."""
        same = []
        for row, files in enumerate(zip(*self._files.values(), strict=True)):
            held = [hashes[file] for file in files if file]
            if len(set(held)) < len(held):
                same.append(row)
        if len(same) == len(self.table):
            raise InputError(
                f"Every pair of {table.name!r} names one picture twice, so none shows an effect; "
                "name the photograph, the same with the artefact, and perhaps with neutral texture."
            )
        if same:
            logger.warning(
                "%s: in %d of %d pairs two of the images are the same, first in %s; these show no "
                "effect and make the mean smaller.",
                table.name, len(same), len(self.table), table.place(same[0]).lower(),
            )  # fmt: skip


def _by_plain_names(table: Table) -> pd.DataFrame:
    """The table with its columns as they are called here.

    Raises:
        InputError: if one is missing.
    """
    names = {}
    for column in table.rows:
        key = key_of(str(column))
        names.setdefault(_SPELT.get(key, key), column)
    if "group" not in names and (found := called(ROLE_COLUMNS["group"], list(table.rows))):
        names["group"] = found
    missing = [name for name in WANTED if name not in names]
    if missing:
        raise InputError(
            f"Table {table.name!r} has no column {missing[0]!r}: it has "
            f"{', '.join(map(str, table.rows.columns))}; a table of pairs has {', '.join(WANTED)}, "
            "and may have neutral, group and file."
        )
    return pd.DataFrame({name: table.rows[column] for name, column in names.items()})


def _artefacts(table: Table) -> list[str]:
    texts = [known_text(value) for value in table.rows["artefact"]]
    if None in texts:
        raise InputError(
            f"{table.place(texts.index(None))} of {table.name!r} names no artefact; say in the "
            "column 'artefact' what the second image has and the first has not."
        )
    return [text for text in texts if text is not None]


def _neutral(table: Table, folders: FolderListing) -> list[str | None]:
    rows = table.rows
    files: list[str | None] = [None] * len(rows)
    if "neutral" in rows:
        given = [i for i, v in enumerate(rows["neutral"]) if known_text(v, NOT_KNOWN) is not None]
        found = locate_images(Table(table.name, rows.iloc[given]), "neutral", folders)
        for row, file in zip(given, found, strict=True):
            files[row] = file
    return files


def _file_column(rows: pd.DataFrame, without: Sequence[str | None]) -> list[str | None]:
    """The photograph of each pair: as the table calls it, else the image without the artefact."""
    return [text or file for text, file in zip(_texts(rows, "file"), without, strict=True)]


def _texts(rows: pd.DataFrame, column: str) -> list[str | None]:
    if column not in rows:
        return [None] * len(rows)
    return [known_text(value, NOT_KNOWN) for value in rows[column]]


def _hashes(root: Path, files: Sequence[str]) -> list[str]:
    with ThreadPoolExecutor(_N_THREADS) as pool:
        return list(pool.map(lambda file: sha256_file(root / file), files))


def _spelt(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"
