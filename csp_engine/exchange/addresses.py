"""Bundles at an address such as ``s3://bucket/my.csp``: copied there whole, fetched to be served.

Files lie there as on disk and the manifest is written last, so what has one is whole. Folders of
stages are named by their keys: while a newer bundle is copied there, the older one stays readable.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle
from csp_engine.bundle.manifest import (
    LARGEST_MANIFEST,
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    read_manifest,
    read_whole_manifest,
)
from csp_engine.bundle.writer import translated_os_errors
from csp_engine.errors import BundleError, InputError
from csp_engine.hashing import sha256_file
from csp_engine.probe.remote.kept import BLOCK, LISTING_S, PATIENCE_S
from csp_engine.types import Progress, silent
from csp_engine.waiting import within

CACHE_GB = "CSP_CACHE_GB"
"""Environment variable: how much of the disk fetched bundles may take."""
USUAL_CACHE_GB = 20.0
_PIECE = 1 << 20
_TRIAL = ".may-write"
"""A file that is written to see whether anything may be."""
_OURS = re.compile(r"[^/]+-[0-9a-f]{12}/[^/]+|" + "|".join(map(re.escape, (MANIFEST_NAME, _TRIAL))))
_LOCK = ".in-use"


def copy_to_address(bundle: Bundle, address: str, progress: Progress = silent) -> int:
    """Copy a bundle to an address; it counts there once its manifest is, which comes last.

    A file that is there already with the right content is not sent again, and every file is read
    back and hashed. Files of a bundle that it replaces are deleted at the end.

    Args:
        bundle: an open bundle.
        address: of the bundle itself, ending in ``.csp``.
        progress: told of files.

    Returns:
        how many bytes the bundle has.

    Raises:
        InputError: if the address holds anything else, refuses, or does not keep what is written.
        BundleError: if a file of the bundle is missing or altered.
    """
    _require_name(address)
    wanted = _files(bundle.manifest)
    for place, entry in wanted.items():
        file = bundle.path / place
        if not file.is_file() or sha256_file(file) != entry.sha256:
            raise BundleError(
                f"Bundle {bundle.name} is damaged: {place} is missing or was altered; run 'csp "
                "build' with the same inputs to repair it."
            )
    with _answering(address):
        system, root = _system(address)
        there = _listed(system, root, address)
        progress("files", 0, len(wanted))
        for done, (place, entry) in enumerate(wanted.items(), 1):
            far = posixpath.join(root, place)
            if there.get(place) != entry.bytes or _hash_at(system, far) != entry.sha256:
                _make_folder(system, far)
                near = str(bundle.path / place)
                n_pieces = 1 + entry.bytes // BLOCK
                within(PATIENCE_S * n_pieces, partial(system.put_file, near, far))
                if _hash_at(system, far) != entry.sha256:
                    raise InputError(
                        f"{address!r} does not keep what is written there: {place} came back "
                        "altered; run the same command again, or choose another address."
                    )
            progress("files", done, len(wanted))
        manifest = bundle.manifest.to_json().encode()
        system.pipe_file(posixpath.join(root, MANIFEST_NAME), manifest)
        for name in there.keys() - wanted.keys() - {MANIFEST_NAME, _TRIAL}:
            with suppress(FileNotFoundError):  # it was listed, and is not there
                system.rm_file(posixpath.join(root, name))
    return sum(entry.bytes for entry in wanted.values())


def held_at(address: str) -> tuple[Manifest, str] | None:
    """The manifest of the bundle at an address and the sha256 of its file; None where none is.

    Raises:
        InputError: if there is no answer.
        BundleError: if what is there is no manifest.
    """
    with _answering(address):
        system, root = _system(address)
        text = _manifest_at(system, root, address)
        if text is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, posixpath.basename(root))
            copy.mkdir()
            (copy / MANIFEST_NAME).write_bytes(text)
            return read_whole_manifest(copy)


def require_writable(address: str) -> None:
    """Refuse an address at which a bundle could not be written once it is built.

    A small file is written there, and deleted.

    Raises:
        InputError: if the address is no name of a bundle, holds anything else, or refuses.
    """
    _require_name(address)
    with _answering(address):
        system, root = _system(address)
        _listed(system, root, address)
        trial = posixpath.join(root, _TRIAL)
        _make_folder(system, trial)
        system.pipe_file(trial, b"")
        with suppress(Exception):  # whoever may write may not delete everywhere
            system.rm_file(trial)


def fetched(address: str, folder: Path | None = None, progress: Progress = silent) -> Path:
    """A bundle at an address as one on this disk, every file of which has its hash.

    What is there from before is kept, and what a stopped fetch has kept is not read again. Bundles
    that were used longest ago, and by no server now, make room.

    Args:
        address: of a bundle.
        folder: where fetched bundles lie; by default in the user's cache.
        progress: told of files.

    Raises:
        InputError: if there is no bundle, no answer, or no room.
        BundleError: if what is there is not what its manifest says.
    """
    folder = usual_folder() if folder is None else folder
    name = posixpath.basename(address.rstrip("/"))
    if name in ("", ".", ".."):
        raise InputError(f"{address!r} names no bundle; give its address, ending in NAME.csp.")
    with translated_os_errors(folder), _answering(address):
        system, root = _system(address)
        text = _manifest_at(system, root, address)
        if text is None:
            raise InputError(
                f"There is no whole bundle at {address!r}: it has no {MANIFEST_NAME}; copy one "
                "there with: csp copy my.csp ADDRESS"
            )
        entry = folder / hashlib.sha256(address.encode() + text).hexdigest()[:16]
        path = entry / name
        path.mkdir(parents=True, exist_ok=True)
        # Other processes may be fetching the same bundle.
        with in_use(path), tempfile.TemporaryDirectory(dir=entry) as own:
            copy = Path(own, name)
            copy.mkdir()
            (copy / MANIFEST_NAME).write_bytes(text)
            wanted = _files(read_manifest(copy))
            _make_room(folder, entry, sum(each.bytes for each in wanted.values()), address)
            for done, (place, record) in enumerate(wanted.items(), 1):
                _fetch(system, posixpath.join(root, place), path / place, record, address)
                progress("files", done, len(wanted))
            (copy / MANIFEST_NAME).replace(path / MANIFEST_NAME)
            os.utime(entry)
    return path


@contextmanager
def in_use(path: Path) -> Generator[None]:
    """Keep a fetched bundle from making room for others while the block runs."""
    with (path.parent / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def usual_folder() -> Path:
    """Where fetched bundles are kept: below the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "csp-neuron-browser" / "bundles"


