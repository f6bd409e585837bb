"""Equal files of a bundle, kept once: how slim copies come to them, and how writers part them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from csp_engine.bundle.checks.inside import open_plain
from csp_engine.bundle.manifest import Manifest, StageRecord
from csp_engine.files import fsync_path

LEAST_SHARED = 4096
"""Bytes from which on equal files are kept once; a smaller one takes a block of the disk anyway."""


def equal_files_once(stages: Mapping[str, StageRecord]) -> dict[str, StageRecord]:
    """Records in which the first stage by name, of those with equal files, keeps them for all."""
    holder: dict[str, tuple[str, str]] = {}
    found = {}
    for name, record in sorted(stages.items()):
        files = {}
        for file, entry in sorted(record.files.items()):
            kept_in = None
            if not record.omitted and entry.bytes >= LEAST_SHARED:
                first = holder.setdefault(entry.sha256, (name, file))
                kept_in = None if first == (name, file) else first[0]
            files[file] = replace(entry, kept_in=kept_in)
        found[name] = replace(record, files=files)
    return found


def with_own_files(path: Path, manifest: Manifest) -> Manifest:
    """The manifest of a bundle whose stages all have their files in their own folders.

    Files that other stages keep are copied. Where that cannot be, the stage is damaged, and lacks
    the file afterwards.

    Args:
        path: the bundle, in which no other process writes.
        manifest: as it is now.

    Raises:
        OSError: if a copy cannot be written.
    """
    stages = {}
    for name, record in manifest.stages.items():
        shared = [file for file, entry in record.files.items() if entry.kept_in is not None]
        for file in shared:
            _copy(path.joinpath(*manifest.place(name, file)), path / record.directory / file)
        own = {file: replace(record.files[file], kept_in=None) for file in shared}
        stages[name] = replace(record, files={**record.files, **own})
    return replace(manifest, stages=stages)


def _copy(source: Path, target: Path) -> None:
    folder = target.parent
    try:
        held = open_plain(source.parent, source.name)
    except OSError:
        return
    with held:
        if folder.is_symlink():
            return
        folder.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)  # left by a writer that was killed, or by somebody
        with target.open("xb") as copy:
            shutil.copyfileobj(held, copy, 1 << 20)
        fsync_path(target)
        fsync_path(folder)
