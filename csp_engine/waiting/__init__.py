"""How long others are waited for: a limit of a whole request, not of the time between two bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Given = TypeVar("Given")


def within(seconds: float, work: Callable[[], Given]) -> Given:
    """What some work gives, however slowly it comes, or an error once the time is over.

    A limit of a connection counts from byte to byte, so a server that sends one now and then would
    be waited for as long as it likes. The work itself cannot be stopped: it ends with the process.

    Raises:
        TimeoutError: if it is not done in time; and whatever the work raises.
    """
    given: list[Given] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            given.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not given:
        raise TimeoutError(f"not there within {seconds:g} s")
    return given[0]
