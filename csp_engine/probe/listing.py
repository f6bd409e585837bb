"""Probe sets: a folder tree, a flat folder or a table becomes one ordered list of image files."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import logging
import os
import posixpath
import re
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from csp_engine.cells import original
from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.files import ALLOWED, allowed_folders, first_outside
from csp_engine.hashing import sha256_file
from csp_engine.probe.folders import LeftOut, list_folder
from csp_engine.probe.formats import is_image_name
from csp_engine.types import Progress, silent

logger = logging.getLogger(__name__)

ROLE_COLUMNS = {
    "path": (
        "file", "path", "image", "file_path", "filepath", "image_path", "filename", "file_name",
        "image_name", "image_file", "image_id", "isic_id", "img", "img_path",
    ),
    "class": ("class", "class_name", "label", "category", "diagnosis", "dx"),
    "split": ("split", "subset", "partition"),
    "group": ("group", "group_id", "lesion_id", "patient_id", "subject_id", "case_id"),
}  # fmt: skip
"""Column names taken for a role when the caller names none; the first that the table has wins."""

RESERVED = ("file", "sha256", "class", "split", "group", "width", "height", "duplicate_group")
"""Names with a fixed meaning in a bundle; other columns so named get the prefix ``table_``."""

TABLE_EXTENSIONS = (".csv", ".parquet")
_MISSING = {"", "na", "n/a", "nan", "null"}
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
    none. A table keeps its own order; its paths are
    relative to ``image_root`` (default: the table's folder) and may lack the extension.

    Args:
        source: folder, ``.csv`` or ``.parquet``.
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
        "path": path_column, "class": class_column, "split": split_column, "group": group_column
    }  # fmt: skip
    if limit is not None and limit < 1:
        raise InputError(f"A limit of {limit} images leaves nothing; give 1 or more.")
    if not source.exists():
        raise InputError(
            f"There is no folder or table at {str(source)!r}; {_neighbours(source)}check the path."
        )
    found = None
    if source.is_dir():
        given = [f"{role} column" for role, column in asked.items() if column is not None]
        given += ["image root"] if image_root is not None else []
        if given:
            raise InputError(
                f"{str(source)!r} is a folder, which has no {given[0]}; "
                f"leave it out or give a .csv or .parquet table."
            )
        found = list_folder(source)
        root, table = source, found.table
        concepts, masks = (), ()
    elif source.suffix.lower() in TABLE_EXTENSIONS:
        root = source.parent if image_root is None else Path(image_root)
        if not root.is_dir():
            raise InputError(f"The image root {str(root)!r} is not a folder; check the path.")
        table, concepts, masks = _table_of_table(source, root, asked)
    else:
        raise InputError(
            f"{source.name!r} is neither a folder nor a table; give a folder of images, "
            f"a .csv or a .parquet file."
        )
    if limit is not None and limit < len(table):
        rows = [i * len(table) // limit for i in range(limit)]
        table = table.iloc[rows].reset_index(drop=True)
    _refuse_outside(root, table, masks)
    table.insert(1, "sha256", _hash_files(root, table["file"].tolist(), progress))
    name = source.resolve().name if source.is_dir() else source.stem
    if found is None:
        return ProbeSet(root, table, name, concepts, masks)
    return ProbeSet(root, table, name, left_out=found.left_out, unreadable=found.unreadable)


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
    source: Path, root: Path, asked: dict[str, str | None]
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    given = read_table(source)
    columns = choose_columns(given, asked, source.name)
    folders = _FolderListing(root)
    files = _resolve_images(given[columns["path"]], folders, source.name)
    table = pd.DataFrame({"file": files})
    for role in ("class", "split", "group"):
        if role in columns:
            texts = [cell_text(value) for value in given[columns[role]]]
            table[role] = pd.Series(texts, dtype=object)
    concepts, masks = [], []
    for column in given.columns:
        if column in columns.values():
            continue
        name = f"table_{column}" if column in RESERVED else column
        values = given[column]
        flags = _as_flags(values)
        if flags is not None:
            table[name] = flags
            concepts.append(name)
        elif (paths := _as_masks(column, values, files, folders)) is not None:
            table[name] = pd.Series(paths, dtype=object)
            masks.append(name)
        else:
            table[name] = _as_metadata(values)
    return table, tuple(concepts), tuple(masks)


def read_table(source: Path) -> pd.DataFrame:
    """A CSV (as text; commas, or semicolons where the header has no comma) or Parquet table.

    Raises:
        InputError: if it cannot be read, is empty, or names a column twice.
    """
    try:
        if source.suffix.lower() == ".parquet":
            given = pd.read_parquet(source)
        else:
            content = source.read_bytes()
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError:
                text = content.decode("latin-1")
            # As text: numbers would lose leading zeros, and 'None' may be the name of a class.
            # Rows longer than the header must not lose cells silently.
            with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
                given = pd.read_csv(
                    io.StringIO(text),
                    sep=_separator(text),
                    dtype=str,
                    keep_default_na=False,
                    skipinitialspace=True,
                    index_col=False,
                )
            given = given.map(original).rename(columns=original)
    # The parse errors of pandas and pyarrow are ValueErrors.
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())[:120].rstrip(".")
        raise InputError(f"Table {source.name!r} cannot be read ({reason}).") from error
    given.columns = [str(column).strip() for column in given.columns]
    doubled = given.columns[given.columns.duplicated()]
    if len(doubled):
        raise InputError(f"Table {source.name!r} has two columns named {doubled[0]!r}; rename one.")
    if not len(given):
        raise InputError(f"Table {source.name!r} lists no image; add one row per image.")
    return given


def _separator(text: str) -> str:
    """Spreadsheets of half the world write CSV with semicolons."""
    header = text.lstrip().partition("\n")[0]
    return ";" if ";" in header and "," not in header else ","


def choose_columns(
    given: pd.DataFrame, asked: dict[str, str | None], table_name: str
) -> dict[str, str]:
    """The column of each role: the one asked for, else the first that is called like it.

    Raises:
        InputError: if a column does not exist or has two roles, or none holds image paths.
    """
    existing = ", ".join(given.columns)
    chosen: dict[str, str] = {}
    for role, column in asked.items():
        if column is not None:
            if column not in given.columns:
                raise InputError(
                    f"Table {table_name!r} has no column {column!r} for the {role}; "
                    f"it has {existing}."
                )
            if column in chosen.values():
                raise InputError(f"Column {column!r} cannot be both the {role} and another role.")
            chosen[role] = column
    for role, names in ROLE_COLUMNS.items():
        if role in chosen:
            continue
        by_lower = {c.lower(): c for c in given.columns if c not in chosen.values()}
        found = next((by_lower[name] for name in names if name in by_lower), None)
        if found is not None:
            chosen[role] = found
    if "path" not in chosen:
        raise InputError(
            f"Table {table_name!r} has no column with image paths: it has {existing}. "
            f"Name one of them as the path column."
        )
    return chosen


class _FolderListing:
    """Names of the files below a root, each folder listed once: a check per image costs no disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._absolute = Path(os.path.normpath(root.absolute()))
        self._names: dict[str, set[str]] = {}
        self._by_stem: dict[str, dict[str, list[str]]] = {}

    def relative(self, text: str) -> str | None:
        """The path below the root, with slashes; None if it leads out of it."""
        path = text if "/" in text else text.replace("\\", "/")
        if Path(path).is_absolute():
            normal = Path(os.path.normpath(path))
            for root in (self._absolute, self.root.resolve()):
                if normal.is_relative_to(root):
                    return normal.relative_to(root).as_posix()
            return None
        if re.match(r"[A-Za-z]:/", path):
            return None
        normal = posixpath.normpath(path)
        return None if normal.split("/", 1)[0] == ".." else normal

    def find(self, relative: str) -> list[str]:
        """Files of that name, or image files of that name with an extension added."""
        folder, name = posixpath.split(relative)
        if folder not in self._names:
            self._list(folder)
        if name in self._names[folder]:
            return [relative]
        return [posixpath.join(folder, found) for found in self._by_stem[folder].get(name, [])]

    def _list(self, folder: str) -> None:
        try:
            names = [entry.name for entry in os.scandir(self.root / folder) if entry.is_file()]
        except (OSError, ValueError):
            names = []
        self._names[folder] = set(names)
        stems: dict[str, list[str]] = {}
        for name in sorted(names):
            if is_image_name(name) and not name.startswith("."):
                stems.setdefault(name.rpartition(".")[0], []).append(name)
        self._by_stem[folder] = stems


