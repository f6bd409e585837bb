"""What one shard of a pass measured: a folder that is whole once it has its name.

``NAME.csp.parts/`` beside a bundle holds one folder for each finished shard, ``3-of-7-HASH``. The
hash is that of ``part.json``, which holds the hashes of all files beside it, so the name stands for
the content. A folder is filled under another name and renamed last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from csp_engine.bundle.checks.inside import open_plain
from csp_engine.bundle.passing.journal import PassJournal
from csp_engine.errors import BundleError
from csp_engine.files import fsync_path, write_whole
from csp_engine.hashing import canonical_json, sha256_file, sha256_json

ABOUT = "part.json"
FORMAT = 1
LARGEST_ABOUT = 1 << 24
_NAME = re.compile(r"([1-9]\d{0,8})-of-([1-9]\d{0,8})-([0-9a-f]{12})")
_UNFINISHED = re.compile(r"\.([1-9]\d{0,8})-of-([1-9]\d{0,8})")
_GONE = ".gone-"
_ASIDE = re.compile(r"(\.tmp-)?\.(asked|decided|gradients|order|piece)-[0-9a-f]{12}(\.lock)?")
_ORDER = re.compile(r"\.order-[0-9a-f]{12}")
_MERGING = ".merging.lock"


@dataclass(frozen=True, slots=True)
class Part:
    """What one shard measured.

    Attributes:
        path: its folder.
        number: which shard, from 1.
        of: of how many.
        header: what pass it is part of: keys of the stages, batch size, what was measured.
        first: the first listed image.
        last: the one after its last.
        n_rows: how many of them could be read.
        streams: bytes and sha256 of each of its files.
        conditions: what it was measured with, by the name of each thing.
    """

    path: Path
    number: int
    of: int
    header: Mapping[str, Any]
    first: int
    last: int
    n_rows: int
    streams: Mapping[str, tuple[int, str]]
    conditions: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What sentences call it."""
        return f"shard {self.number} of {self.of}"

    def file(self, stream: str) -> Path:
        """The file of one stream."""
        return self.path / f"{stream}.part"

    @property
    def is_there(self) -> bool:
        """Whether all its files lie there with the sizes that they had."""
        try:
            return all(
                self.file(stream).lstat().st_size == size
                for stream, (size, _) in self.streams.items()
            )
        except OSError:
            return False


def parts_folder(bundle: Path) -> Path:
    """Where the parts of a bundle lie."""
    return bundle.with_name(f"{bundle.name}.parts")


def aside(folder: Path, kind: str, sha256: str) -> Path:
    """Where shards keep what one of them found out for all, by the hash of what it hangs on.

    It is no part: without it, whoever needs it finds it out again.
    """
    return folder / f".{kind}-{sha256[:12]}"


def merging_lock(folder: Path) -> Path:
    """The lock of whoever merges the parts of a folder."""
    return folder / _MERGING


def is_merged(folder: Path) -> bool:
    """Whether nothing but locks of a merge is left of a folder."""
    try:
        return all(_is_lock_of_merge(path.name) for path in folder.iterdir())
    except FileNotFoundError:
        return True


def remove_merged(folder: Path) -> None:
    """Delete a folder that ``is_merged``; whoever comes to it late deletes what is left then."""
    with contextlib.suppress(OSError):  # another is at it
        for path in list(folder.iterdir()) if is_merged(folder) else ():
            path.unlink(missing_ok=True)
        folder.rmdir()


def _is_lock_of_merge(name: str) -> bool:
    return name == _MERGING or (name.endswith(".lock") and _ASIDE.fullmatch(name) is not None)


def orders_in(folder: Path) -> list[Path]:
    """What a merge has shared out, the oldest first; see ``aside``."""
    found = []
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # it is done
            if _ORDER.fullmatch(path.name):
                found.append((path.lstat().st_mtime_ns, path.name, path))
    return [path for *_, path in sorted(found)]


def parts_in(folder: Path) -> list[Part]:
    """The finished parts of a folder, by their numbers; what is still being written is no part.

    Raises:
        BundleError: one of them is not what was written.
    """
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    found = [_read(folder / name) for name in names if _NAME.fullmatch(name)]
    return sorted(found, key=lambda part: (part.number, part.path.name))


