"""Images as they were before a bundle made thumbnails of them: found again by name and by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from csp_engine.bundle import Bundle
from csp_engine.files import is_inside

MEDIA = {
    ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp",
    ".gif": "image/gif", ".bmp": "image/bmp", ".avif": "image/avif",
}  # fmt: skip
"""What every browser shows by itself; an SVG, which may hold a script, is none of it."""
MOST_BYTES = 64_000_000


def original(bundle: Bundle, image: int, folders: Iterable[Path]) -> tuple[bytes, str] | None:
    """The file of a probe image, and its media type; None where it is not at hand.

    A bundle knows the names of its images and their hashes, not where they lie. Looked for is the
    file below each folder, and below a folder of the name of the probe set in it. It counts only
    if its bytes are those that the bundle was built from, and if it lies inside of the folders
    once all links are followed.

    Args:
        bundle: it was built from the image.
        image: its number.
        folders: without links in them; nothing outside of them is read.
    """
    row = bundle.images().iloc[image]
    inside = tuple(folders)
    media = MEDIA.get(PurePosixPath(str(row["file"])).suffix.lower())
    if media is None:
        return None
    for path in _places(bundle, str(row["file"]), inside):
        try:
            if not is_inside(path, inside) or not path.is_file():
                continue
            if path.stat().st_size > MOST_BYTES:
                continue
            content = path.read_bytes()
        except (OSError, ValueError):
            continue
        if hashlib.sha256(content).hexdigest() == row["sha256"]:
            return content, media
    return None


def _places(bundle: Bundle, file: str, folders: Iterable[Path]) -> Iterator[Path]:
    name = str(bundle.manifest.inputs["probe"].get("name", ""))
    for folder in folders:
        yield folder / name / file
        yield folder / file
