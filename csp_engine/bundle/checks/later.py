"""Hashes of large files, in the background: nobody waits, and the next reading knows the result.

One thread works through what all bundles of the process have asked for. What was found right is
remembered by the file's own number, size and time, so that no file is hashed twice.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from csp_engine.errors import BundleError

_waiting: queue.SimpleQueue[tuple[int, str, Callable[[bool], None]]] = queue.SimpleQueue()
_lock = threading.Lock()
_idle = threading.Condition(_lock)
_n_open = 0
_worker: threading.Thread | None = None
_known: set[tuple[int, int, int, int, str]] = set()
found_altered: list[str] = []
"""What was found of all bundles of the process, as sentences."""

_MOST_KNOWN = 100_000
_BLOCK = 1 << 20


def identity(descriptor: int, sha256: str) -> tuple[int, int, int, int, str]:
    """By what a file that was hashed is known again."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, sha256


def is_known(descriptor: int, sha256: str) -> bool:
    """Whether an open file was found to have this hash before, and has not changed since."""
    return identity(descriptor, sha256) in _known


def remember(descriptor: int, sha256: str) -> None:
    """An open file was found to have this hash."""
    with _lock:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known.add(identity(descriptor, sha256))


def hash_later(descriptor: int, sha256: str, tell: Callable[[bool], None]) -> None:
    """Hash an open file in the background and tell whether it is right; a copy of it is used."""
    global _n_open, _worker
    if is_known(descriptor, sha256):
        return
    with _lock:
        _n_open += 1
        _waiting.put((os.dup(descriptor), sha256, tell))
        if _worker is None or not _worker.is_alive():
            _worker = threading.Thread(target=_work, name="bundle hashes", daemon=True)
            _worker.start()


def settle(timeout: float | None = None) -> bool:
    """Wait until all hashes that were asked for are made; whether they are."""
    with _idle:
        return _idle.wait_for(lambda: _n_open == 0, timeout)


def require_unaltered() -> None:
    """Wait for all hashes that were asked for, and forget what was found.

    Raises:
        BundleError: if a file was found altered since this was last called.
    """
    settle()
    found, found_altered[:] = list(found_altered), []
    if found:
        raise BundleError(found[0])


def _begin_anew() -> None:
    """In a copy of this process, which has none of its threads: who asked before is told there."""
    global _waiting, _lock, _idle, _n_open, _worker
    _waiting, _lock = queue.SimpleQueue(), threading.Lock()
    _idle, _n_open, _worker = threading.Condition(_lock), 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _work() -> None:
    global _n_open
    while True:
        descriptor, sha256, tell = _waiting.get()
        try:
            is_right = _sha256(descriptor) == sha256
            if is_right:
                remember(descriptor, sha256)
            tell(is_right)
        except OSError:
            tell(False)
        finally:
            with suppress(OSError):
                os.close(descriptor)
            with _idle:
                _n_open -= 1
                _idle.notify_all()


def _sha256(descriptor: int) -> str:
    """By its own position: the descriptor is a copy and shares that of its original."""
    digest, at = hashlib.sha256(), 0
    while block := os.pread(descriptor, _BLOCK, at):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()
