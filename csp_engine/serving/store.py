"""Bundles by name, from the folders that a server was started with.

Names are all that a URL can give, so no URL can open another path.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csp_engine.bundle import Bundle
from csp_engine.errors import BundleError
from csp_engine.jobs import is_unfinished, job_folder
from csp_engine.printable import encodable
from csp_engine.views.memo import Memo

MANIFEST = "manifest.json"
SETTLED_NS = 3_000_000_000


def is_bundle(folder: Path) -> bool:
    """Whether a place is a bundle itself, and no folder of them."""
    return folder.suffix == ".csp" or (folder / MANIFEST).is_file()


def _version(manifest: Path) -> tuple[object, ...]:
    """What differs once a manifest was replaced, even by one of the same time and size.

    Clocks of file systems tick every few milliseconds, some every two seconds: what was written
    since may look the same, so of a young manifest the content counts.
    """
    stat = manifest.stat()
    seen = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
    is_young = abs(time.time_ns() - stat.st_ctime_ns) < SETTLED_NS
    return (*seen, hashlib.sha256(manifest.read_bytes()).digest()) if is_young else seen


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Where bundles are looked for, and what is kept of those that were opened.

    Args:
        folders: bundles, and folders of them, in the order in which they are shown.
        memo: keeps them open.
        build_folder: where bundles are built from here; None on a server that only shows.
    """

    folders: Sequence[Path]
    memo: Memo
    build_folder: Path | None = None

    def known(self) -> dict[str, Path]:
        """Bundle names and where they lie, in the order of the folders, then by name.

        Bundles that were built from here come along, wherever they went, and unfinished ones last.
        """
        paths: list[Path] = []
        for folder in self.folders:
            paths += [folder] if is_bundle(folder) else sorted(folder.glob("*.csp"))
        if self.build_folder is not None:
            built = sorted(self.build_folder.glob("*.csp"))
            paths += [path for path in built if job_folder(path).is_dir() and path not in paths]
            paths.sort(key=is_unfinished)
        found: dict[str, Path] = {}
        for path in paths:
            stem = encodable(path.resolve().name.removesuffix(".csp"))
            name, count = stem, 1
            while name in found and found[name] != path:
                count += 1
                name = f"{stem}~{count}"
            found[name] = path
        return found

    def open(self, name: str) -> Bundle:
        """A known bundle, opened again when its manifest has changed.

        Raises:
            BundleError: if no bundle has this name, or it cannot be read.
        """
        path = self.known().get(name)
        if path is None:
            raise BundleError(f"There is no bundle “{name[:60]}” on this server.")
        try:
            version = _version(path / MANIFEST)
        except OSError:
            return Bundle.open(path)  # raises the sentence that fits
        return self.memo.once(("bundle", str(path), version), lambda: Bundle.open(path))
