"""Work of a merge that is shared out: orders on the disk, and pieces that whoever is free makes.

An order says what is wanted, in so many pieces, and what it hangs on. Whoever sees it makes a piece
that nobody has made or is making, and writes it whole. A process that is killed loses the piece
that it was at, which another makes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from csp_engine.bundle import aside, translated_os_errors
from csp_engine.bundle.checks.inside import open_plain
from csp_engine.bundle.passing.pieces import keep_arrays, kept_arrays
from csp_engine.errors import StaleError
from csp_engine.files import write_whole
from csp_engine.hashing import canonical_json, sha256_json
from csp_engine.types import Progress

INTERVAL_S = 0.1
"""How often somebody looks whether others are done, or have ordered more."""
LARGEST = 1 << 24
Arrays = dict[str, np.ndarray]
Make = Callable[[int], Arrays]
"""Makes the piece of a number, from 0."""


@dataclass(frozen=True)
class Order:
    """What a merge wants made.

    Attributes:
        task: what kind of thing.
        about: all that its numbers hang on: of what, by which parameters, by which code.
        n_pieces: in how many pieces.
    """

    task: str
    about: Mapping[str, Any]
    n_pieces: int

    @cached_property
    def sha256(self) -> str:
        """What it is known by."""
        return sha256_json(self.said())

    def said(self) -> dict[str, Any]:
        """The same as JSON holds it."""
        return {"task": self.task, "about": dict(self.about), "pieces": self.n_pieces}

    def place(self, folder: Path) -> Path:
        """Where it lies among the parts."""
        return aside(folder, "order", self.sha256)

    def piece(self, folder: Path, number: int) -> Path:
        """Where one of its pieces lies."""
        return aside(folder, "piece", sha256_json([self.sha256, number]))

    def is_made(self, folder: Path) -> bool:
        """Whether somebody has made each of its pieces."""
        return all(self.piece(folder, number).exists() for number in range(self.n_pieces))

    def write(self, folder: Path) -> None:
        """Let others see it."""
        write_whole(self.place(folder), canonical_json(self.said()))

    @classmethod
    def read(cls, path: Path) -> Order | None:
        """An order as it was written; None where there is none."""
        try:
            with open_plain(path) as handle:
                said = json.loads(handle.read(LARGEST))
            order = cls(str(said["task"]), dict(said["about"]), int(said["pieces"]))
            return order if aside(path.parent, "order", order.sha256) == path else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def bounds(self, number: int, total: int) -> slice:
        """Which of ``total`` things in a row a piece is of."""
        return slice(total * number // self.n_pieces, total * (number + 1) // self.n_pieces)

    def refuse_other_code(self, mine: Mapping[str, str]) -> None:
        """Refuse to take part where other code runs, whose numbers may differ.

        Raises:
            StaleError: naming the first thing that differs.
        """
        for name, value in dict(self.about.get("code") or {}).items():
            if mine.get(name) != value:
                raise StaleError(
                    f"The merge runs with {name} {value!s:.40} and this process with "
                    f"{mine.get(name)!s:.40}, which may differ in the last digits; install the "
                    "same here, and start it again."
                )


def work_on(order: Order, folder: Path, make: Make) -> Iterator[tuple[int, Arrays]]:
    """Make the pieces of an order that nobody has made or is making.

    Args:
        order: what is wanted.
        folder: of the parts.
        make: makes a piece.

    Yields:
        each piece that was made here, once it is written.

    Raises:
        OSError: the disk does not take a piece.
    """
    for number in range(order.n_pieces):
        path = order.piece(folder, number)
        if path.exists():
            continue
        with suppress(Timeout), FileLock(f"{path}.lock", timeout=0):
            # In this order: pieces are deleted after their order.
            if not path.exists() and order.place(folder).exists():
                arrays = make(number)
                keep_arrays(path, arrays, {})
                yield number, arrays


class Shared:
    """An order of this process, which has its own part in the work."""

    def __init__(self, order: Order, folder: Path, make: Make, progress: Progress, what: str):
        self._order, self._folder, self._make = order, folder, make
        self._progress, self._what = progress, what

    def have_made(self) -> None:
        """Have all pieces made by whoever is free; they stay until ``dismiss``.

        Raises:
            InputError: the disk is full, or may not be written to.
        """
        order, folder = self._order, self._folder
        with translated_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            order.write(folder)
            while True:
                for _ in work_on(order, folder, self._make):
                    self._tell()
                if self._tell() == order.n_pieces:
                    return
                time.sleep(INTERVAL_S)

    def pieces(self) -> Generator[Arrays]:
        """All pieces in their order, once they are made."""
        self.have_made()
        order, folder = self._order, self._folder
        for number in range(order.n_pieces):
            held = kept_arrays(order.piece(folder, number))
            yield self._make(number) if held is None else held[0]

    def _tell(self) -> int:
        numbers = range(self._order.n_pieces)
        done = sum(self._order.piece(self._folder, number).exists() for number in numbers)
        self._progress(self._what, done, len(numbers))
        return done

    def dismiss(self) -> None:
        """Delete what nobody needs any more."""
        self._order.place(self._folder).unlink(missing_ok=True)  # before its pieces
        for number in range(self._order.n_pieces):
            path = self._order.piece(self._folder, number)
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


@contextmanager
def dismissing(shared: Shared) -> Generator[Shared]:
    """Delete an order and its pieces when the block ends well; else they are taken up later."""
    yield shared
    shared.dismiss()
