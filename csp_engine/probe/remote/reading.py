"""Probe sets behind an address such as ``s3://bucket/folder``, read through fsspec."""

from __future__ import annotations

import posixpath
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.probe.archives import packed_tars
from csp_engine.probe.beside import NAMES, folders_above, said_beside
from csp_engine.probe.columnar import packed_columns
from csp_engine.probe.contents import Contents, Packed, Shard
from csp_engine.probe.decoding.formats import is_image_name
from csp_engine.probe.folders import LeftOut, by_ending, said_by_folders
from csp_engine.probe.paths import NameListing
from csp_engine.probe.remote.kept import LISTING_S, PATIENCE_S, Blocks, Spool, reason, unanswered
from csp_engine.waiting import within

REFUSED = (FileNotFoundError, PermissionError)
"""What is said of one file that is not there or not allowed, and of all once rights have ended."""
OF_THE_FILE = (*REFUSED, zipfile.BadZipFile, zlib.error)
"""What is wrong with one file, so that a build may do without it; all else is the connection."""


def is_address(source: str) -> bool:
    """Whether a source is an address and no path."""
    return "://" in source


@dataclass(frozen=True, slots=True, eq=False)
class ImagesAt:
    """Image files at an address, and what folders and tables beside them say, as ``ProbeSet``."""

    table: pd.DataFrame
    concepts: tuple[str, ...]
    masks: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    contents: Contents


def found_at(address: str, asked: Mapping[str, str | None]) -> Packed | ImagesAt:
    """The images at an address: a folder of images, or of Parquet or tar files, or one of those.

    Args:
        address: for fsspec.
        asked: columns by role, as in ``read_probe_set``.

    Raises:
        InputError: if nothing can be had there, or a package for it is missing.
    """
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
        is_folder, found = within(LISTING_S, lambda: _listed(system, path))
    except ImportError as error:
        raise InputError(f"{address!r} needs another package: {error}.") from None
    except Exception as error:  # each file system raises its own kinds
        raise InputError(
            f"{address!r} cannot be reached ({reason(error)}); check the address and your rights."
        ) from error
    root = (path if is_folder else posixpath.dirname(path)).rstrip("/")
    by_name = _by_name(address, root, found)
    names = list(by_name)
    names = [name for name in names if not _is_hidden(name)]
    images = [name for name in names if is_image_name(name)]
    if images:
        others = set(names) - set(images)
        left_out = by_ending(name for name in others if posixpath.basename(name) not in NAMES)
        contents = _AtAddress(address, system, by_name)
        listed = pd.DataFrame({"file": images})
        for column, values in said_by_folders(images).items():
            listed[column] = pd.Series(values, dtype=object)
        said = _said_beside(address, contents, others, listed, asked)
        return ImagesAt(*said, left_out, contents)
    for ending in (".parquet", ".tar"):
        chosen = [name for name in names if name.endswith(ending)]
        if chosen:
            blocks = Blocks(address, system)
            shards = [Shard(name, partial(blocks.open, by_name[name])) for name in chosen]
            packed = (
                packed_columns(shards, asked["path"])
                if ending == ".parquet"
                else packed_tars(shards)
            )
            beside = [name for name in names if not name.endswith(ending)]
            return replace(packed, others=[*packed.others, *beside])
    raise InputError(
        f"No image was found at {address!r}; give a folder of images, or of Parquet or tar files."
    )


def _listed(system: Any, path: str) -> tuple[bool, list[str]]:
    """Whether it is a folder, and the files in it; else the file itself."""
    if system.isdir(path):
        return True, sorted(system.find(path))
    if not system.exists(path):
        raise FileNotFoundError(path)
    return False, [path]


def _by_name(address: str, root: str, found: Sequence[str]) -> dict[str, str]:
    """Paths below a root, by their names in it; others are listed too where a page has links.

    Raises:
        InputError: if two have one name, so that one image would be there twice.
    """
    start, by_name = f"{root}/" if root else "", dict[str, str]()
    for path in dict.fromkeys(found):
        if not path.startswith(start):
            continue
        name = path[len(start) :].lstrip("/")
        if name in by_name:
            raise InputError(
                f"{address!r} holds both {by_name[name]!r:.120} and {path!r:.120}, which differ in "
                "slashes alone; rename one, or move it elsewhere."
            )
        by_name[name] = path
    return by_name


def _said_beside(
    address: str,
    contents: Contents,
    others: Set[str],
    listed: pd.DataFrame,
    asked: Mapping[str, str | None],
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """What tables beside the images say; they are copied, for tables are read from files.

    Columns of masks stay text: whoever needs masks reads them from a local folder.
    """
    images = listed["file"].tolist()
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for at, above in enumerate(folders_above(images)):
            name = next((n for n in NAMES if posixpath.join(above, n) in others), None)
            if name is None:
                continue
            copy = Path(folder, str(at), name)
            copy.parent.mkdir()
            try:
                copy.write_bytes(contents.read(posixpath.join(above, name)))
            except OSError as error:
                raise InputError(
                    f"{posixpath.join(above, name)!r} at {address!r} cannot be read "
                    f"({error.strerror}); check your rights, or remove it."
                ) from None
            found.append((copy, above))
        return said_beside(found, address, listed, asked, NameListing(images), NameListing(()))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


class _AtAddress:
    """Contents of files of a file system, each read once as long as there is room to keep them."""

    def __init__(self, address: str, system: Any, path_of: dict[str, str]) -> None:
        self._address = address
        self._system = system
        self._path_of = path_of
        self._spool = Spool()
        self._witness = ""

    def read(self, file: str) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: if it is not there, or may not be read.
            InputError: if there is no answer, or what was given before is refused too; a build does
                not leave images out for that.
        """
        if (kept := self._spool.get(file)) is not None:
            return kept
        try:
            path = self._path_of[file]
            content = within(PATIENCE_S, lambda: self._system.cat_file(path))
        except OF_THE_FILE as error:
            if isinstance(error, REFUSED) and self._has_ended():
                raise unanswered(self._address, file, error) from error
            raise OSError(0, str(error)) from error
        except Exception as error:  # each file system raises its own kinds
            raise unanswered(self._address, file, error) from error
        self._spool.put(file, content)
        if content and not self._witness:
            self._witness = self._path_of[file]
        return content

    def _has_ended(self) -> bool:
        """Whether a file that was read before is refused now, as when a token has expired."""
        try:
            if self._witness:
                witness = self._witness
                within(PATIENCE_S, lambda: self._system.cat_file(witness, start=0, end=1))
        except Exception:  # each file system raises its own kinds
            return True
        return False
