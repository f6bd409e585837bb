"""Writing a published site: part by part beside its place, put there when all of it is right."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock, Timeout

from csp_engine.bundle import Bundle
from csp_engine.bundle.writer import ENGINE_VERSION, translated_os_errors
from csp_engine.errors import BundleError, BusyError, InputError
from csp_engine.exports.folders import (
    KINDS,
    RECORD,
    put_in_place,
    record_of,
    require_replaceable,
)
from csp_engine.exports.html.selection import Selection
from csp_engine.exports.html.tables import Carriers, named_labels
from csp_engine.exports.publishing.finding import shards_of
from csp_engine.exports.publishing.parts import (
    Part,
    PublishedSite,
    Told,
    as_record,
    from_record,
    joined,
)
from csp_engine.files import write_whole
from csp_engine.hashing import canonical_json, sha256_file, sha256_json
from csp_engine.types import Progress, silent

KIND = f"{KINDS}published site"
HEADER = "publishing.json"
"""In the folder of a site that is being written: of what, and by what code."""
OF_CODE = ("exports", "views")
"""Rooms whose code and templates decide what the pages say."""
MOST_ROUNDS = 3
CHANGED = "The bundle changed while it was being published; run it again."

Held = dict[str, dict[str, Any]]
"""By path: ``bytes`` and ``sha256`` of each file."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a site came to; of its parts, this run wrote ``n_written``."""

    n_neurons: int
    n_files: int
    n_bytes: int
    n_parts: int
    n_written: int


def publish(
    bundle: Bundle,
    selection: Selection,
    out: Path,
    *,
    n_workers: int = 1,
    progress: Progress = silent,
) -> Published:
    """Write a static site, which appears under its name only when it is whole.

    Until then it lies beside that place as ``.part-NAME``. A run that is stopped keeps the parts
    that it wrote, and the same call goes on from there. The bytes are the same for any number of
    workers.

    Args:
        bundle: an open bundle.
        selection: what to show.
        out: the folder; it may be missing, empty or an export, which is replaced.
        n_workers: processes that write parts; with 1, this one does.
        progress: told of neurons whose pages are written.

    Raises:
        InputError: if ``out`` holds anything else or cannot be written, or a worker was killed.
        BusyError: if another process publishes there.
        BundleError: if a file of the bundle is missing or damaged.
    """
    require_replaceable(out)
    out = out.resolve()
    digest = Bundle.open(bundle.path).digest  # what lies there may be newer than what was opened
    with translated_os_errors(out.parent), _begun(out, _header(bundle, selection)) as begun:
        site = PublishedSite(bundle, selection)
        parts = site.parts()
        records = _records(begun, parts)
        n_written = 0
        for _ in range(MOST_ROUNDS):
            lacking = [part for part in parts if part.name not in records]
            if lacking:
                n_written += len(lacking)
                _write_parts(site, lacking, begun, n_workers, _count(parts, lacking, progress))
            records = _records(begun, parts)
            held: Held = {}
            for record in records.values():
                held |= record["files"]
            unsound = _unsound(begun / "site", held)
            for name in [n for n, r in records.items() if unsound & r["files"].keys()]:
                del records[name]
                (begun / "parts" / f"{name}.json").unlink()
            if len(records) == len(parts):
                break
        else:
            raise InputError(f"{begun} does not keep what is written there; choose another place.")
        held |= _finish(site, parts, records, begun / "site", held)
        _leave_only(begun / "site", held)
        record = {
            **record_of(bundle, KIND, selection.n_neurons),
            "files": dict(sorted(held.items())),
        }
        text = json.dumps(record, indent=1) + "\n"
        (begun / "site" / RECORD).write_text(text, "utf-8")
        require_replaceable(out)  # somebody may have put a file there meanwhile
        _require_same(bundle, digest)
        put_in_place(begun / "site", out)
    n_bytes = sum(each["bytes"] for each in held.values()) + len(text)
    return Published(selection.n_neurons, len(held) + 1, n_bytes, len(parts), n_written)


