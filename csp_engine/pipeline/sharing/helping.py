"""Who merges, and computing for a merge that another process is at."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock, Timeout

from csp_engine.bundle import (
    Bundle,
    aside,
    is_merged,
    merging_lock,
    orders_in,
    parts_folder,
    remove_merged,
    translated_os_errors,
)
from csp_engine.bundle.checks.inside import open_plain
from csp_engine.errors import BundleError, StaleError
from csp_engine.files import write_whole
from csp_engine.hashing import canonical_json
from csp_engine.networks.conditions import code_conditions
from csp_engine.pipeline.sharing.alike import instructions
from csp_engine.pipeline.sharing.orders import INTERVAL_S, LARGEST, Order, work_on
from csp_engine.pipeline.sharing.tasks import TASKS, Bench, maker
from csp_engine.types import Progress, silent

PATIENCE_S = 2.0
"""How long a process that is to merge waits for another that is about to end."""


@contextmanager
def merging_alone(
    bundle: Path,
    progress: Progress = silent,
    *,
    helps: bool,
    asked: Mapping[str, str] = MappingProxyType({}),
) -> Generator[bool]:
    """Be the one process that merges, while the block runs.

    Args:
        bundle: the folder of the bundle.
        progress: called with stage, done and total.
        helps: whether to compute for another process that merges, until it has ended or is gone.
        asked: what decides what the merge makes, by the names of the options.

    Yields:
        whether this is the one; else another has merged all.

    Raises:
        BundleError: another process merges, and this one is not to help.
        StaleError: the other runs other code, or merges with other options.
        InputError: the disk is full, or may not be written to.
    """
    folder = parts_folder(bundle)
    lock = FileLock(merging_lock(folder))
    with translated_os_errors(folder):
        with suppress(FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
        if helps:
            is_mine = _help(bundle, folder, lock, progress, asked)
        else:
            is_mine = _take(lock, PATIENCE_S)
            if not is_mine:
                raise BundleError(
                    f"Another process merges {bundle.name}; wait for it, or help it with --shard."
                )
        if is_mine:
            with suppress(FileNotFoundError):  # the folder may just be going: all is merged
                write_whole(_asked_in(folder), canonical_json(dict(asked)))
    try:
        yield is_mine
    finally:
        if is_mine:
            _asked_in(folder).unlink(missing_ok=True)
        lock.release()
        remove_merged(folder)


def _take(lock: FileLock, patience_s: float = 0) -> bool:
    """Whether nobody merged, so that this process does."""
    with suppress(Timeout, FileNotFoundError, FileExistsError):  # the folder may just be going
        lock.acquire(timeout=patience_s)
    return lock.is_locked


def _asked_in(folder: Path) -> Path:
    """What the one that merges was asked for."""
    return aside(folder, "asked", "0" * 12)


def _refuse_other_options(folder: Path, asked: Mapping[str, str]) -> None:
    try:
        with open_plain(_asked_in(folder)) as handle:
            theirs = dict(json.loads(handle.read(LARGEST)))
    except (OSError, ValueError, TypeError, RecursionError):
        return  # it has not said yet
    for name, value in theirs.items():
        if asked.get(name, "") != value:
            raise StaleError(
                f"The merge was started with {name} {value!s:.80} and this process with "
                f"{asked.get(name) or 'none'!s:.80}; start all of them with the same command."
            )


def _help(
    bundle: Path, folder: Path, lock: FileLock, progress: Progress, asked: Mapping[str, str]
) -> bool:
    """Compute for a merge until it is over or its process is gone; whether this one merges now."""
    bench, has_helped = Bench(folder), False
    while not _take(lock):
        _refuse_other_options(folder, asked)
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
        if order.about.get("instructions", instructions()) != instructions():
            continue  # the last digits would be others
        bench.bundle = Bundle.open(path)
        stages = bench.bundle.manifest.stages
        needs = dict(order.about["needs"])
        if any(name not in stages or stages[name].key != key for name, key in needs.items()):
            continue
        for number, _ in work_on(order, bench.folder, maker(bench, order)):
            progress(f"pieces of {order.task}", number + 1, order.n_pieces)
            has_made = True
    return has_made
