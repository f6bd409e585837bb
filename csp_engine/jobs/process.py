"""Processes that outlive their parent: starting one, knowing it again, ending it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csp_engine.errors import InputError

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 5.0
"""How long a process may take to end when asked to, before it is killed."""


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """A process and when it began: numbers are used again, a number with its beginning is not."""

    pid: int
    began: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs still; one that only waits to be reaped does not."""
        return self.pid > 0 and bool(self.began) and _beginning(self.pid) == self.began


def _beginning(pid: int) -> str:
    """Boot and clock tick at which a running process began; empty where none runs."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _beginning_by_ps(pid)
    # The command's name stands in brackets and may hold brackets and spaces itself.
    fields = stat.rpartition(")")[2].split()
    state, n_threads, ticks = fields[0], int(fields[17]), fields[19]
    # A process whose first thread has ended holds its files until the last one has.
    is_over = state in "Xx" or (state == "Z" and n_threads <= 1)
    return "" if is_over else f"{boot} {ticks}"


def _beginning_by_ps(pid: int) -> str:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    state, _, began = shown.partition(" ")
    return "" if state.startswith("Z") else began.strip()


def command_line(arguments: Sequence[str]) -> list[str]:
    """``csp`` with some arguments, by the Python that runs now; never through a shell.

    ``-P`` keeps modules that lie in the working folder from standing in for those of the engine.
    """
    return [sys.executable, "-P", "-m", "csp_engine", *arguments]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of this process, in which the engine is found without being installed."""
    held = os.environ.get("PYTHONPATH")
    paths = [str(PACKAGE_ROOT), *([held] if held else [])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        **more,
    }


def spawn(
    arguments: Sequence[str], folder: Path, log: Path, more: Mapping[str, str]
) -> ProcessMark:
    """Start ``csp`` in a session of its own, so that nothing sent to this one reaches it."""
    with log.open("ab") as out:
        child = subprocess.Popen(
            command_line(arguments),
            cwd=folder,
            env=environment(more),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    mark = ProcessMark(child.pid, _beginning(child.pid))
    threading.Thread(target=child.wait, daemon=True).start()  # else it stays as a zombie
    return mark


def end(mark: ProcessMark) -> None:
    """End a process and all it started: politely first, then for certain."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not mark.is_alive:
            return
        try:
            os.killpg(mark.pid, number)
        except (ProcessLookupError, PermissionError):
            return
        limit = time.monotonic() + PATIENCE_S
        while mark.is_alive and time.monotonic() < limit:
            time.sleep(0.02)


def ask_for_layers(
    model: str,
    folder: Path,
    *,
    weights: str = "",
    preprocessing: str = "",
    waiting: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """The layers of a model, as ``csp layers --json`` tells them; a process of its own loads it.

    Args:
        model: as for ``csp build --model``.
        folder: where the command runs.
        weights: a checkpoint, or empty.
        preprocessing: a JSON file, or empty.
        waiting: called while the answer is not there; what it raises ends the process.

    Raises:
        InputError: with the sentence of the command.
    """
    arguments = ["layers", model, "--json"]
    for option, value in (("--weights", weights), ("--preprocessing", preprocessing)):
        arguments += [option, value] if value else []
    child = subprocess.Popen(
        command_line(arguments),
        cwd=folder,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while True:
            try:
                out, err = child.communicate(timeout=0.25)
                break
            except subprocess.TimeoutExpired:
                waiting()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if child.returncode:
        raise InputError(complaint(err) or "The layers could not be listed.")
    return json.loads(out)


def complaint(text: str) -> str:
    """The last sentence that ``csp`` complained with, or nothing."""
    lines = [line for line in text.splitlines() if line.startswith("csp: ")]
    return lines[-1].removeprefix("csp: ") if lines else ""
