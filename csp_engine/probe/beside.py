"""Tables that lie beside images, as Hugging Face and many archives keep them."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.probe.columns import choose_columns, metadata
from csp_engine.probe.paths import FolderListing, few, refuse_doubled
from csp_engine.reading.tables import Table, cell_text, known_text, read_table

logger = logging.getLogger(__name__)

NAMES = tuple(
    f"{stem}.{ending}"
    for ending in ("csv", "tsv", "jsonl", "parquet")
    for stem in ("metadata", "Metadata", "METADATA")
)
FILE = "\0file"
"""Column of the file that a row is about; no column of a table can be called so."""


def metadata_beside(
    root: Path, listed: pd.DataFrame, asked: Mapping[str, str | None]
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """Add what tables called ``metadata`` in the folders of the images say about them.

    Paths in such a table start from its own folder. Its class and split take the place of those
    that folders give. Images that no table names have no values; rows whose image is not there are
    counted in a warning, because people keep a part of a data set beside the table of all of it.

    Args:
        root: of the images.
        listed: ``file``, then ``class`` and ``split`` where folders say so.
        asked: columns by role, as in ``read_probe_set``.

    Returns:
        As ``columns.metadata``.

    Raises:
        InputError: if a table cannot be read, has no column that is asked for, or names an image
            twice; if columns are asked for and no table is there.
    """
    folders = FolderListing(root)
    found = [
        (path, folder)
        for folder in folders_above(listed["file"])
        if (path := described_by(root / folder)) is not None
    ]
    return said_beside(found, str(root), listed, asked, folders, folders)


def said_beside(
    found: Sequence[tuple[Path, str]],
    where: str,
    listed: pd.DataFrame,
    asked: Mapping[str, str | None],
    folders: FolderListing,
    mask_folders: FolderListing,
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """The same from tables that were found: each with its folder, below ``where``.

    ``folders`` lists the images, ``mask_folders`` the files that columns of masks may name.
    """
    files: list[str] = listed["file"].tolist()
    if not found:
        given = [f"{role} column" for role, column in asked.items() if column is not None]
        if given:
            raise InputError(
                f"{where!r} is a folder, which has no {given[0]}; leave it out, put a table "
                f"metadata.csv beside the images, or give a .csv or .parquet table."
            )
        return listed, (), ()
    parts = [
        part
        for path, folder in found
        if (part := _rows_beside(path, folder, folders, set(files), asked)) is not None
    ]
    if not parts:
        return listed, (), ()
    whole = pd.concat([part.rows for part in parts], ignore_index=True)
    refuse_doubled(parts[0].name, whole[FILE].tolist())
    by_file = whole.set_index(FILE).reindex(files)
    roles = {
        role: f"\0{role}" for role in ("class", "split", "group") if f"\0{role}" in by_file.columns
    }
    table = Table(
        parts[0].name,
        by_file.reset_index(drop=True),
        has_decimal_commas=any(part.has_decimal_commas for part in parts),
    )
    held, concepts, masks = metadata(table, roles, files, mask_folders)
    for at, column in enumerate(listed.columns[1:], start=1):
        if column in held:
            saying = [part.rows for part in parts if f"\0{column}" in part.rows]
            has_row = pd.Series(files).isin({file for rows in saying for file in rows[FILE]})
            held[column] = held[column].where(has_row, listed[column])
        else:
            held.insert(min(at, len(held.columns)), column, listed[column])
    return held, concepts, masks


def described_by(folder: Path) -> Path | None:
    """The table that says more about the images of a folder."""
    return next((path for name in NAMES if (path := folder / name).is_file()), None)


def folders_above(files: Iterable[str]) -> list[str]:
    """Each folder that holds one of these files, or lies above some."""
    folders: set[str] = {""}
    for file in files:
        folder = posixpath.dirname(file)
        while folder not in folders:
            folders.add(folder)
            folder = posixpath.dirname(folder)
    return sorted(folders)


def _rows_beside(
    path: Path,
    folder: str,
    folders: FolderListing,
    files: set[str],
    asked: Mapping[str, str | None],
) -> Table | None:
    """Rows about images that are there; columns of files and roles are called after their role.

    None if no column names images and none is asked for: a table of that name may be of something
    else.
    """
    table, shown = read_table(path), posixpath.join(folder, path.name)
    try:
        columns = choose_columns(table.rows, asked, table.name)
    except InputError:
        if any(asked.values()):
            raise
        logger.warning("%s is not used: it has no column with image paths", shown)
        return None
    rows, kept, lost = table.rows, [], []
    for value in rows[columns["path"]]:
        text = known_text(value) or ""
        relative = folders.relative(posixpath.join(folder, text.replace("\\", "/")))
        hits = [hit for hit in folders.find(relative) if hit in files] if relative else []
        if len(hits) > 1:
            raise InputError(
                f"{text!r} in {path.name!r} fits more than one image ({few(hits)}); "
                "write it with its extension."
            )
        kept.append(hits[0] if hits else "")
        if not hits:
            lost.append(text)
    if lost:
        logger.warning(
            "%d of %d row(s) of %s name images that are not there (%s)",
            len(lost), len(rows), shown, few(lost),
        )  # fmt: skip
    renamed = {
        columns[role]: f"\0{role}" for role in ("class", "split", "group") if role in columns
    }
    rows = rows.drop(columns=columns["path"]).rename(columns=renamed)
    rows = rows.map(lambda value: cell_text(value) or "")
    rows.insert(0, FILE, kept)
    return Table(table.name, rows[rows[FILE] != ""], (), table.has_decimal_commas)
