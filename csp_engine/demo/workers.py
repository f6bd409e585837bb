"""Work spread over all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

FEW_JOBS = 200
"""Photographs drawn in the time that new processes take to import what they need."""


@contextmanager
def workers(n_jobs: int) -> Generator[Callable[..., Iterator[Any]]]:
    """A ``map`` that runs on all cores, in order; here, where few jobs would not pay for them."""
    n = min(8, os.cpu_count() or 1)
    if n == 1 or n_jobs <= FEW_JOBS:
        yield map
        return
    # Fresh processes: a fork of a process that runs torch's threads may never return.
    # Ctrl-C is for this process alone; it then drops what the others have not begun.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n, context, initializer=signal.signal, initargs=ignore)
    try:
        yield partial(pool.map, chunksize=8)
    finally:
        pool.shutdown(cancel_futures=True)