def _files(manifest: Manifest) -> dict[str, FileRecord]:
    """The files of a bundle by where they lie; those that another stage holds are that one's.

    Raises:
        BundleError: if a manifest names a place outside of the bundle.
    """
    found = {
        f"{record.directory}/{file}": entry
        for record in manifest.stages.values()
        if not record.omitted
        for file, entry in record.files.items()
        if entry.kept_in is None
    }
    for place in found:
        if not _OURS.fullmatch(place) or place.endswith(("/.", "/..")):
            raise BundleError(f"The {MANIFEST_NAME} names {place!r:.80}, which no bundle has.")
    return found


def _require_name(address: str) -> None:
    if not address.rstrip("/").endswith(".csp") or address.endswith("/.csp"):
        raise InputError(f"{address!r} is no place for a bundle; let it end in NAME.csp.")


def _system(address: str) -> tuple[Any, str]:
    """The file system of an address as it is now, and the path in it."""
    import fsspec

    system, root = fsspec.core.url_to_fs(address)
    system.invalidate_cache()  # what was listed hours ago, before a build, may be gone
    return system, root.rstrip("/")


@contextmanager
def _answering(address: str) -> Generator[None]:
    """One sentence for what a file system raises; each has its own kinds."""
    try:
        yield
    except (InputError, BundleError):
        raise
    except ImportError as error:
        raise InputError(f"{address!r} needs another package: {error}.") from None
    except Exception as error:
        if isinstance(error, OSError) and error.filename and Path(str(error.filename)).exists():
            raise  # of this disk
        said = " ".join(str(error).split())[:120].rstrip(".")
        raise InputError(
            f"{address!r} does not do what it is asked ({type(error).__name__}: {said}); check the "
            "address and your rights, and run the same command again."
        ) from error


