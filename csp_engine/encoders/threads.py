"""How many threads compute; to encode a text one, where more would wait longer than they work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any

import torch

FOR_ONE_THREAD_S = 0.01
"""A text that one thread encodes within this is left to it. Where threads share so little work, the
first to finish waits for the others to get a core, beside a browser up to 0.1 s."""
TRIED = ("a text to begin with", "another one, to be timed")
"""Nobody's labels, which have their vectors already."""


@contextlib.contextmanager
def threads(n: int) -> Generator[None]:
    """Within the block, torch computes on ``n`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for_texts(encode: Callable[[str], Any]) -> int:
    """One where that encodes a text within ``FOR_ONE_THREAD_S``, else as many as torch has now.

    The second of two texts is timed: the first also prepares what every later one finds ready. What
    fails here fails again, and says why, when somebody asks.

    Args:
        encode: makes the vector of a text.
    """
    n_threads = torch.get_num_threads()
    with threads(1):
        try:
            for text in TRIED:
                began = time.perf_counter()
                encode(text)
                took_s = time.perf_counter() - began
        except Exception:  # whatever somebody's own encoder raises
            return n_threads
    return 1 if took_s <= FOR_ONE_THREAD_S else n_threads
