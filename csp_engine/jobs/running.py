"""Jobs on disk: ``NAME.csp.job/`` beside ``NAME.csp`` keeps order, process, progress and log."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from csp_engine.bundle import is_being_written, translated_os_errors
from csp_engine.errors import BundleError, CspError, InputError
from csp_engine.jobs.allowed import ALLOWED, Allowed
from csp_engine.jobs.order import BuildOrder
from csp_engine.jobs.process import ProcessMark, complaint, end, spawn
from csp_engine.jobs.progress import (
    PROGRESS_FILE,
    StageProgress,
    read_json,
    read_progress,
    write_json,
)

RECORD, PROGRESS, LOG = "job.json", "progress.json", "log.txt"
TAIL_BYTES = 65_536
KILLED = (
    "The build ended without a word, as it does when its process is killed or memory runs out. "
    "Nothing that was finished is lost."
)


@dataclass(frozen=True, slots=True)
class Job:
    """A build as it stood when this was read.

    ``state`` is ``running``, ``done``, ``cancelled``, ``failed`` (``sentence`` says why) or
    ``killed``. ``started`` and ``updated`` are seconds since 1970, of the last start and of the
    last sign of progress.
    """

    path: Path
    order: BuildOrder
    folder: Path
    state: str
    stages: tuple[StageProgress, ...]
    started: float
    updated: float
    n_starts: int
    sentence: str

    @property
    def bundle(self) -> Path:
        """The bundle that is built."""
        return self.path.with_name(self.path.name.removesuffix(".job"))

    @property
    def name(self) -> str:
        """The bundle's name."""
        return self.bundle.name.removesuffix(".csp")

    def log(self, n_lines: int) -> list[str]:
        """The last lines that the build wrote."""
        return _tail(self.path / LOG)[-n_lines:]


def job_folder(bundle: Path) -> Path:
    """Where the job of a bundle is kept."""
    return bundle.with_name(f"{bundle.name}.job")


def jobs_in(folder: Path) -> list[Job]:
    """The jobs of a folder's bundles, the latest first; what cannot be read is left out."""
    found = []
    for path in folder.glob(f"*.csp.job/{RECORD}"):
        try:
            found.append(read_job(path.parent))
        except CspError:
            continue
    return sorted(found, key=lambda job: -job.started)


def is_unfinished(bundle: Path) -> bool:
    """Whether a bundle is still being built, or was left so."""
    folder = job_folder(bundle)
    return (folder / RECORD).is_file() and not read_progress(folder / PROGRESS)[1]


def read_job(folder: Path) -> Job:
    """How a job stands now.

    Raises:
        InputError: if there is none, or its record is damaged.
    """
    record = read_json(folder / RECORD)
    try:
        order = BuildOrder.from_json(record["order"])
        mark = ProcessMark(int(record["pid"]), str(record["began"]))
        started, n_starts = float(record["started"]), int(record["n_starts"])
        runs_in = Path(record["folder"])
        is_cancelled = bool(record["is_cancelled"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"There is no build at {folder}, or its record is damaged.") from None
    is_alive = mark.is_alive  # before the progress, which it may finish in between
    stages, is_finished, updated = read_progress(folder / PROGRESS)
    sentence = ""
    if is_alive:
        state = "running"
    elif is_finished:
        state = "done"
    elif is_cancelled:
        state = "cancelled"
    else:
        sentence = complaint("\n".join(_this_run(_tail(folder / LOG))))
        state = "failed" if sentence else "killed"
        sentence = sentence or KILLED
    return Job(
        folder, order, runs_in, state, stages, started, max(started, updated), n_starts, sentence
    )


def start(order: BuildOrder, folder: Path, allowed: Allowed | None = None) -> Job:
    """Start a build, or start one again that stopped.

    Args:
        order: what to build.
        folder: where the command runs, and what the order's paths start from.
        allowed: what it may read; None for all that its account may.

    Raises:
        InputError: with the first sentence of ``order.problems``.
        BundleError: if this bundle is being built.
    """
    wrong = order.problems(folder, allowed)
    if wrong:
        raise InputError(next(iter(wrong.values())))
    bundle = (folder / Path(order.out).expanduser()).absolute()
    home = job_folder(bundle)
    with translated_os_errors(home):
        home.mkdir(parents=True, exist_ok=True)
    with _alone(home):
        held = read_json(home / RECORD)
        if held and ProcessMark(held.get("pid", 0), held.get("began", "")).is_alive:
            raise _taken(bundle)
        if is_being_written(bundle):
            raise _taken(bundle)
        n_starts = int(held.get("n_starts", 0)) + 1 if held.get("order") == order.to_json() else 1
        record: dict[str, Any] = {
            "order": order.to_json(),
            "folder": str(folder),
            "pid": 0,
            "began": "",
            "started": time.time(),
            "n_starts": n_starts,
            "is_cancelled": False,
        }
        with translated_os_errors(home):
            write_json(home / RECORD, record)
            (home / PROGRESS).unlink(missing_ok=True)
            _mark_start(home / LOG, order, n_starts)
            more = {PROGRESS_FILE: str(home / PROGRESS)}
            if allowed is not None:
                more[ALLOWED] = os.pathsep.join(map(str, allowed.folders))
            mark = spawn(order.arguments(), folder, home / LOG, more)
            write_json(home / RECORD, {**record, "pid": mark.pid, "began": mark.began})
    return read_job(home)


def resume(job: Job, allowed: Allowed | None = None) -> Job:
    """Start the same build again; it goes on where it stopped. ``allowed`` is as for ``start``."""
    return start(job.order, job.folder, allowed)


def cancel(job: Job) -> Job:
    """End a running build. What it has finished stays, and ``resume`` goes on from there."""
    with _alone(job.path):
        record = read_json(job.path / RECORD)
        mark = ProcessMark(record.get("pid", 0), record.get("began", ""))
        if mark.is_alive:
            write_json(job.path / RECORD, {**record, "is_cancelled": True})
            end(mark)
    return read_job(job.path)


def forget(job: Job) -> None:
    """Delete what is kept of a job that does not run; the bundle stays as it is.

    Raises:
        BundleError: if it runs.
    """
    with _alone(job.path):
        if read_job(job.path).state == "running":
            raise _taken(job.bundle)
        (job.path / RECORD).unlink(missing_ok=True)
    shutil.rmtree(job.path, ignore_errors=True)


def _taken(bundle: Path) -> BundleError:
    return BundleError(
        f"{bundle.name} is being built already; wait for it, cancel it, or choose another name."
    )


@contextmanager
def _alone(home: Path) -> Generator[None]:
    """Nobody else starts, cancels or forgets this job meanwhile."""
    try:
        with FileLock(home / ".lock", timeout=15):
            yield
    except Timeout:
        raise _taken(home.with_name(home.name.removesuffix(".job"))) from None


START = "--- started "


def _mark_start(log: Path, order: BuildOrder, n_starts: int) -> None:
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    with log.open("a" if n_starts > 1 else "w", encoding="utf-8") as out:
        out.write(f"{START}{when} ---\n{order.shown()}\n")


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as content:
            content.seek(0, 2)
            content.seek(max(0, content.tell() - TAIL_BYTES))
            return content.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _this_run(lines: list[str]) -> list[str]:
    starts = [number for number, line in enumerate(lines) if line.startswith(START)]
    return lines[starts[-1] :] if starts else lines
