"""Trials, of a fix or of an encoder: ``csp`` in a process and a folder of the server's own."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csp_engine.errors import InputError
from csp_engine.jobs.allowed import ALLOWED, Allowed
from csp_engine.jobs.process import ProcessMark, complaint, end, spawn
from csp_engine.jobs.progress import PROGRESS_FILE, StageProgress, read_progress

RESULT, LOG, PROGRESS = "result", "log.txt", "progress.json"
ENDED = (
    "The trial ended without a word, perhaps for want of memory; end other programs and try again."
)
MOST_AT_ONCE = 2
"""Trials that run together; each takes a processor and the memory of a network."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial that was started: where it writes, and which process it is."""

    folder: Path
    mark: ProcessMark
    started: float

    @property
    def result(self) -> Path:
        """The folder that it leaves its result in."""
        return self.folder / RESULT

    @property
    def is_running(self) -> bool:
        """Whether its process runs still."""
        return self.mark.is_alive

    @property
    def is_done(self) -> bool:
        """Whether it left a result."""
        return not self.is_running and read_progress(self.folder / PROGRESS)[1]

    @property
    def stages(self) -> tuple[StageProgress, ...]:
        """How far it is."""
        return read_progress(self.folder / PROGRESS)[0]

    @property
    def sentence(self) -> str:
        """Why there is no result; empty while it runs or where there is one."""
        if self.is_running or self.is_done:
            return ""
        text = (self.folder / LOG).read_text("utf-8", errors="replace")
        return complaint(text) or ENDED


_running: list[Trial] = []


def start_trial(command: Sequence[str], folder: Path, allowed: Allowed | None = None) -> Trial:
    """Start a command that leaves what it found in a folder, such as ``csp fix`` or ``csp try``.

    Args:
        command: what comes after ``csp``, without ``--leave`` and ``--json``.
        folder: where it runs, and what paths in the arguments start from.
        allowed: what it may read; None for all that its account may.

    Raises:
        InputError: if enough trials run already.
    """
    _running[:] = [each for each in _running if each.is_running]
    if len(_running) >= MOST_AT_ONCE:
        raise InputError(
            f"{len(_running)} trials run on this server already; wait until one has ended."
        )
    home = Path(tempfile.mkdtemp(prefix="csp-trial-"))
    more = {PROGRESS_FILE: str(home / PROGRESS)}
    if allowed is not None:
        more[ALLOWED] = os.pathsep.join(map(str, allowed.folders))
    whole = [*command, f"--leave={home / RESULT}", "--json"]
    trial = Trial(home, spawn(whole, folder, home / LOG, more), time.time())
    _running.append(trial)
    return trial


def drop_trial(trial: Trial) -> None:
    """End a trial and delete what it left."""
    end(trial.mark)
    shutil.rmtree(trial.folder, ignore_errors=True)