def shards_in(folder: Path, of: int) -> dict[int, int]:
    """How many listed images each shard of a folder has measured, finished or not.

    Args:
        folder: of parts, in which others may be writing.
        of: how many shards there are; those of other numbers do not count.
    """
    found: dict[int, int] = {}
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        named = _NAME.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name)
        if named and int(named[2]) == of:
            n_listed = PassJournal.n_listed_in(path)
            found[int(named[1])] = max(n_listed, found.get(int(named[1]), 0))
    return found


def seal(
    journal: PassJournal,
    *,
    number: int,
    of: int,
    header: Mapping[str, Any],
    first: int,
    conditions: Mapping[str, Any],
) -> Path:
    """Close a journal in which all of a shard is written, and make a part of it.

    Returns:
        the part's folder, beside that of the journal, which is gone.
    """
    journal.close()
    about = {
        "format": FORMAT,
        "shard": [number, of],
        "header": dict(header),
        "images": [first, first + journal.n_listed],
        "rows": journal.n_rows,
        "streams": {
            stream: [size, sha256_file(journal.path(stream))]
            for stream, size in journal.sizes.items()
        },
        "conditions": dict(conditions),
    }
    write_whole(journal.folder / ABOUT, canonical_json(about))
    for name in [ABOUT, *(f"{stream}.part" for stream in journal.sizes)]:
        fsync_path(journal.folder / name)
    fsync_path(journal.folder)
    final = journal.folder.with_name(f"{number}-of-{of}-{sha256_json(about)[:12]}")
    if final.exists():  # another process wrote the very same, and was first
        shutil.rmtree(journal.folder, ignore_errors=True)
        return final
    journal.folder.rename(final)
    fsync_path(final.parent)
    return final


def _read(path: Path) -> Part:
    try:
        with open_plain(path / ABOUT) as handle:
            content = handle.read(LARGEST_ABOUT)
        about = json.loads(content)
        (number, of), (first, last) = about["shard"], about["images"]
        streams = {name: (size, str(sha)) for name, (size, sha) in about["streams"].items()}
        counts = [number, of, first, last, about["rows"], *(size for size, _ in streams.values())]
        stages, conditions = about["header"]["stages"], about["conditions"]
        is_typed = all(type(each) is int and each >= 0 for each in counts)
        if not (is_typed and isinstance(stages, dict) and isinstance(conditions, dict)):
            raise ValueError
        named = f"{number}-of-{of}-{hashlib.sha256(content).hexdigest()[:12]}"
        if about["format"] != FORMAT or named != path.name:
            raise ValueError
        part = Part(
            path, number, of, about["header"], first, last, about["rows"], streams, conditions
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(
            f"{path} is not as a shard wrote it; delete that folder and measure the shard again."
        ) from None
    return part


def discard(part: Path) -> None:
    """Delete the folder of a part, which is none from the first moment on.

    Whoever is killed at it would leave what is not as it was written, and is refused.
    """
    gone = part.with_name(f"{_GONE}{part.name}")
    shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):  # another process was first
        shutil.rmtree(part.rename(gone), ignore_errors=True)


def remove_parts(folder: Path, header: Mapping[str, Any]) -> None:
    """Delete the parts of a bundle that has taken them over, and what else shards left there.

    What another pass measured stays, and what is being written; not what it kept ``aside``.

    Args:
        folder: of the parts.
        header: of the pass that was taken over.
    """
    there = list(folder.iterdir()) if folder.is_dir() else []
    # Orders before their pieces, which somebody would make again.
    for path in sorted(there, key=lambda path: _ORDER.fullmatch(path.name) is None):
        if path.name.startswith(_GONE):
            shutil.rmtree(path, ignore_errors=True)
        elif _NAME.fullmatch(path.name) and _is_of(path, header):
            discard(path)
        elif _UNFINISHED.fullmatch(path.name.removesuffix(".lock")):
            _remove_unfinished(path.with_name(path.name.removesuffix(".lock")), header)
        elif _ASIDE.fullmatch(path.name):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # something else lies there: it stays
        folder.rmdir()


def _is_of(path: Path, header: Mapping[str, Any]) -> bool:
    try:
        return canonical_json(_read(path).header) == canonical_json(dict(header))
    except BundleError:
        return False


def _remove_unfinished(path: Path, header: Mapping[str, Any]) -> None:
    """Delete a shard that was left unfinished, and its lock."""
    lock = path.with_name(f"{path.name}.lock")
    with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):
        about = PassJournal.header_of(path) or {}
        if canonical_json(about.get("header", dict(header))) != canonical_json(dict(header)):
            return
        shutil.rmtree(path, ignore_errors=True)
        lock.unlink(missing_ok=True)
