"""What was worked out once and is asked for again: shared by all who look at the same bundles."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

KEPT = 512


class Memo:
    """Kept values by key, safe between threads; the value used least recently goes first.

    A key names what it was made from (a bundle by its digest), so that nothing kept is ever stale.
    """

    def __init__(self, limit: int = KEPT) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The kept value of a key, made once even when several threads ask together.

        Only those who ask for the same key wait for it: an index may take seconds to load. What
        fails is made again by whoever asks next.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            own = self._making.setdefault(key, threading.Lock())
        with own:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]
            try:
                value = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._kept[key] = value
                while len(self._kept) > self.limit:
                    self._kept.popitem(last=False)
            return value
