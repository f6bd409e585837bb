"""How many threads encode a text: one, where more would wait longer than they work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator

import torch

from csp_engine.types import Encoder

FOR_ONE_THREAD_S = 0.01
"""A text that one thread encodes within this is left to it. Where threads share so little work, the
first to finish waits for the others to get a core, beside a browser up to 0.1 s."""


@contextlib.contextmanager
def threads(n: int) -> Generator[None]:
    """Within the block, torch computes on ``n`` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_for_texts(encoder: Encoder) -> int:
    """One where that encodes a text within ``FOR_ONE_THREAD_S``, else as many as torch has now.

    The second of two texts is timed: the first also prepares what every later one finds ready. An
    encoder that fails here fails again, and says why, when somebody asks.
    """
    n_threads = torch.get_num_threads()
    with threads(1):
        try:
            for _ in range(2):
                began = time.perf_counter()
                encoder.embed_texts(["a photo of something"])
                took_s = time.perf_counter() - began
        except Exception:  # whatever somebody's own encoder raises
            return n_threads
    return 1 if took_s <= FOR_ONE_THREAD_S else n_threads
