"""Probe sets: a folder tree, a flat folder or a table becomes one ordered list of image files."""

from __future__ import annotations

import difflib
import hashlib
import json
import posixpath
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.files import ALLOWED, allowed_folders
from csp_engine.hashing import sha256_file
from csp_engine.probe.archives import packed_tars
from csp_engine.probe.beside import metadata_beside
from csp_engine.probe.columnar import holds_images, packed_columns, saved_shards
from csp_engine.probe.columns import (
    choose_columns,
    metadata,
    warn_of_groups,
    warn_of_look_alikes,
)
from csp_engine.probe.contents import Contents, Packed, expand, local_shards
from csp_engine.probe.decoding.formats import is_image_name
from csp_engine.probe.folders import (
    LINK_INSIDE,
    LeftOut,
    by_ending,
    list_folder,
    said_by_folders,
    walk_images,
)
from csp_engine.probe.lists import FILE, LIST_EXTENSIONS, common_root, read_list, table_of_paths
from csp_engine.probe.paths import FolderListing, refuse_outside, resolve_images
from csp_engine.probe.remote import found_at, is_address
from csp_engine.reading import tables
from csp_engine.reading.tables import Table
from csp_engine.types import Progress, silent

TABLE_EXTENSIONS = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
NOTHING_ASKED = MappingProxyType(dict.fromkeys(("path", "class", "split", "group")))
_PACKED = ({".parquet"}, {".arrow"}, {".tar"})
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
    not even opened. ``contents`` gives the bytes of images that are no files below ``root``.
    """

    root: Path
    table: pd.DataFrame
    name: str
    concepts: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    contents: Contents | None = None

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
    def listing_sha256(self) -> str:
        """Hash of the names of the images and their order, known before any image is read."""
        return hashlib.sha256(json.dumps(self._files).encode()).hexdigest()

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
            if self.contents is not None:
                return self.contents.read(self._files[row])
            return (self.root / self._files[row]).read_bytes()
        except OSError as error:
            raise UnreadableImageError(
                f"The file cannot be read ({error.strerror or type(error).__name__})."
            ) from None


def read_probe_set(
    source: Path | str | Sequence[Path | str],
    *,
    image_root: Path | None = None,
    path_column: str | None = None,
    class_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    limit: int | None = None,
    is_hashed: bool = True,
    progress: Progress = silent,
) -> ProbeSet:
    """List and hash the images of a folder, a table, a list, or of files that hold many images.

    In a folder all images below it count, in the order of their paths; hidden files and folders
    do not. Where there are subfolders with images, the first folder of a path is the class (or the
    split, where it is called ``train`` or the like; a folder that holds nothing but folders, and
    everything, is passed over), and images lying directly in the root have none. A table called
    ``metadata`` in a folder of images says more about them. A table keeps its own order; its paths
    are relative to ``image_root`` (default: the table's folder) and may lack the extension. So are
    those of a list of paths, a text file of one path a line.

    Images may also be inside of files: Parquet with a column of images, what Hugging Face
    ``datasets`` saved to a folder, tar files as WebDataset keeps them (one, a folder of them, or
    ``name-{000..012}.tar``). An address such as ``s3://bucket/folder`` is read through fsspec.

    Args:
        source: as above; also a sequence of paths.
        image_root: folder that the paths of a table or list start from.
        path_column: column of a table with the image paths or images; default see
            ``ROLE_COLUMNS``.
        class_column: column with the class.
        split_column: column with the split.
        group_column: column with what images share, such as one lesion or one patient.
        limit: keep that many images, evenly spaced over the list (a class tree keeps its classes).
        is_hashed: whether to read every image for its hash; without it ``sha256`` is "".
        progress: called while files are hashed.

    Raises:
        InputError: if the source or an image listed in it is missing, nothing is found, a column
            does not exist, or a path is empty, doubled or outside the root.
    """
    asked = {
        "path": path_column,
        "class": class_column,
        "split": split_column,
        "group": group_column,
    }
    if limit is not None and limit < 1:
        raise InputError(f"A limit of {limit} images leaves nothing; give 1 or more.")
    if isinstance(source, str | Path):
        listed = list_images(source, image_root, asked)
    else:
        listed = _of_paths(table_of_paths(source), image_root, Path(), asked)
    table = listed.table
    if limit is not None and limit < len(table):
        rows = [i * len(table) // limit for i in range(limit)]
        table = table.iloc[rows].reset_index(drop=True)
    if listed.contents is None:
        for column in ("file", *listed.masks):
            refuse_outside(listed.root, table[column].dropna().tolist())
    warn_of_look_alikes(table, listed.name)
    if group_column is None:
        warn_of_groups(table, listed.name)
    files = table["file"].tolist()
    hashes = _hash_files(listed.root, listed.contents, files, progress) if is_hashed else ""
    table.insert(1, "sha256", hashes)
    return replace(listed, table=table)


def list_images(
    source: Path | str,
    image_root: Path | None = None,
    asked: Mapping[str, str | None] = NOTHING_ASKED,
) -> ProbeSet:
    """The same without reading any image: ``sha256`` is missing. ``asked`` gives roles' columns.

    Raises:
        InputError: as ``read_probe_set``.
    """
    text = str(source)
    if is_address(text):
        _require_no_root(text, image_root)
        if allowed_folders() is not None:
            raise InputError(
                f"{text!r} is an address, and only some folders may be read here ({ALLOWED}); "
                "build from it with 'csp build' in a terminal."
            )
        name = posixpath.basename(text.rstrip("/")) or text
        at = found_at(text, asked)
        if isinstance(at, Packed):
            return _of_packed(at, Path(), name, asked)
        return ProbeSet(
            Path(), at.table, name, at.concepts, at.masks, at.left_out, contents=at.contents
        )
    source = Path(source)
    if not source.exists():
        shards = expand(text)
        if shards and all(is_image_name(path.name) for path in shards):
            return _of_paths(table_of_paths(shards), image_root, Path(), asked)
        if shards and {path.suffix.lower() for path in shards} not in _PACKED:
            raise InputError(
                f"{text!r} fits {len(shards)} files, such as {shards[0].name!r}; it must fit "
                "images only, or Parquet files, or tar files."
            )
        if shards:
            _require_no_root(text, image_root)
            return _of_packed(
                _unpacked(shards, source.parent, asked), source.parent, source.stem, asked
            )
        raise InputError(
            f"There is no folder or table at {text!r}; {_neighbours(source)}check the path."
        )
    name = source.resolve().name if source.is_dir() else source.stem
    packed = _packed_in(source, asked)
    if packed is not None:
        _require_no_root(text, image_root)
        root = source if source.is_dir() else source.parent
        return _of_packed(packed, root, name, asked)
    if source.is_dir():
        _require_no_root(text, image_root)
        found = list_folder(source)
        table, concepts, masks = metadata_beside(source, found.table, asked)
        return ProbeSet(source, table, name, concepts, masks, found.left_out, found.unreadable)
    root = source.parent if image_root is None else Path(image_root)
    if not root.is_dir():
        raise InputError(f"The image root {str(root)!r} is not a folder; check the path.")
    ending = source.suffix.lower()
    if ending in LIST_EXTENSIONS and (paths := read_list(source)) is not None:
        return _of_paths(paths, image_root, source.parent, asked)
    if ending.removeprefix(".") not in tables.TABLE_ENDINGS:
        raise InputError(
            f"{source.name!r} is neither a folder nor a table; give a folder of images, or a file "
            f"that ends in {', '.join([*TABLE_EXTENSIONS, *LIST_EXTENSIONS, '.tar'])}."
        )
    return ProbeSet(root, *_named(_table_of_table(source, root, asked), source.stem))


def _named(
    said: tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]], name: str
) -> tuple[pd.DataFrame, str, tuple[str, ...], tuple[str, ...]]:
    return said[0], name, said[1], said[2]


def _require_no_root(source: str, image_root: Path | None) -> None:
    if image_root is not None:
        raise InputError(
            f"{source!r} holds its images, so it has no image root; leave that out, or give a "
            "table of paths (.csv or .parquet)."
        )


# --- images inside of files ----------------------------------------------------------------------


def _packed_in(source: Path, asked: Mapping[str, str | None]) -> Packed | None:
    """The images that are inside of a file, or of files in a folder without images; else None."""
    if not source.is_dir():
        ending = source.suffix.lower()
        is_packed = ending in (".tar", ".arrow") or (
            ending == ".parquet" and holds_images(source, asked["path"])
        )
        return _unpacked([source], source.parent, asked) if is_packed else None
    saved = saved_shards(source)
    if saved is not None:
        refuse_outside(source, [shard.name for shard in saved])
        return packed_columns(saved, asked["path"], source)
    if next(walk_images(source), None) is not None:
        return None
    for ending in ("parquet", "tar"):
        paths = sorted(source.rglob(f"*.{ending}"))
        if paths and (ending == "tar" or holds_images(paths[0], asked["path"])):
            return _unpacked(paths, source, asked)
    return None


def _unpacked(paths: Sequence[Path], root: Path, asked: Mapping[str, str | None]) -> Packed:
    shards = local_shards(paths, root)
    refuse_outside(root, [shard.name for shard in shards])
    if paths[0].suffix.lower() == ".tar":
        return packed_tars(shards)
    return packed_columns(shards, asked["path"], root)


def _of_packed(packed: Packed, root: Path, name: str, asked: Mapping[str, str | None]) -> ProbeSet:
    rows = packed.rows.reset_index(drop=True)
    table = Table(name, rows.assign(**{FILE: packed.files}))
    columns = choose_columns(table.rows, {**asked, "path": FILE}, name)
    said = metadata(table, columns, packed.files, FolderListing(root))
    links = [replace(row, why=LINK_INSIDE) for row in by_ending(packed.links)]
    left_out = (*links, *by_ending(packed.others))
    return ProbeSet(root, *_named(said, name), left_out=left_out, contents=packed.contents)


def _of_paths(
    table: Table, image_root: Path | None, usual: Path, asked: Mapping[str, str | None]
) -> ProbeSet:
    """The images of a list of paths."""
    if not len(table.rows):
        raise InputError("A list of no paths holds no image; give at least one.")
    root = common_root(table, usual) if image_root is None else Path(image_root)
    folders = FolderListing(root)
    files = resolve_images(table, FILE, folders)
    _refuse_undecodable(files)
    columns = choose_columns(table.rows, {**asked, "path": FILE}, table.name)
    if "class" not in columns:
        for column, values in said_by_folders(files).items():
            table.rows[column] = pd.Series(values, dtype=object)
            columns[column] = column
    said = metadata(table, columns, files, folders)
    return ProbeSet(root, *_named(said, Path(table.name).stem))


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


def _hash_files(
    root: Path, contents: Contents | None, files: Sequence[str], progress: Progress
) -> list[str]:
    digests: list[str] = []
    progress("hash images", 0, len(files))

    def digest(file: str) -> str:
        try:
            if contents is not None:
                return hashlib.sha256(contents.read(file)).hexdigest()
            return sha256_file(root / file)
        except (OSError, UnreadableImageError):
            return ""

    with ThreadPoolExecutor(_N_THREADS) as pool:
        for start in range(0, len(files), _BLOCK):
            digests += pool.map(digest, files[start : start + _BLOCK])
            progress("hash images", len(digests), len(files))
    return digests
