"""Who merges, and computing for a merge that another process is at."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from csp_engine.bundle import (
    Bundle,
    is_merged,
    merging_lock,
    orders_in,
    parts_folder,
    remove_merged,
    translated_os_errors,
)
from csp_engine.errors import BundleError
from csp_engine.networks.conditions import code_conditions
from csp_engine.pipeline.sharing.orders import INTERVAL_S, Order, work_on
from csp_engine.pipeline.sharing.tasks import TASKS, Bench, maker
from csp_engine.types import Progress, silent

PATIENCE_S = 2.0
"""How long a process that is to merge waits for another that is about to end."""


@contextmanager
def merging_alone(bundle: Path, progress: Progress = silent, *, helps: bool) -> Generator[bool]:
    """Be the one process that merges, while the block runs.

    Args:
        bundle: the folder of the bundle.
        progress: called with stage, done and total.
        helps: whether to compute for another process that merges, until it has ended or is gone.

    Yields:
        whether this is the one; else another has merged all.

    Raises:
        BundleError: another process merges, and this one is not to help.
        StaleError: the other runs other code.
        InputError: the disk is full, or may not be written to.
    """
    folder = parts_folder(bundle)
    lock = FileLock(merging_lock(folder))
    with translated_os_errors(folder):
        with suppress(FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
        if helps:
            is_mine = _help(bundle, folder, lock, progress)
        else:
            is_mine = _take(lock, PATIENCE_S)
            if not is_mine:
                raise BundleError(
                    f"Another process merges {bundle.name}; wait for it, or help it with --shard."
                )
    try:
        yield is_mine
    finally:
        lock.release()
        remove_merged(folder)


def _take(lock: FileLock, patience_s: float = 0) -> bool:
    """Whether nobody merged, so that this process does."""
    with suppress(Timeout, FileNotFoundError, FileExistsError):  # the folder may just be going
        lock.acquire(timeout=patience_s)
    return lock.is_locked


def _help(bundle: Path, folder: Path, lock: FileLock, progress: Progress) -> bool:
    """Compute for a merge until it is over or its process is gone; whether this one merges now."""
    bench, has_helped = Bench(folder), False
    while not _take(lock):
        has_helped, has_made = True, False
        try:
            has_made = _make_pieces(bundle, bench, progress)
        except FileNotFoundError:
            if folder.is_dir():
                raise
        if not folder.is_dir():
            return False
        if not has_made:
            time.sleep(INTERVAL_S)
    return not (has_helped and is_merged(folder))


def _make_pieces(path: Path, bench: Bench, progress: Progress) -> bool:
    """Make what is missing of what is ordered now; whether there was anything."""
    has_made = False
    for place in orders_in(bench.folder):
        order = Order.read(place)
        if order is None or order.task not in TASKS or order.is_made(bench.folder):
            continue
        order.refuse_other_code(code_conditions())
        bench.bundle = Bundle.open(path)
        stages = bench.bundle.manifest.stages
        needs = dict(order.about["needs"])
        if any(name not in stages or stages[name].key != key for name, key in needs.items()):
            continue
        for number, _ in work_on(order, bench.folder, maker(bench, order)):
            progress(f"pieces of {order.task}", number + 1, order.n_pieces)
            has_made = True
    return has_made
