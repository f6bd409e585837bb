"""Writing a static export: a folder that appears when it is whole, or a zip."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle
from csp_engine.bundle.writer import translated_os_errors
from csp_engine.errors import InputError
from csp_engine.exports.html.portrait import N_PAIRS
from csp_engine.exports.html.selection import Selection
from csp_engine.exports.html.site import Site, slug
from csp_engine.types import Progress, silent

RECORD = "export.json"
KIND = "neuron browser: static export"
FORMAT = 1
PAGE_BYTES = 42_000
"""About what the page of one neuron takes, and its row in a table."""


@dataclass(frozen=True, slots=True)
class Written:
    """What an export came to."""

    n_neurons: int
    n_files: int
    n_bytes: int


def estimated_bytes(bundle: Bundle, n_neurons: int) -> int:
    """About how large an export of so many neurons will be, without looking at them."""
    offset_n = bundle.array("images", "thumb_offset")
    thumbs = int(offset_n[-1])
    used = n_neurons * 2 * N_PAIRS / max(1, bundle.n_images)
    return PAGE_BYTES * n_neurons + int(thumbs * min(1.0, used))


def write_folder(
    bundle: Bundle, selection: Selection, out: Path, progress: Progress = silent
) -> Written:
    """Write the pages to a folder, which appears under its name only when it is whole.

    An earlier export in its place is replaced; anything else there is left alone.

    Args:
        bundle: an open bundle.
        selection: what to show.
        out: the folder; it may be missing, empty or an export.
        progress: told of pages and images.

    Raises:
        InputError: if ``out`` holds anything else or cannot be written.
        BundleError: if a file of the bundle is missing or damaged.
    """
    _require_replaceable(out)
    out = out.resolve()
    temporary, old = (out.with_name(f".{word}-{out.name}") for word in ("tmp", "old"))
    with translated_os_errors(out.parent):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            n_files = n_bytes = 0
            for path, content in _with_record(bundle, selection, progress):
                file = temporary / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                n_files, n_bytes = n_files + 1, n_bytes + len(content)
            _require_replaceable(out)  # somebody may have put a file there meanwhile
            if out.exists():
                shutil.rmtree(old, ignore_errors=True)
                out.rename(old)
            temporary.rename(out)
            shutil.rmtree(old, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return Written(selection.n_neurons, n_files, n_bytes)


def write_zip(
    bundle: Bundle, selection: Selection, out: BufferedIOBase, progress: Progress = silent
) -> Written:
    """Write the same files as a zip with one folder in it; the bytes are the same every time.

    Raises:
        BundleError: if a file of the bundle is missing or damaged.
    """
    n_files = n_bytes = 0
    folder = zip_name(bundle).removesuffix(".zip")
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in _with_record(bundle, selection, progress):
            entry = zipfile.ZipInfo(f"{folder}/{path}", (1980, 1, 1, 0, 0, 0))
            is_packed = path.endswith(".webp")
            entry.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
            n_files, n_bytes = n_files + 1, n_bytes + len(content)
    return Written(selection.n_neurons, n_files, n_bytes)


def zip_name(bundle: Bundle) -> str:
    """What to call the zip of an export."""
    return f"{slug(bundle.name)}-pages.zip"


def _with_record(
    bundle: Bundle, selection: Selection, progress: Progress
) -> Iterator[tuple[str, bytes]]:
    """The files of an export, then the list of them."""
    held: dict[str, dict[str, Any]] = {}
    for path, content in Site(bundle, selection).files(progress):
        held[path] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        yield path, content
    record = {
        "kind": KIND,
        "format": FORMAT,
        "bundle": {"name": bundle.name, "sha256": bundle.digest},
        "n_neurons": selection.n_neurons,
        "files": dict(sorted(held.items())),
    }
    yield RECORD, (json.dumps(record, indent=1) + "\n").encode()


def _require_replaceable(out: Path) -> None:
    """Refuse a place that holds anything an export did not write.

    Raises:
        InputError: in one sentence.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise InputError(f"{out} is not a folder; choose another place for the pages.")
    found = {p.relative_to(out).as_posix() for p in out.rglob("*") if not p.is_dir()}
    if not found:
        return
    try:
        record = json.loads((out / RECORD).read_text("utf-8"))
        known = {RECORD, *record["files"]} if record["kind"] == KIND else set()
    except (OSError, ValueError, KeyError, TypeError):
        known = set()
    strange = sorted(found - known)
    if strange:
        raise InputError(
            f"{out} holds {strange[0]}, which no export wrote; choose an empty or a new folder."
        )
