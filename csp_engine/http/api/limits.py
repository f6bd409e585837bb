"""How many requests a visitor may make: a bucket for each that fills at a steady rate."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

PER_SECOND, AT_ONCE = 50.0, 200
MOST_VISITORS = 10_000


class Buckets:
    """A request takes one from the bucket of its visitor, which fills at ``per_second``.

    The least recent visitors are forgotten first; a forgotten bucket is full again.
    """

    def __init__(
        self,
        per_second: float = PER_SECOND,
        at_once: int = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_second, self.at_once, self.clock = per_second, at_once, clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, visitor: str) -> int:
        """Take one; 0, or where there is none the whole seconds until there is."""
        with self._lock:
            now = self.clock()
            left, since = self._left.pop(visitor, (float(self.at_once), now))
            left = min(float(self.at_once), left + (now - since) * self.per_second)
            is_there = left >= 1
            self._left[visitor] = (left - is_there, now)
            while len(self._left) > MOST_VISITORS:
                self._left.popitem(last=False)
        return 0 if is_there else max(1, math.ceil((1 - left) / self.per_second))
