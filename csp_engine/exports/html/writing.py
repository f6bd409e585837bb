"""Writing a static export: a folder, or a zip."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from csp_engine.bundle import Bundle
from csp_engine.exports.folders import record_of, with_record, write_in_folder
from csp_engine.exports.html.portrait import N_PAIRS
from csp_engine.exports.html.selection import Selection
from csp_engine.exports.html.site import Site, slug
from csp_engine.types import Progress, silent

KIND = "neuron browser: static export"
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
    files = _files(bundle, selection, progress)
    n_files, n_bytes = write_in_folder(files, out, _record(bundle, selection))
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
        for path, content in with_record(
            _files(bundle, selection, progress), _record(bundle, selection)
        ):
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


def _files(bundle: Bundle, selection: Selection, progress: Progress) -> Iterator[tuple[str, bytes]]:
    return Site(bundle, selection).files(progress)


def _record(bundle: Bundle, selection: Selection) -> dict[str, Any]:
    return record_of(bundle, KIND, selection.n_neurons)
