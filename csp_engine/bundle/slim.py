"""Copies of a bundle that leave out stages which the pages do not read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from csp_engine.bundle.kinds import INDEX, INDEX_FILE, KINDS, stage_kind
from csp_engine.bundle.manifest import MANIFEST_NAME, StageRecord
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.writer import translated_os_errors
from csp_engine.errors import BundleError, InputError
from csp_engine.files import fsync_path
from csp_engine.hashing import sha256_file

LEFT_OUT = tuple(kind.prefix for kind in KINDS.values() if kind.is_left_out)
"""Kinds of stages that a copy may do without, because no page reads their files."""

LEAST_SHARED = 4096
"""Bytes from which on equal files are kept once; a smaller one takes a block of the disk anyway."""


def copy_slim(bundle: Bundle, target: Path, omit: Sequence[str] = LEFT_OUT) -> Bundle:
    """Copy a bundle without the files of some kinds of stages, and equal files once.

    The manifest keeps the records of those stages, marked ``omitted``: keys still tell what was
    made from what. An exact search index is left out too: it holds the concept vectors once more,
    and is made of them when it is opened. Of files with the same bytes the copy keeps one. It
    appears under its name only when it is whole; every file is hashed.

    Args:
        bundle: what to copy.
        target: the new bundle's folder, which must not exist.
        omit: kinds of stages, such as ``activations``.

    Raises:
        InputError: if the target exists or cannot be written, or no stage is of a kind in ``omit``.
        BundleError: if a file of the bundle is missing or altered.
    """
    stages = bundle.manifest.stages
    kinds = {stage_kind(name) for name in stages}
    unknown = [kind for kind in omit if kind not in kinds]
    if unknown:
        raise InputError(
            f"Bundle {bundle.name} has no stages of kind {unknown[0]!r} to leave out; it has "
            f"{', '.join(sorted(kinds))}."
        )
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} exists already; choose another place for the copy.")
    left = {
        name: _without_exact_index(
            name, replace(record, omitted=record.omitted or stage_kind(name) in omit)
        )
        for name, record in stages.items()
    }
    records = _equal_files_once(left)
    temporary = target.with_name(f".tmp-{target.name}")
    with translated_os_errors(target.parent):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            for name, record in records.items():
                if record.omitted:
                    continue
                own = {f: entry for f, entry in record.files.items() if entry.kept_in is None}
                if not own:
                    continue
                folder = temporary / record.directory
                folder.mkdir()
                for file, entry in own.items():
                    with bundle.opened(name, file) as source, (folder / file).open("xb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
                    if sha256_file(folder / file) != entry.sha256:
                        raise BundleError(
                            f"Bundle {bundle.name} is damaged: {record.directory}/{file} was "
                            "altered; run 'csp build' with the same inputs to repair it."
                        )
                    fsync_path(folder / file)
                fsync_path(folder)
            manifest = replace(bundle.manifest, stages=records)
            (temporary / MANIFEST_NAME).write_text(manifest.to_json(), "utf-8")
            fsync_path(temporary / MANIFEST_NAME)
            fsync_path(temporary)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_path(target.parent)
    return Bundle.open(target)


def _without_exact_index(name: str, record: StageRecord) -> StageRecord:
    if not INDEX.is_of(name) or record.omitted or record.facts.get("kind") != "flat":
        return record
    return replace(record, files={k: v for k, v in record.files.items() if k != INDEX_FILE})


def _equal_files_once(stages: Mapping[str, StageRecord]) -> dict[str, StageRecord]:
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
