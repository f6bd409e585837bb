"""Copies of this process that measure shards: what is loaded here they need not load again.

A copy begins with the memory of this process and runs a command in it. Threads are not copied, and
whoever has run a network on several would wait for those that are gone; so a thread that has run
nothing is copied, of which the copy then consists.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from csp_engine.jobs.process import PATIENCE_S, complaint
from csp_engine.jobs.workers import ENDS_WITH_INPUT, THREADS, Ended

_held: list[int] = []
"""Ends of pipes by which copies know that this process is there; no copy keeps those of others."""


def can_copy(device: str) -> bool:
    """Whether this process can be copied, with networks on a device.

    Not where it has files or connections open beside its input and output: from one that two have
    open, each reads what the other leaves.
    """
    if sys.platform != "linux" or set(device.split(",")) != {"cpu"}:
        return False
    return not any(map(_is_shared, Path("/proc/self/fd").iterdir()))


def _is_shared(descriptor: Path) -> bool:
    if int(descriptor.name) <= 2:
        return False
    try:
        target = str(descriptor.readlink())
    except OSError:  # the list itself was open
        return False
    return target.startswith(("socket:", "/")) and not target.startswith(("/dev/", "/proc/"))


@contextmanager
def copy(
    run: Callable[[list[str]], object], arguments: list[str], n_threads: int
) -> Generator[Callable[[], Ended | None]]:
    """A copy of this process that runs a command while the block runs; it ends with this process.

    Args:
        run: the command line, which exits at its end.
        arguments: of the command.
        n_threads: that its networks run on, as the environment says there.

    Yields:
        what tells how it ended; None as long as it runs.
    """
    read, write = os.pipe()
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        sys.stderr.flush()

        def begin() -> int:
            pid = os.fork()
            if pid == 0:
                for each in (*_held, write):
                    os.close(each)
                os.environ |= {THREADS: str(n_threads), ENDS_WITH_INPUT: "1"}
                _become(run, arguments, read, log)
            return pid

        with ThreadPoolExecutor(1) as fresh:
            pid = fresh.submit(begin).result()
        os.close(read)
        _held.append(write)
        codes: list[int] = []

        def ended() -> Ended | None:
            if not codes and (status := os.waitpid(pid, os.WNOHANG))[0]:
                codes.append(os.waitstatus_to_exitcode(status[1]))
            if not codes:
                return None
            log.seek(0)
            return Ended(codes[0], complaint(log.read().decode("utf-8", "replace")))

        try:
            yield ended
        finally:
            _held.remove(write)
            os.close(write)
            until = time.monotonic() + PATIENCE_S
            while ended() is None and time.monotonic() < until:
                time.sleep(0.02)
            if ended() is None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _become(
    run: Callable[[list[str]], object], arguments: list[str], read: int, log: BinaryIO
) -> NoReturn:
    """Run a command and end, whatever this process was."""
    code = 1
    try:
        os.setsid()
        os.dup2(read, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        run(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code)
