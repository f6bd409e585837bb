"""Turns at something that does one thing at a time: how many wait, and how long one may take."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from csp_engine.errors import BusyError


@dataclass(frozen=True, slots=True)
class Limits:
    """What visitors may take together and each.

    Attributes:
        n_waiting: questions of all visitors that wait or are answered.
        n_of_one: such questions of one visitor.
        seconds: that one visitor may take of any ``window`` seconds.
        window: seconds that are looked back.
        patience: seconds after which a question stops to wait.
    """

    n_waiting: int = 24
    n_of_one: int = 6
    seconds: float = 30.0
    window: float = 60.0
    patience: float = 60.0


@dataclass(slots=True, eq=False)
class Turn:
    """One question; what it takes is not counted if ``is_free``."""

    visitor: str
    is_free: bool = False


class Turns:
    """Lets one at a time go on: of those who wait, the one whose visitor took the least."""

    def __init__(self, limits: Limits | None = None, what: str = "encoder") -> None:
        self.limits = limits or Limits()
        self.what = what
        self._changed = threading.Condition()
        self._waiting: list[Turn] = []
        self._is_taken = False
        self.n_refused = 0
        """Questions that got no turn, since the start."""
        self._took: defaultdict[str, deque[tuple[float, float]]] = defaultdict(deque)

    @property
    def n_waiting(self) -> int:
        """Questions that wait or are answered."""
        return len(self._waiting)

    @contextmanager
    def turn(self, visitor: str) -> Generator[Turn]:
        """Wait for a turn, and have it for the length of a block.

        Raises:
            BusyError: if too many wait, or this visitor has had too much.
        """
        try:
            mine = self._waited(visitor)
        except BusyError:
            with self._changed:
                self.n_refused += 1
            raise
        started = time.monotonic()
        try:
            yield mine
        finally:
            with self._changed:
                self._waiting.remove(mine)
                self._is_taken = False
                if not mine.is_free:
                    now = time.monotonic()
                    self._took[visitor].append((now, now - started))
                self._changed.notify_all()

    def _waited(self, visitor: str) -> Turn:
        mine = Turn(visitor)
        with self._changed:
            self._refuse_too_much(visitor)
            self._waiting.append(mine)
            had_turn = self._changed.wait_for(lambda: self._is_next(mine), self.limits.patience)
            if not had_turn:
                self._waiting.remove(mine)
                raise BusyError(
                    f"The {self.what} was busy with others for {self.limits.patience:.0f} s; "
                    "ask again in a minute."
                )
            self._is_taken = True
        return mine

    def _is_next(self, mine: Turn) -> bool:
        return not self._is_taken and mine is min(
            self._waiting, key=lambda each: self._seconds(each.visitor)
        )

    def _refuse_too_much(self, visitor: str) -> None:
        limits = self.limits
        counted = Counter(each.visitor for each in self._waiting)
        if counted[visitor] >= limits.n_of_one:
            raise BusyError(
                f"{counted[visitor]} of your questions wait for the {self.what} already; "
                "ask again when they are answered."
            )
        if counted.total() >= limits.n_waiting:
            raise BusyError(
                f"{counted.total()} questions wait for the {self.what} already; ask "
                "again in a minute."
            )
        if self._seconds(visitor) >= limits.seconds:
            raise BusyError(
                f"You have used the {self.what} for {limits.seconds:.0f} s of the last "
                f"{limits.window:.0f} s, which is all that one visitor gets; ask again in a minute."
            )

    def _seconds(self, visitor: str) -> float:
        """What a visitor took of late; older turns are forgotten."""
        since = time.monotonic() - self.limits.window
        took = self._took.get(visitor)
        while took and took[0][0] < since:
            took.popleft()
        if not took:
            self._took.pop(visitor, None)
            return 0.0
        return sum(seconds for _, seconds in took)
