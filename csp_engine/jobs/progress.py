"""How far a running command is, in a file that other processes read."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from csp_engine.files import write_whole

PROGRESS_FILE = "CSP_PROGRESS_FILE"
"""Environment variable that names the file; a command that shows progress then writes it too."""

INTERVAL_S = 0.25


@dataclass(slots=True)
class StageProgress:
    """One stage: ``first`` of ``total`` were done when it started, ``done`` when last heard of."""

    name: str
    done: int
    total: int
    first: int
    started: float
    updated: float

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return self.done >= self.total

    @property
    def seconds_left(self) -> float | None:
        """What the rest takes at the speed so far, from when it was last heard of."""
        if self.is_over or self.done <= self.first:
            return None
        return (self.updated - self.started) / (self.done - self.first) * (self.total - self.done)


class ProgressFile:
    """A progress callback that keeps a JSON file up to date; each version replaces the last whole.

    Used as a context manager: ``finished`` becomes true if the block ends without an exception.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stages: dict[str, StageProgress] = {}
        self._written = 0.0

    def __enter__(self) -> ProgressFile:
        self._write(finished=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write(finished=kind is None)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of a stage; written at most four times a second, starts and ends always."""
        now = time.time()
        held = self._stages.get(stage)
        if held is None:
            held = self._stages[stage] = StageProgress(stage, done, total, done, now, now)
        held.done, held.total, held.updated = done, total, now
        if held.started == now or held.is_over or now - self._written >= INTERVAL_S:
            self._write(finished=False)

    def _write(self, *, finished: bool) -> None:
        self._written = time.time()
        content = {
            "finished": finished,
            "updated": self._written,
            "stages": [asdict(stage) for stage in self._stages.values()],
        }
        write_json(self._path, content)


def read_progress(path: Path) -> tuple[tuple[StageProgress, ...], bool, float]:
    """The stages in the order they started, whether all is finished, and when that was written."""
    content = read_json(path)
    try:
        stages = tuple(StageProgress(**stage) for stage in content["stages"])
        return stages, bool(content["finished"]), float(content["updated"])
    except (KeyError, TypeError, ValueError):
        return (), False, 0.0


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file as a whole."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False))


def read_json(path: Path) -> dict[str, Any]:
    """A file of ``write_json``; empty where there is none, or something else."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
