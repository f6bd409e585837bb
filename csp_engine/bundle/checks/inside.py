"""Opening the files of a bundle, and nothing else: no links out of it, no pipes, no devices."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
NO_WAITING = getattr(os, "O_NONBLOCK", 0)
"""A pipe would have the reader wait for a writer."""


class NotInside(OSError):
    """What lies at a file's place is no file of the bundle; the message says what it is."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a file that is open is known to be as it was: its size and when it was changed."""

    size: int
    changed_ns: int

    @classmethod
    def of(cls, handle: BinaryIO) -> Stamp:
        """The stamp of an open file now."""
        found = os.fstat(handle.fileno())
        return cls(found.st_size, found.st_mtime_ns)


def open_plain(path: Path, name: str = "") -> BufferedReader:
    """Open a plain file to read it; with ``name``, that file of the folder ``path``.

    Raises:
        NotInside: if it, or the folder, is a link, or it is no plain file.
        OSError: if it is not there or may not be read.
    """
    if name and path.is_symlink():
        raise NotInside(f"{path.name} is a link to another place")
    full = path / name if name else path
    try:
        descriptor = os.open(full, os.O_RDONLY | NO_LINKS | NO_WAITING | getattr(os, "O_BINARY", 0))
    except OSError:
        if full.is_symlink():
            raise NotInside(f"{full.name} is a link to another place") from None
        raise
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        raise NotInside(f"{full.name} is {_kind(kind)}")
    return os.fdopen(descriptor, "rb")


def _kind(mode: int) -> str:
    names = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return f"{names.get(stat.S_IFMT(mode), 'something else')} and no file"