def _listed(system: Any, root: str, address: str) -> dict[str, int]:
    """The files of a bundle there, whole or not, with their sizes; none where nothing is.

    Raises:
        InputError: if there is anything else.
    """
    try:
        found = within(LISTING_S, lambda: system.find(root, detail=True))
    except FileNotFoundError:
        return {}
    there = {path[len(root) :].strip("/"): int(info["size"]) for path, info in found.items()}
    strange = sorted(name for name in there if not _OURS.fullmatch(name))
    if strange:
        raise InputError(
            f"{address!r} holds {strange[0]!r}, which is of no bundle; choose another address."
        )
    return there


def _make_folder(system: Any, path: str) -> None:
    """Make the folder of a file, where a file system has folders: its paths begin with a slash.

    Where the first part is a bucket, making a folder would make a bucket of a mistyped name.
    """
    if path.startswith("/"):
        system.makedirs(posixpath.dirname(path), exist_ok=True)


def _hash_at(system: Any, path: str) -> str:
    """The sha256 of a file there; "" where it is not there, whatever was listed."""
    digest = hashlib.sha256()
    try:
        with within(PATIENCE_S, lambda: system.open(path, "rb")) as source:
            while piece := within(PATIENCE_S, lambda: source.read(_PIECE)):
                digest.update(piece)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def _manifest_at(system: Any, root: str, address: str) -> bytes | None:
    far = posixpath.join(root, MANIFEST_NAME)
    try:
        size = int(within(PATIENCE_S, lambda: system.info(far))["size"])
    except FileNotFoundError:
        return None
    if size > LARGEST_MANIFEST:
        raise BundleError(f"The {MANIFEST_NAME} at {address!r} has {size:,} bytes; it is none.")
    return within(PATIENCE_S, lambda: system.cat_file(far))


def _fetch(system: Any, far: str, near: Path, record: FileRecord, address: str) -> None:
    """One file; whole and right, or not there."""
    if near.is_file() and near.stat().st_size == record.bytes:
        if sha256_file(near) == record.sha256:
            return
        near.unlink()
    near.parent.mkdir(exist_ok=True)
    temporary = near.with_name(f".part-{os.getpid()}-{near.name}")
    digest, n_bytes = hashlib.sha256(), 0
    opened = within(PATIENCE_S, lambda: system.open(far, "rb"))
    with opened as source, temporary.open("wb") as copy:
        while (
            piece := within(PATIENCE_S, lambda: source.read(_PIECE))
        ) and n_bytes <= record.bytes:
            digest.update(piece)
            n_bytes += len(piece)
            copy.write(piece)
    if digest.hexdigest() != record.sha256:
        temporary.unlink()
        raise BundleError(
            f"The bundle at {address!r} is damaged: {near.parent.name}/{near.name} is not what its "
            f"{MANIFEST_NAME} says; copy it there again with: csp copy"
        )
    temporary.replace(near)


def _make_room(folder: Path, entry: Path, needed: int, address: str) -> None:
    """Delete bundles that were used longest ago until there is room for one more.

    Raises:
        InputError: if there would not be any, or the bound is no number.
    """
    named = os.environ.get(CACHE_GB) or str(USUAL_CACHE_GB)
    try:
        room = float(named) * 1e9
    except ValueError:
        room = -1.0
    if not room >= 0:
        raise InputError(f"{CACHE_GB} is {named!r}; give a number of gigabytes, such as 20.")
    sizes = {
        other: sum(each.stat().st_size for each in other.rglob("*") if each.is_file())
        for other in folder.iterdir()
        if other != entry and other.is_dir()
    }
    for other in sorted(sizes, key=lambda each: each.stat().st_mtime):
        if needed + sum(sizes.values()) <= room:
            break
        with suppress(OSError), (other / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other)
            del sizes[other]
    if needed + sum(sizes.values()) > room:
        raise InputError(
            f"The bundle at {address!r} takes {needed / 1e9:,.2f} GB, and fetched bundles may take "
            f"{room / 1e9:,.2f} ({sum(sizes.values()) / 1e9:,.2f} of it in use); set {CACHE_GB} "
            "higher, or copy a slim bundle there."
        )
