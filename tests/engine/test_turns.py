"""Turns at the encoder: nobody waits behind one visitor, and too much is refused in a sentence."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from csp_engine.errors import BusyError
from csp_engine.serving import turns
from csp_engine.serving.turns import Limits, Turns


class Visitors:
    """Threads that each hold a turn until told, in the order in which they got it."""

    def __init__(self, at: Turns) -> None:
        self.at = at
        self.went: list[str] = []
        self.goes = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def ask(self, visitor: str) -> None:
        """One more question; returns once it waits or is answered."""
        before = len(self.at._waiting)

        def question() -> None:
            with self.at.turn(visitor):
                self.went.append(visitor)
                assert self.goes.acquire(timeout=20)

        self.threads.append(threading.Thread(target=question, daemon=True))
        self.threads[-1].start()
        end = time.monotonic() + 20
        while len(self.at._waiting) == before and time.monotonic() < end:
            time.sleep(0.001)

    def finish(self) -> list[str]:
        for _ in self.threads:
            self.goes.release()
        for thread in self.threads:
            thread.join(20)
        return self.went


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(turns.time, "monotonic", lambda: Clock.now)
    return Clock


def took(at: Turns, clock, visitor: str, seconds: float, *, is_free: bool = False) -> None:
    with at.turn(visitor) as turn:
        turn.is_free = is_free
        clock.now += seconds


def test_one_at_a_time_and_all_get_their_turn():
    crowd = Visitors(Turns())
    for visitor in "abcdab":
        crowd.ask(visitor)
    assert len(crowd.went) == 1
    assert sorted(crowd.finish()) == sorted("abcdab")
    assert crowd.at._waiting == []


def test_more_than_may_wait_are_refused_and_later_ones_are_not():
    crowd = Visitors(Turns(Limits(n_waiting=4, n_of_one=2)))
    crowd.ask("a")
    crowd.ask("a")
    with pytest.raises(BusyError, match="2 of your questions wait"), crowd.at.turn("a"):
        pass
    crowd.ask("b")
    crowd.ask("c")
    with pytest.raises(BusyError, match="4 questions wait"), crowd.at.turn("d"):
        pass
    crowd.finish()
    with crowd.at.turn("d"):
        pass


def test_who_took_more_than_a_share_waits_for_a_while(clock):
    at = Turns(Limits(seconds=30.0, window=60.0))
    took(at, clock, "a", 20)
    took(at, clock, "a", 11)
    with pytest.raises(BusyError, match="30 s of the last 60 s"), at.turn("a"):
        pass
    took(at, clock, "b", 1)
    clock.now += 50  # by now the first is older than a minute, and the second is not
    took(at, clock, "a", 1)
    clock.now += 1000
    with at.turn("nobody"):
        pass
    assert set(at._took) <= {"a", "b", "nobody"}


def test_loading_counts_for_nobody(clock):
    at = Turns(Limits(seconds=30.0, window=60.0))
    took(at, clock, "a", 50, is_free=True)
    took(at, clock, "a", 1)


def test_what_fails_counts_too(clock):
    at = Turns(Limits(seconds=30.0, window=60.0))
    with suppress(ValueError), at.turn("a"):
        clock.now += 31
        raise ValueError
    with pytest.raises(BusyError), at.turn("a"):
        pass


def test_the_next_turn_is_of_who_took_least_so_far():
    at = Turns()
    at._took["greedy"].append((time.monotonic(), 9.0))
    crowd = Visitors(at)
    crowd.ask("first")
    crowd.ask("greedy")
    crowd.ask("modest")
    assert crowd.finish() == ["first", "modest", "greedy"]


def test_nobody_waits_for_ever():
    at = Turns(Limits(patience=0.05))
    crowd = Visitors(at)
    crowd.ask("a")
    with pytest.raises(BusyError, match="busy with others"), at.turn("b"):
        pass
    assert [each.visitor for each in at._waiting] == ["a"]
    crowd.finish()
