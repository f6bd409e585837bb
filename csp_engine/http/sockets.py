"""How many pages one visitor may have open: each has a WebSocket, and a session in memory."""

from __future__ import annotations

import os
from collections import Counter

VARIABLE = "CSP_MOST_PAGES"
USUAL = 200
"""Enough for a team behind one address."""


def most_pages() -> int:
    """How many pages of one visitor may be open at a time; the usual number if none is set."""
    stated = os.environ.get(VARIABLE, "").strip()
    return int(stated) if stated.isdecimal() and int(stated) else USUAL


class Sockets:
    """The open WebSockets of each visitor; belongs to the loop, whose code runs one at a time."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def enter(self, visitor: str, most: int) -> bool:
        """Count one more, unless there are ``most`` already."""
        if self._open[visitor] >= most:
            return False
        self._open[visitor] += 1
        return True

    def leave(self, visitor: str) -> None:
        """One that was counted has closed."""
        self._open[visitor] -= 1
        if not self._open[visitor]:
            del self._open[visitor]


def too_many(most: int) -> str:
    """What a visitor is told who has that many."""
    return (
        f"{most} pages of this server are open from your account or address, and it "
        f"allows no more; close some, or start the server with {VARIABLE} set to a higher number."
    )
