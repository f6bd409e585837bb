"""The work folder of a demo build: parts that are made once, and how much of everything.

A part is recorded in ``world.json`` only when it is whole, so an interrupted build goes on where it
stopped (inside a part too: pictures and training steps resume).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from csp_engine.demo.simulator import render
from csp_engine.demo.training import classifiers
from csp_engine.demo.training.pictures import Pictures, pictures
from csp_engine.errors import InputError
from csp_engine.files import write_whole
from csp_engine.hashing import sha256_file
from csp_engine.types import Progress, silent

VERSION = 1
RECORD = "world.json"
BUNDLE = "dermoscopy.csp"
CHECKPOINT = ".checkpoint"
LOCK = ".lock"

PARTS = (
    "encoder",
    "captioner",
    "planted",
    *(f"{name}.safetensors" for name in classifiers.MODELS),
)
"""Files and folders of the work folder that are shipped as they are."""


@dataclass(frozen=True)
class Plan:
    """How much of everything; all of it follows from ``seed``."""

    seed: int = 0
    n_probe: int = 4000
    n_held_out: int = 1200
    n_words: int = 9000
    n_lessons: int = 4000
    n_slice: int = 600
    encoder_steps: int = 2600
    classifier_steps: int = 900
    captioner_steps: int = 2000
    n_exemplars: int = 30
    n_partners: int = 2
    n_labels: int = 9
    thumbnail_side: int = 128

    def lesson_seed(self, lesson: int) -> int:
        """The seed of one set of pictures."""
        return self.seed * 1000 + lesson


FULL = Plan()


class World:
    """The work folder of one demo build: which parts are done, and where they lie."""

    def __init__(self, folder: Path, plan: Plan = FULL, progress: Progress = silent) -> None:
        """Open the folder, or begin it.

        Raises:
            InputError: if it holds files that are not of a demo build, or cannot be written.
        """
        self.folder = folder
        self.plan = plan
        self.progress = progress
        settings = {"version": VERSION, "render": render.VERSION, **asdict(plan)}
        record_path = folder / RECORD
        _require_own(folder)
        held: dict[str, Any] = {}
        if record_path.exists():
            try:
                held = json.loads(record_path.read_text(encoding="utf-8"))
            except ValueError:
                held = {}  # cut off or altered: every part is made again
        self.record: dict[str, Any] = {"settings": settings, "parts": {}}
        if held.get("settings") == settings:
            self.record["parts"] = held["parts"]
        else:
            for unfinished in folder.glob(f"*{CHECKPOINT}"):
                unfinished.unlink()  # of a training with other settings
            for unfinished in folder.glob(".tmp-*.part"):
                shutil.rmtree(unfinished)  # of a drawing with other settings
        self._write()

    def path(self, part: str) -> Path:
        """Where a part lies."""
        return self.folder / part

    def make(self, part: str, write: Callable[[Path], None]) -> Path:
        """Make a part unless it is there; ``write`` fills a path that is then renamed."""
        target, temporary = self.path(part), self.folder / f".tmp-{part}"
        held = self.record["parts"].get(part)
        if held is not None and target.exists() and held["sha256"] == content_sha256(target):
            return target
        _remove(temporary)
        started = time.monotonic()
        write(temporary)
        _remove(target)
        temporary.rename(target)
        self.record["parts"][part] = {
            "seconds": round(time.monotonic() - started, 1),
            "sha256": content_sha256(target),
        }
        self._write()
        return target

    def checkpoint(self, name: str) -> Path:
        """The file for the state of an unfinished training."""
        return self.folder / f"{name}{CHECKPOINT}"

    def pictures(self, scenario: str, n: int, lesson: int, side: int) -> Pictures:
        """Rendered pictures of a scenario, kept in ``pictures/``."""
        seed = self.plan.lesson_seed(lesson)
        return pictures(self.folder / "pictures", scenario, n, seed, side, self.progress)

    def _write(self) -> None:
        write_whole(self.folder / RECORD, json.dumps(self.record, indent=1) + "\n")


@contextmanager
def sole_builder(folder: Path) -> Generator[None]:
    """Keep every other process from building in the same work folder meanwhile.

    Raises:
        InputError: if another one is at it, or the folder is none of a demo build.
    """
    _require_own(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another process is making the demo in {folder}; wait for it, or choose another "
            "folder with --work."
        ) from None
    except OSError as error:
        raise _refused(folder, error) from None
    try:
        yield
    finally:
        lock.release()


def _require_own(folder: Path) -> None:
    """Refuse a folder that holds something else, or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()} - {LOCK}
    except OSError as error:
        raise _refused(folder, error) from None
    if names and RECORD not in names:
        raise InputError(f"{folder} is not empty and not of a demo build; choose another folder.")


def _refused(folder: Path, error: OSError) -> InputError:
    return InputError(f"Cannot write to {folder} ({error.strerror}); choose another folder.")


def content_sha256(path: Path) -> str:
    """One hash over a file, or over names and contents of all files of a folder."""
    if path.is_file():
        return sha256_file(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}|{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
