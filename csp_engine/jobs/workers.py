"""The shards of a build by processes of this machine, each of which is ``csp build --shard``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from csp_engine.bundle import parts_folder, shards_in
from csp_engine.errors import InputError
from csp_engine.jobs.options import OPTIONS
from csp_engine.jobs.process import PATIENCE_S, command_line, complaint, environment
from csp_engine.types import Progress

ENDS_WITH_INPUT = "CSP_ENDS_WITH_INPUT"
"""Environment variable: a command ends when nobody holds the other end of its input any more."""
THREADS = "OMP_NUM_THREADS"
INTERVAL_S = 0.25
MOST_DEATHS = 3
"""How often a shard may be killed without a batch in between."""
OF_LAUNCHERS = ("shard", "workers", "engine", "address")
"""Options that say who measures the shards, not what they measure."""
OF_PLACE = ("images", "out", "image_root", "device")
"""Options that may be others on another machine."""


def shard_arguments(given: Mapping[str, Any], number: int, of: int) -> list[str]:
    """What ``csp`` is told to measure one shard of a build.

    Args:
        given: the options of the build by their names.
        number: which shard, from 1.
        of: of how many.
    """
    return ["build", *_arguments(given), "--shard", f"{number}/{of}"]


def merge_arguments(given: Mapping[str, Any], number: int, of: int) -> list[str]:
    """What ``csp`` is told to help the merge of a build; the arguments are as above."""
    return ["merge", *_arguments(given), "--shard", f"{number}/{of}"]


def asked(given: Mapping[str, Any]) -> dict[str, str]:
    """What decides what a merge makes, option by option, as text.

    Where images and bundle lie, and on what networks run, may differ from process to process.
    """
    return {
        option.spelled[0]: " ".join(option.written(_as_text(given[name]))[1::2])
        for name, option in OPTIONS.items()
        if name not in (*OF_LAUNCHERS, *OF_PLACE) and not option.parameter
    }


def _as_text(value: Any) -> Any:
    """A path as it is written."""
    return str(value) if isinstance(value, Path) else value


def _arguments(given: Mapping[str, Any]) -> list[str]:
    images = str(given["images"])
    arguments = [f"./{images}" if images.startswith("-") else images]
    for name, option in OPTIONS.items():
        if name != "images" and name not in OF_LAUNCHERS and not option.parameter:
            value = _as_text(given[name])
            is_usual = option.is_many and value == list(option.default or ())
            arguments += [] if is_usual else option.written(value)
    return arguments


def threads_each(n_workers: int) -> int:
    """Threads that each of several workers of this machine gets, unless the environment says."""
    return threads_said() or max(1, (os.cpu_count() or 1) // n_workers)


def threads_said() -> int:
    """Threads that the environment asks for; 0 where it says nothing that counts.

    It may list one number for each depth of nesting, of which the first counts here.
    """
    first = os.environ.get(THREADS, "").partition(",")[0].strip()
    return int(first) if first.isascii() and first.isdecimal() else 0


@dataclass(slots=True)
class Ended:
    """How a worker ended: its exit code, minus the signal that killed it, and its last sentence."""

    code: int
    sentence: str


@contextmanager
def worker(
    arguments: list[str], n_threads: int, folder: str
) -> Generator[Callable[[], Ended | None]]:
    """A process that measures a shard while the block runs; it ends with this process.

    Args:
        arguments: from ``shard_arguments``.
        n_threads: that its networks run on.
        folder: where it runs, and what its relative paths start from.

    Yields:
        what tells how it ended; None as long as it runs.
    """
    more = {THREADS: str(n_threads), ENDS_WITH_INPUT: "1"}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            command_line(arguments),
            cwd=folder,
            env=environment(more),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )

        def ended() -> Ended | None:
            if child.poll() is None:
                return None
            log.seek(0)
            return Ended(child.returncode, complaint(log.read().decode("utf-8", "replace")))

        try:
            yield ended
        finally:
            assert child.stdin is not None
            child.stdin.close()
            try:
                child.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def end_with_input() -> None:
    """End this process when its input ends, where it is the worker of another."""
    if os.environ.get(ENDS_WITH_INPUT) != "1":
        return

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)  # what it has measured is on the disk, and nothing else has to be

    threading.Thread(target=wait, daemon=True, name="ends-with-input").start()


@dataclass(slots=True)
class Watch:
    """How far all shards of a build are, from what they wrote; the same for all launchers."""

    bundle: Path
    of: int
    n_images: int
    progress: Progress
    n_measured: dict[int, int] = field(default_factory=dict)

    def look(self) -> None:
        """See what was written since, and show it."""
        now = shards_in(parts_folder(self.bundle), self.of)
        if now != self.n_measured:
            self.n_measured = now
            done = min(sum(now.values()), self.n_images)
            self.progress("images", done, self.n_images)


def refused(number: int, of: int, ended: Ended) -> InputError:
    """What is said of a shard that cannot be measured."""
    why = ended.sentence or f"its process ended with code {ended.code}"
    return InputError(f"Shard {number} of {of} stopped: {why}")


def killed(number: int, of: int) -> InputError:
    """What is said of a shard whose process is killed whenever it runs."""
    return InputError(
        f"Shard {number} of {of} was killed {MOST_DEATHS} times without finishing a batch, as "
        "where memory runs out; take fewer --workers or a smaller --batch-size. What is measured "
        "stays."
    )


Started = tuple[Callable[[], Ended | None], Callable[[], None]]
"""What tells how a worker ended, and what ends it."""


def measure_all(
    of: int, watch: Watch, told: Callable[[str], None], start: Callable[[int], Started]
) -> None:
    """Have all shards measured at the same time; one that is killed is started again.

    Args:
        of: how many shards.
        watch: shows how far they are.
        told: called with a sentence when a worker was killed.
        start: starts the worker of one shard.

    Raises:
        InputError: with the sentence of the first worker that cannot go on; the others end, and
            what they have measured stays.
    """
    running: dict[int, Started] = {}
    deaths, before = dict.fromkeys(range(1, of + 1), 0), dict.fromkeys(range(1, of + 1), -1)
    try:
        for number in range(1, of + 1):
            running[number] = start(number)
        while running:
            time.sleep(INTERVAL_S)
            watch.look()
            for number, (ended, end) in list(running.items()):
                how = ended()
                if how is None:
                    continue
                end()
                del running[number]
                if how.code == 0:
                    continue
                if how.code > 0:
                    raise refused(number, of, how)
                measured = watch.n_measured.get(number, 0)
                deaths[number] = 1 if measured > before[number] else deaths[number] + 1
                before[number] = measured
                if deaths[number] >= MOST_DEATHS:
                    raise killed(number, of)
                told(f"The process of shard {number} of {of} was killed; it is started again.")
                running[number] = start(number)
        watch.look()
    finally:
        for _, end in running.values():
            end()


Start = Callable[[list[str], int], AbstractContextManager[Callable[[], Ended | None]]]
"""What starts a worker with some arguments, on a number of threads; see ``worker``."""


def worker_here(arguments: list[str], n_threads: int) -> Any:
    """A ``worker`` in the folder of this process."""
    return worker(arguments, n_threads, str(Path.cwd()))


def measure_here(
    given: Mapping[str, Any],
    of: int,
    watch: Watch,
    told: Callable[[str], None],
    begin: Start = worker_here,
) -> None:
    """Measure all shards by one process of this machine each; see ``measure_all``.

    Args:
        given: the options of the build by their names.
        of: how many shards and processes.
        watch: shows how far they are.
        told: called with a sentence when a process was killed.
        begin: starts a process.
    """
    n_threads = threads_each(of)

    def start(number: int) -> Started:
        stack = contextlib.ExitStack()
        arguments = shard_arguments(given, number, of)
        return stack.enter_context(begin(arguments, n_threads)), stack.close

    measure_all(of, watch, told, start)


@contextlib.contextmanager
def helpers_here(given: Mapping[str, Any], of: int, told: Callable[[str], None]) -> Generator[None]:
    """Processes of this machine that compute for the merge of this one while the block runs.

    One that is killed is not started again: what it had not finished, this process makes.

    Args:
        given: the options of the build by their names.
        of: how many compute, this process among them.
        told: called with a sentence at the end when one could not go on.
    """
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(worker_here(merge_arguments(given, number, of), threads_each(of)))
            for number in range(2, of + 1)
        ]
        yield
        for ended in started:
            how = ended()
            if how is not None and how.code > 0:
                told(f"A process that was to help the merge stopped: {how.sentence}")
