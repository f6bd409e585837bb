"""Rows that survive a killed process: append-only part files with a journal of what is whole.

A pass over the images appends one batch of rows to several streams. A batch counts only once its
line stands in the journal; after a crash the streams are cut back to the last whole line, so at
most one batch is lost and what remains equals what an undisturbed pass would have written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from csp_engine.bundle.checks.inside import open_plain
from csp_engine.bundle.writer import translated_os_errors
from csp_engine.hashing import canonical_json

_TAIL_BYTES = 1 << 16
"""In which the last line of a journal ends; a line names each stream once."""


class PassJournal:
    """Append-only streams of one pass, in a folder of their own.

    Args:
        folder: where the part files lie; made if absent.
        header: what the pass is (stage names and keys, batch size). A folder whose header differs
            is emptied first.
        streams: names of the part files.

    Raises:
        InputError: the disk is full, or may not be written to.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], streams: list[str]) -> None:
        self.folder = folder
        self.n_listed = 0
        self.n_rows = 0
        self.sizes = dict.fromkeys(streams, 0)
        self._journal_path = folder / "journal.jsonl"
        self._open: dict[str, IO[bytes]] = {}
        with translated_os_errors(folder.parent):
            if not self._recover(header):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                self._write_line({"header": dict(header), "streams": streams})
            for stream in self.sizes:
                handle = (folder / f"{stream}.part").open("ab")
                if handle.tell() != self.sizes[stream]:
                    handle.truncate(self.sizes[stream])
                self._open[stream] = handle

    @staticmethod
    def header_of(folder: Path) -> dict[str, Any] | None:
        """The header of an existing journal, or None."""
        lines = _whole_lines(folder / "journal.jsonl")
        return lines[0].get("header") if lines else None

    @staticmethod
    def n_listed_in(folder: Path) -> int:
        """How many listed images a journal has by now, which another process may be writing."""
        try:
            with (folder / "journal.jsonl").open("rb") as content:
                content.seek(max(0, content.seek(0, os.SEEK_END) - _TAIL_BYTES))
                lines = content.read().split(b"\n")[:-1]
        except OSError:
            return 0
        return next((n for n in map(_listed, reversed(lines)) if n is not None), 0)

    def _recover(self, header: Mapping[str, Any]) -> bool:
        lines = _whole_lines(self._journal_path)
        if not lines or canonical_json(lines[0].get("header")) != canonical_json(dict(header)):
            return False
        if lines[0].get("streams") != list(self.sizes):
            return False
        end = len(_line(lines[0]))
        for line in lines[1:]:
            if line["sizes"].keys() != self.sizes.keys():
                break
            paths = {stream: self.folder / f"{stream}.part" for stream in line["sizes"]}
            if any(
                not path.exists() or path.stat().st_size < line["sizes"][stream]
                for stream, path in paths.items()
            ):
                break
            self.n_listed, self.n_rows, self.sizes = line["listed"], line["rows"], line["sizes"]
            end += len(_line(line))
        with self._journal_path.open("r+b") as handle:
            handle.truncate(end)
        return True

    def append(self, parts: Mapping[str, bytes], *, n_listed: int, n_rows: int) -> None:
        """Add one batch: bytes for every stream, and how many listed images and rows it covers."""
        for stream, content in parts.items():
            self._open[stream].write(content)
            self.sizes[stream] += len(content)
        self._count(n_listed, n_rows)

    def _count(self, n_listed: int, n_rows: int) -> None:
        for handle in self._open.values():
            handle.flush()
            os.fsync(handle.fileno())
        self.n_listed += n_listed
        self.n_rows += n_rows
        self._write_line({"listed": self.n_listed, "rows": self.n_rows, "sizes": self.sizes})

    def take(
        self, files: Mapping[str, tuple[Path, str]], *, n_listed: int, n_rows: int
    ) -> str | None:
        """Add what another journal of the same streams holds, as one batch.

        Args:
            files: for each stream, a file and the sha256 of what it must hold.
            n_listed: how many listed images they cover.
            n_rows: how many rows they hold.

        Returns:
            the stream whose file holds something else; nothing counts then.
        """
        for stream, (path, sha256) in files.items():
            digest = hashlib.sha256()
            with open_plain(path) as content:
                while piece := content.read(1 << 22):
                    digest.update(piece)
                    self._open[stream].write(piece)
                    self.sizes[stream] += len(piece)
            if digest.hexdigest() != sha256:
                return stream
        self._count(n_listed, n_rows)
        return None

    def path(self, stream: str) -> Path:
        """The part file of a stream."""
        return self.folder / f"{stream}.part"

    def close(self) -> None:
        """Close the part files; the folder stays."""
        for handle in self._open.values():
            # What counts was synced by append; a full disk must not hide the error that says so.
            with contextlib.suppress(OSError):
                handle.close()
        self._open = {}

    def remove(self) -> None:
        """Close and delete everything, once all stages of the pass are committed."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_line(self, value: Mapping[str, Any]) -> None:
        with self._journal_path.open("ab") as handle:
            handle.write(_line(value))
            handle.flush()
            os.fsync(handle.fileno())


def _listed(raw: bytes) -> int | None:
    """The images that a line of a journal counts, if it is whole and counts any."""
    checksum, _, body = raw.partition(b" ")
    if f"{zlib.crc32(body):08x}".encode() != checksum:
        return None
    return json.loads(body).get("listed")


def _line(value: Mapping[str, Any]) -> bytes:
    body = canonical_json(dict(value))
    return f"{zlib.crc32(body.encode()):08x} {body}\n".encode()


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines from the start up to the first one that is cut off or altered."""
    if not path.exists():
        return []
    lines = []
    for raw in path.read_bytes().split(b"\n")[:-1]:
        checksum, _, body = raw.partition(b" ")
        if f"{zlib.crc32(body):08x}".encode() != checksum:
            break
        lines.append(json.loads(body))
    return lines
