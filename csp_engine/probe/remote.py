"""Probe sets behind an address such as ``s3://bucket/folder``, read through fsspec."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable
from typing import Any, BinaryIO

import pandas as pd

from csp_engine.errors import InputError
from csp_engine.probe.archives import packed_tars
from csp_engine.probe.beside import NAMES
from csp_engine.probe.columnar import packed_columns
from csp_engine.probe.contents import Packed, Shard
from csp_engine.probe.decoding.formats import is_image_name
from csp_engine.probe.folders import said_by_folders

logger = logging.getLogger(__name__)


def is_address(source: str) -> bool:
    """Whether a source is an address and no path."""
    return "://" in source


def packed_address(address: str, asked: str | None = None) -> Packed:
    """The images at an address: a folder of images, or of Parquet or tar files, or one of those.

    Raises:
        InputError: if nothing can be had there, or a package for it is missing.
    """
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
        is_folder = system.isdir(path)
        found = sorted(system.find(path)) if is_folder else [path]
        if not is_folder and not system.exists(path):
            raise FileNotFoundError(address)
    except ImportError as error:
        raise InputError(f"{address!r} needs another package: {error}.") from None
    except Exception as error:  # each file system raises its own kinds
        reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
        raise InputError(
            f"{address!r} cannot be reached ({type(error).__name__}: {reason}); check the address "
            "and your rights."
        ) from error
    root = path.rstrip("/") if is_folder else posixpath.dirname(path)
    names = [file[len(root) :].lstrip("/") for file in found]
    by_name = dict(zip(names, found, strict=True))
    images = [name for name in names if is_image_name(name) and not _is_hidden(name)]
    if images:
        beside = next((name for name in names if posixpath.basename(name) in NAMES), None)
        if beside is not None:
            logger.warning(
                "%s at %s is not used: tables beside images are read in local folders",
                beside,
                address,
            )
        rows = pd.DataFrame(index=range(len(images)))
        for column, values in said_by_folders(images).items():
            rows[column] = pd.Series(values, dtype=object)
        return Packed(images, rows, _AtAddress(system, by_name))
    shards = [Shard(name, _opener(system, by_name[name])) for name in names]
    columns = [shard for shard in shards if shard.name.endswith(".parquet")]
    if columns:
        return packed_columns(columns, asked)
    tars = [shard for shard in shards if shard.name.endswith(".tar")]
    if tars:
        return packed_tars(tars)
    raise InputError(
        f"No image was found at {address!r}; give a folder of images, or of Parquet or tar files."
    )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _opener(system: Any, path: str) -> Callable[[], BinaryIO]:
    return lambda: system.open(path, "rb")


class _AtAddress:
    """Contents of files of a file system."""

    def __init__(self, system: Any, path_of: dict[str, str]) -> None:
        self._system = system
        self._path_of = path_of

    def read(self, file: str) -> bytes:
        """The bytes of a file."""
        try:
            return self._system.cat_file(self._path_of[file])
        except Exception as error:  # each file system raises its own kinds
            raise OSError(0, str(error)) from error
