"""Probe sets: a folder tree, a flat folder or a table becomes one ordered list of image files."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.files import ALLOWED, allowed_folders, first_outside
from csp_engine.hashing import sha256_file
from csp_engine.probe.beside import metadata_beside
from csp_engine.probe.columns import choose_columns, metadata
from csp_engine.probe.folders import LeftOut, list_folder
from csp_engine.probe.paths import FolderListing, resolve_images
from csp_engine.reading import tables
from csp_engine.reading.tables import Table
from csp_engine.types import Progress, silent

TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet")
_N_THREADS = 4
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """The probe images in order, and all that is known about each.

    ``table`` has one row per image: ``file`` (path below ``root``, with slashes), ``sha256`` of the
    bytes ("" where the file could not be read), then ``class``, ``split``, ``group`` where known,
    then every other column of the user's table. ``concepts`` names the 0/1 columns (float, NaN
    where unknown), ``masks`` the columns that hold mask files (path below ``root``, or None).
    ``left_out`` counts files that are no images here; ``unreadable`` says of files why they are
    not even opened.
    """

    root: Path
    table: pd.DataFrame
    name: str
    concepts: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def _files(self) -> list[str]:
        return self.table["file"].tolist()

    @cached_property
    def content_sha256(self) -> str:
        """Hash of the images and their order; names and metadata play no part."""
        return hashlib.sha256("\n".join(self.table["sha256"]).encode()).hexdigest()

    @cached_property
    def metadata_sha256(self) -> str:
        """Hash of the whole table: file names, content hashes and every metadata column."""
        digest = hashlib.sha256()
        head = [self.name, self.concepts, self.masks]
        digest.update(json.dumps(head, ensure_ascii=True).encode())
        for column in self.table.columns:
            values = [None if pd.isna(v) else v for v in self.table[column].tolist()]
            line = json.dumps([column, values], ensure_ascii=True, default=str)
            digest.update(f"{len(line)}:{line}".encode())
        return digest.hexdigest()

    def read(self, row: int) -> bytes:
        """The bytes of one image file.

        Raises:
            UnreadableImageError: if the file has gone or may not be read.
        """
        assert row >= 0
        if (reason := self.unreadable.get(self._files[row])) is not None:
            raise UnreadableImageError(reason)
        try:
            return (self.root / self._files[row]).read_bytes()
        except OSError as error:
            raise UnreadableImageError(
                f"The file cannot be read ({error.strerror or type(error).__name__})."
            ) from None


def read_probe_set(
    source: Path,
    *,
    image_root: Path | None = None,
    path_column: str | None = None,
    class_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    limit: int | None = None,
    progress: Progress = silent,
) -> ProbeSet:
    """List and hash the images of a folder tree, a flat folder or a CSV/Parquet table.

    In a folder all images below it count, in the order of their paths; hidden files and folders
    do not. Where there are subfolders with images, the first folder of a path is the class (or the
    split, where it is called ``train`` or the like), and images lying directly in the root have
    none. A table called ``metadata`` in a folder of images says more about them. A table keeps its
    own order; its paths are relative to ``image_root`` (default: the table's folder) and may lack
    the extension.

    Args:
        source: folder, or table as ``csp_engine.reading.tables`` reads it.
        image_root: folder that the paths of a table start from.
        path_column: column of a table with the image paths; default see ``ROLE_COLUMNS``.
        class_column: column with the class.
        split_column: column with the split.
        group_column: column with what images share, such as one lesion or one patient.
        limit: keep that many images, evenly spaced over the list (a class tree keeps its classes).
        progress: called while files are hashed.

    Raises:
        InputError: if the source or an image listed in it is missing, nothing is found, a column
            does not exist, or a path is empty, doubled or outside the root.
    """
    source = Path(source)
    asked = {
        "path": path_column,
        "class": class_column,
        "split": split_column,
        "group": group_column,
    }
    if limit is not None and limit < 1:
        raise InputError(f"A limit of {limit} images leaves nothing; give 1 or more.")
    if not source.exists():
        raise InputError(
            f"There is no folder or table at {str(source)!r}; {_neighbours(source)}check the path."
        )
    found = None
    if source.is_dir():
        if image_root is not None:
            raise InputError(
                f"{str(source)!r} is a folder, which has no image root; "
                f"leave it out or give a .csv or .parquet table."
            )
        root, found = source, list_folder(source)
        table, concepts, masks = metadata_beside(source, found.table, asked)
    elif source.suffix.lower() in TABLE_EXTENSIONS:
        root = source.parent if image_root is None else Path(image_root)
        if not root.is_dir():
            raise InputError(f"The image root {str(root)!r} is not a folder; check the path.")
        table, concepts, masks = _table_of_table(source, root, asked)
    else:
        raise InputError(
            f"{source.name!r} is neither a folder nor a table; give a folder of images, "
            f"or a file that ends in {', '.join(TABLE_EXTENSIONS)}."
        )
    if limit is not None and limit < len(table):
        rows = [i * len(table) // limit for i in range(limit)]
        table = table.iloc[rows].reset_index(drop=True)
    _refuse_outside(root, table, masks)
    table.insert(1, "sha256", _hash_files(root, table["file"].tolist(), progress))
    name = source.resolve().name if source.is_dir() else source.stem
    if found is None:
        return ProbeSet(root, table, name, concepts, masks)
    return ProbeSet(root, table, name, concepts, masks, found.left_out, found.unreadable)


def _refuse_outside(root: Path, table: pd.DataFrame, masks: Sequence[str]) -> None:
    """Where only some folders may be read, no link leads out of them."""
    allowed = allowed_folders()
    if allowed is None:
        return
    for column in ("file", *masks):
        found = first_outside(root, table[column].dropna().tolist(), allowed)
        if found is not None:
            raise InputError(
                f"{found!r} lies outside of the folders that may be read ({ALLOWED}); "
                "start the server with --allow FOLDER to add the one that it leads to."
            )


def _neighbours(missing: Path) -> str:
    parent = missing.parent
    if not parent.is_dir():
        return f"{str(parent)!r} does not exist either; "
    near = difflib.get_close_matches(missing.name, sorted(p.name for p in parent.iterdir()), n=3)
    return f"nearest in that folder: {', '.join(near)}; " if near else ""


# --- tables --------------------------------------------------------------------------------------


def _table_of_table(
    source: Path, root: Path, asked: Mapping[str, str | None]
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    table = _listed(source)
    columns = choose_columns(table.rows, asked, source.name)
    folders = FolderListing(root)
    files = resolve_images(table, columns["path"], folders)
    _refuse_undecodable(files)
    return metadata(table, columns, files, folders)


def read_table(source: Path) -> pd.DataFrame:
    """The rows of a table of images, in any form of ``csp_engine.reading.tables``; text stays text.

    Raises:
        InputError: if it cannot be read, is empty, or names a column twice.
    """
    return _listed(source).rows


def _listed(source: Path) -> Table:
    table = tables.read_table(source)
    if not len(table.rows):
        raise InputError(f"Table {source.name!r} lists no image; add one row per image.")
    return table


def _refuse_undecodable(files: Sequence[str]) -> None:
    bad = [file for file in files if not _is_unicode(file)]
    if bad:
        raise InputError(
            f"{len(bad)} file name(s) are not valid UTF-8 (first: {bad[0]!a}); rename them."
        )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- hashing -------------------------------------------------------------------------------------


def _hash_files(root: Path, files: Sequence[str], progress: Progress) -> list[str]:
    digests: list[str] = []
    progress("hash images", 0, len(files))
    with ThreadPoolExecutor(_N_THREADS) as pool:
        for start in range(0, len(files), _BLOCK):
            block = files[start : start + _BLOCK]
            digests += pool.map(_hash_file, [root / file for file in block])
            progress("hash images", len(digests), len(files))
    return digests


def _hash_file(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""