def _resolve_images(values: pd.Series, folders: _FolderListing, table_name: str) -> list[str]:
    texts = [cell_text(value) for value in values]
    empty = [row for row, text in enumerate(texts) if text is None]
    if empty:
        raise InputError(
            f"Table {table_name!r} has no image path in {len(empty)} row(s) "
            f"(first: row {empty[0] + 1}); fill them in or drop them."
        )
    files, outside, missing, several = [], [], [], []
    for text in texts:
        assert text is not None
        relative = folders.relative(text)
        if relative is None:
            outside.append(text)
            continue
        found = folders.find(relative)
        if len(found) == 1:
            files.append(found[0])
        else:
            (several if found else missing).append(text)
    where = f"image root {str(folders.root)!r}"
    if outside:
        raise InputError(
            f"Table {table_name!r} names {len(outside)} path(s) outside the {where} "
            f"({_few(outside)}); move the images below it or give another image root."
        )
    if missing:
        raise InputError(
            f"{len(missing)} of {len(texts)} images listed in {table_name!r} are not below "
            f"the {where} ({_few(missing)}); "
            f"give the folder they lie in as the image root or drop these rows."
        )
    if several:
        raise InputError(
            f"{len(several)} name(s) in {table_name!r} fit more than one file ({_few(several)}); "
            f"write them with their extension."
        )
    counts = pd.Series(files).value_counts(sort=False)
    doubled = counts[counts > 1].index.tolist()
    if doubled:
        raise InputError(
            f"Table {table_name!r} lists {len(doubled)} image(s) more than once ({_few(doubled)}); "
            f"keep one row for each."
        )
    _refuse_undecodable(files)
    return files


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


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def cell_text(value: object) -> str | None:
    """One cell as text, None where it is empty; whole floats lose their '.0'."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _as_flags(values: pd.Series) -> pd.Series | None:
    """A column of 0, 1, true, false and missing cells as float with NaN; None if it is not one."""
    known = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
    nan = float("nan")
    flags: list[float] = []
    for value in values:
        text = (cell_text(value) or "").lower()
        flag = nan if text in _MISSING else known.get(text)
        if flag is None:
            return None
        flags.append(flag)
    column = pd.Series(flags, dtype="float32")
    return column if column.notna().any() else None


def _as_masks(
    column: str, values: pd.Series, files: Sequence[str], folders: _FolderListing
) -> list[str | None] | None:
    """Mask files of a column whose name says mask and whose cells are image names; else None.

    A cell is looked up below the root, then in a folder named like the column (or its plural),
    there also under the image's own name, because exported tables often name an older file.
    """
    if not re.search(r"(^|[_ -])masks?($|[_ -])", column, re.IGNORECASE):
        return None
    texts = [cell_text(value) for value in values]
    texts = [None if text is None or text.lower() in _MISSING else text for text in texts]
    if not any(texts) or not all(is_image_name(t) for t in texts if t):
        return None
    paths: list[str | None] = []
    for text, file in zip(texts, files, strict=True):
        stem = posixpath.splitext(posixpath.basename(file))[0]
        tries = [text, *(f"{f}/{n}" for f in (column, f"{column}s") for n in (text, stem))]
        found = next((hit for t in tries if text and (hit := _one_file(t or "", folders))), None)
        paths.append(found)
    n_lost = sum(t is not None and p is None for t, p in zip(texts, paths, strict=True))
    if n_lost:
        logger.warning("%d mask file(s) of column %r were not found", n_lost, column)
    return paths if any(paths) else None


def _one_file(text: str, folders: _FolderListing) -> str | None:
    relative = folders.relative(text)
    found = folders.find(relative) if relative is not None else []
    return found[0] if len(found) == 1 else None


def _as_metadata(values: pd.Series) -> pd.Series:
    """Numbers where every known cell is one, text otherwise; missing cells stay missing."""
    values = values.reset_index(drop=True)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values
    texts = [cell_text(value) for value in values]
    texts = [None if text is None or text.lower() in _MISSING else text for text in texts]
    known = [text for text in texts if text is not None]
    # Codes such as 007 are names, and so are numbers too long for a float to hold.
    if known and all(re.fullmatch(r"-?(0|[1-9]\d{0,14})?(\.\d+)?", text) for text in known):
        return pd.to_numeric(pd.Series(texts, dtype=object))
    return pd.Series(texts, dtype=object)


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