def _header(bundle: Bundle, selection: Selection) -> dict[str, Any]:
    """What has to be the same for parts to belong together."""
    chosen = [
        [each.title, list(map(str, each.neurons)), list(each.match)] for each in selection.lists
    ]
    return {
        "kind": KIND,
        "bundle": {"name": bundle.name, "sha256": bundle.digest},
        "selection": sha256_json([selection.about, chosen]),
        "engine": ENGINE_VERSION,
        "code": _code(),
    }


def _code() -> str:
    root = Path(__file__).resolve().parents[2]
    files = sorted(
        path
        for room in OF_CODE
        for path in (root / room).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    return sha256_json([[p.relative_to(root).as_posix(), sha256_file(p)] for p in files])


@contextmanager
def _begun(out: Path, header: dict[str, Any]) -> Generator[Path]:
    """The folder in which a site is written, for this process alone; it goes once that is whole.

    Raises:
        BusyError: if another process writes there.
        InputError: if something else has its name.
    """
    begun = out.with_name(f".part-{out.name}")
    is_folder = begun.is_dir() and not begun.is_symlink()
    if (begun.exists() or begun.is_symlink()) and not (is_folder and _is_ours(begun)):
        raise InputError(
            f"{begun} is in the way and 'csp publish' did not write it; move it elsewhere, or "
            "choose another name for the site."
        )
    begun.mkdir(parents=True, exist_ok=True)
    lock = FileLock(begun / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BusyError(
            f"Another process is publishing to {out}; wait for it, or choose another folder."
        ) from None
    with lock:
        if _read(begun / HEADER) != header:  # another bundle, other neurons or other code
            for name in ("parts", "site"):
                shutil.rmtree(begun / name, ignore_errors=True)
            write_whole(begun / HEADER, canonical_json(header))
        for name in ("parts", "site"):
            (begun / name).mkdir(exist_ok=True)
        yield begun
    shutil.rmtree(begun, ignore_errors=True)


def _is_ours(begun: Path) -> bool:
    """Whether 'csp publish' wrote all of it: no links, which would lead out of it."""
    names = {path.name for path in begun.iterdir()}
    ours = {".lock", HEADER, f".tmp-{HEADER}", "parts", "site"}
    is_named = names <= ours and (not names - {".lock", f".tmp-{HEADER}"} or HEADER in names)
    return is_named and not any(path.is_symlink() for path in begun.rglob("*"))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _records(begun: Path, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """What is said of the parts that are written."""
    found = {part.name: _read(begun / "parts" / f"{part.name}.json") for part in parts}
    return {name: record for name, record in found.items() if record is not None}


def _unsound(site: Path, held: Held) -> set[str]:
    """The files that are not what was written: a machine that stops may lose the last of it."""
    unsound = set()
    for path, entry in held.items():
        file = site / path
        is_sound = (
            file.is_file()
            and file.stat().st_size == entry["bytes"]
            and sha256_file(file) == entry["sha256"]
        )
        if not is_sound:
            unsound.add(path)
    return unsound


def _finish(
    site: PublishedSite,
    parts: Sequence[Part],
    records: dict[str, dict[str, Any]],
    folder: Path,
    written: Held,
) -> Held:
    """Write what is about all parts: lists of labels, the index, circuits, and the first page."""
    carriers: Carriers = defaultdict(dict)
    summaries = defaultdict(list)
    for part in parts:
        if part.number is None:
            continue
        neurons = site.selection.lists[part.number].neurons
        told = from_record(records[part.name]["told"], neurons)
        summaries[part.number].append(told.summary)
        for text, held in told.labels.items():
            carriers[text].update({neurons[at]: is_reliable for at, is_reliable in held})
    labels = named_labels(carriers)
    made: Held = {}

    def keep(files: Iterator[tuple[str, bytes]]) -> None:
        for path, content in files:
            made[path] = _write(folder, path, content)

    keep(site.fixed_files())
    keep(site.label_lists(labels))
    keep(shards_of(labels, carriers, site.paths))
    if site.circuits:
        keep(iter([site.circuit_list()]))
    sizes = [entry["bytes"] for entry in (written | made).values()]
    n_images = sum(path.startswith("images/") for path in written)
    in_order = [joined(summaries[number]) for number in sorted(summaries)]
    keep(iter([("index.html", site.overview(in_order, n_images, len(sizes), sum(sizes)))]))
    return made


def _leave_only(site: Path, held: Held) -> None:
    """Delete what stopped runs left behind."""
    for path in site.rglob("*"):
        if not path.is_dir() and path.relative_to(site).as_posix() not in held:
            path.unlink()


def _write(site: Path, path: str, content: bytes) -> dict[str, Any]:
    """Write a file, and say what it holds."""
    file = site / path
    file.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256(content).hexdigest()
    if path.startswith("images/"):  # other parts may be writing the same thumbnail
        if not file.exists():
            temporary = file.with_name(f".{file.name}-{os.getpid()}")
            temporary.write_bytes(content)
            temporary.replace(file)
    else:
        file.write_bytes(content)
    return {"bytes": len(content), "sha256": sha256}


def _write_part(site: PublishedSite, part: Part, begun: Path) -> None:
    """Write the files of a part, then what is said of it: that is when it counts."""
    held: Held = {}
    told = Told(None, {})
    for each in site.files_of(part):
        if isinstance(each, Told):
            told = each
        else:
            held[each[0]] = _write(begun / "site", *each)
    neurons = () if part.number is None else site.selection.lists[part.number].neurons
    record = {"files": held, "told": as_record(told, neurons)}
    write_whole(begun / "parts" / f"{part.name}.json", json.dumps(record))


def _count(
    parts: Sequence[Part], lacking: Sequence[Part], progress: Progress
) -> Callable[[Part], None]:
    """A function to be told of each part that is written, which tells of all neurons."""
    total = sum(part.last - part.first for part in parts)
    done = total - sum(part.last - part.first for part in lacking)
    progress("pages", done, total)

    def count(part: Part) -> None:
        nonlocal done
        done += part.last - part.first
        progress("pages", done, total)

    return count


def _write_parts(
    site: PublishedSite,
    lacking: Sequence[Part],
    begun: Path,
    n_workers: int,
    count: Callable[[Part], None],
) -> None:
    """Write parts here, or by processes of their own."""
    if n_workers == 1 or len(lacking) == 1:
        for part in lacking:
            _write_part(site, part, begun)
            count(part)
        return
    context = multiprocessing.get_context("spawn")
    given = (site.bundle.path, site.bundle.digest, site.selection, begun)
    pool = ProcessPoolExecutor(
        min(n_workers, len(lacking)), context, initializer=_start, initargs=given
    )
    try:
        with _main_left_alone():  # submitting starts the processes
            waiting: set[Future[Part]] = {pool.submit(_work, part) for part in lacking}
        while waiting:
            done, waiting = wait(waiting, return_when="FIRST_COMPLETED")
            for each in done:
                count(each.result())
    except BrokenProcessPool:
        raise InputError(
            "A process that writes pages was killed, perhaps for want of memory; run the same "
            "command again with fewer --workers, it resumes where it stopped."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _main_left_alone() -> Generator[None]:
    """Let processes that start now not run the caller's script again; they need nothing of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


_worker: list[tuple[PublishedSite, Path]] = []


def _start(bundle: Path, digest: str, selection: Selection, begun: Path) -> None:
    """Make a worker ready; it ends with the process that started it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        wait_for([parent.sentinel])
        os._exit(1)  # what it has written counts part by part

    threading.Thread(target=end_with_parent, daemon=True).start()
    with suppress(IndexError):
        _worker.pop()
    with suppress(BundleError):  # gone by now, or half of another
        opened = Bundle.open(bundle)
        if opened.digest == digest:
            _worker.append((PublishedSite(opened, selection), begun))


def _require_same(bundle: Bundle, digest: str) -> None:
    """Refuse a site whose bundle another has replaced while the pages were written."""
    if Bundle.open(bundle.path).digest != digest:
        raise BundleError(CHANGED)


def _work(part: Part) -> Part:
    if not _worker:
        raise BundleError(CHANGED)
    site, begun = _worker[0]
    _write_part(site, part, begun)
    return part
