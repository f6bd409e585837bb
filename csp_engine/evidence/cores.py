"""Independent pieces of array work on all cores, for what NumPy does without Python's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    """Cores to work on; ``OMP_NUM_THREADS`` bounds them, as it does for matrix products."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    free = os.cpu_count() or 1
    return max(1, min(free, int(asked))) if asked.isdigit() else free


def on_all_cores(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """What ``work`` gives for every item, in their order."""
    cores = n_cores()
    if cores == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(work, items))


def shares(n: int) -> Sequence[slice]:
    """``range(n)`` in one run for each core."""
    cores = min(n_cores(), max(1, n))
    return [slice(n * i // cores, n * (i + 1) // cores) for i in range(cores)]
