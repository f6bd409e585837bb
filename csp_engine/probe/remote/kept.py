"""What was read at an address, kept on this disk for as long as the process lasts."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Any, BinaryIO

from csp_engine.errors import InputError
from csp_engine.waiting import within

KEPT_GB = "CSP_KEEP_GB"
"""Environment variable: how much of what was read at an address is kept on disk meanwhile."""
USUAL_KEPT_GB = 4.0
BLOCK = 1 << 22
"""Bytes of a large file that are read at a time."""
PATIENCE_S = 300.0
"""For an image, or for each block of a larger file, until all of it is there."""
LISTING_S = 3600.0
"""For a list of all files."""
_N_RECENT = 8
"""Blocks in memory, for those that read on where there is no room on disk."""


class Spool:
    """Bytes by name, up to a bound, in a file without a name: it goes however the process ends.

    What was put there first stays, not what was last: a build looks at all images several times in
    one order, so the latest would be gone when asked for. Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = kept_bytes()
        self._file: BinaryIO | None = None
        self._place_of: dict[Hashable, tuple[int, int]] = {}

    def get(self, name: Hashable) -> bytes | None:
        """What was put there under a name."""
        if name not in self._place_of or self._file is None:
            return None
        start, length = self._place_of[name]
        return os.pread(self._file.fileno(), length, start)

    def put(self, name: Hashable, content: bytes) -> None:
        """Keep it, if there is room."""
        with self._lock:
            if name in self._place_of or len(content) > self._left:
                return
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile()  # noqa: SIM115
                start = self._file.seek(0, os.SEEK_END)
                self._file.write(content)
                self._file.flush()
            except OSError:  # a full disk: the rest is read again
                self._left = 0
                return
            self._left -= len(content)
            self._place_of[name] = start, len(content)


class Blocks:
    """Blocks of large files at an address, each read once as long as there is room to keep it."""

    def __init__(self, address: str, system: Any) -> None:
        self._address = address
        self._system = system
        self._spool = Spool()
        self._lock = threading.Lock()
        self._recent: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._mark_of: dict[str, dict[str, str]] = {}

    def open(self, path: str) -> io.BufferedReader:
        """A file as those who read archives and tables want it.

        Raises:
            InputError: if there is no answer.
        """
        try:
            told = within(PATIENCE_S, lambda: self._system.info(path))
            size = int(told["size"])
        except Exception as error:  # each file system raises its own kinds
            raise unanswered(self._address, path, error) from error
        self._mark_of[path] = _mark(told)
        return io.BufferedReader(BlockFile(self, path, size))

    def read(self, path: str, size: int, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end`` of a file of ``size`` bytes.

        Raises:
            InputError: if there is no answer, or not as many bytes as were asked for.
        """
        first, last = start // BLOCK, (end - 1) // BLOCK
        found = {number: self._held(path, number) for number in range(first, last + 1)}
        lacking = [number for number, content in found.items() if content is None]
        if lacking:  # in one request, though blocks in between may be there
            at, until = lacking[0] * BLOCK, min(size, (lacking[-1] + 1) * BLOCK)
            content = self._fetch(path, at, until)
            for number in range(lacking[0], lacking[-1] + 1):
                block = content[number * BLOCK - at : (number + 1) * BLOCK - at]
                found[number] = block
                self._hold(path, number, block)
        whole = b"".join(content or b"" for content in found.values())
        return whole[start - first * BLOCK : end - first * BLOCK]

    def _fetch(self, path: str, start: int, end: int) -> bytes:
        try:
            n_blocks = -(-(end - start) // BLOCK)
            content = within(
                PATIENCE_S * n_blocks, lambda: self._system.cat_file(path, start=start, end=end)
            )
            self._system.invalidate_cache(path)  # of listings, which would answer for what was
            now = _mark(within(PATIENCE_S, lambda: self._system.info(path)))
        except Exception as error:  # each file system raises its own kinds
            raise unanswered(self._address, path, error) from error
        if len(content) != end - start:
            raise InputError(
                f"{self._address!r} gave {len(content):,} bytes of {path!r} instead of "
                f"{end - start:,}; if it is being replaced, run the same command when it is whole."
            )
        if _is_other(self._mark_of.get(path, now), now):
            raise InputError(
                f"{path!r} at {self._address!r} was replaced while it was read; run the same "
                "command again, and replace it only when that is done."
            )
        return content

    def _held(self, path: str, number: int) -> bytes | None:
        kept = self._spool.get((path, number))
        return self._recent.get((path, number)) if kept is None else kept

    def _hold(self, path: str, number: int, block: bytes) -> None:
        self._spool.put((path, number), block)
        with self._lock:
            self._recent[path, number] = block
            while len(self._recent) > _N_RECENT:
                self._recent.popitem(last=False)


_TAGS = ("etag", "md5", "crc32c", "generation")
_TIMES = ("modified", "created", "mtime", "updated")
"""In small letters, how file systems call what changes with a file's bytes."""


def _mark(told: Mapping[Any, Any]) -> dict[str, str]:
    """Of what a file system says of a file, that which changes with its bytes."""
    return {
        str(key): str(value)
        for key, value in told.items()
        if value is not None and any(part in str(key).lower() for part in (*_TAGS, *_TIMES))
    }


def _is_other(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether marks are of two contents: by tags if there are any, else by times.

    A listing may round its times otherwise than an answer about one file.
    """
    both = before.keys() & now.keys()
    tags = {key for key in both if any(part in key.lower() for part in _TAGS)}
    return any(before[key] != now[key] for key in tags or both)


class BlockFile(io.RawIOBase):
    """A file at an address, read through ``Blocks``; one thread reads it at a time."""

    def __init__(self, blocks: Blocks, path: str, size: int) -> None:
        self._blocks = blocks
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, as in any file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """Where it is."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as the file goes; how many bytes those are."""
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        content = self._blocks.read(self._path, self._size, self._at, end)
        buffer[: len(content)] = content
        self._at = end
        return len(content)


def kept_bytes() -> int:
    """How many bytes are kept on disk of what was read at an address.

    Raises:
        InputError: if ``CSP_KEEP_GB`` is no number.
    """
    named = os.environ.get(KEPT_GB) or str(USUAL_KEPT_GB)
    try:
        size = float(named)
    except ValueError:
        size = -1.0
    if not 0 <= size < 1e6:
        raise InputError(f"{KEPT_GB} is {named!r}; give a number of gigabytes, such as 4, or 0.")
    return int(size * 1e9)


def unanswered(address: str, file: str, error: Exception) -> InputError:
    """What is said where an address does not give a file that it has listed."""
    return InputError(
        f"{address!r} stopped answering when {file!r} was read ({reason(error)}); run the same "
        "command again once it answers."
    )


def reason(error: Exception) -> str:
    """Kind and beginning of an error, on one line."""
    said = " ".join(str(error).split())[:120].rstrip(".")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
