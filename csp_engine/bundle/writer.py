"""Writing bundles: stages appear whole or not at all."""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from csp_engine.bundle.checks.inside import open_plain
from csp_engine.bundle.manifest import (
    MANIFEST_NAME,
    SCHEMA,
    UNFINISHED,
    FileRecord,
    Manifest,
    StageRecord,
    read_manifest,
    stage_directory,
    stage_key,
)
from csp_engine.errors import BundleError, InputError
from csp_engine.files import fsync_all, fsync_path
from csp_engine.hashing import canonical_json, sha256_file

ENGINE_VERSION = "0.1.0"

TOGETHER_S = 1.0
"""Seconds of work that a killed process loses at most where stages are committed together."""


class StageFolder:
    """Where the files of one stage are written before they count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = {}

    def array(self, name: str, values: np.ndarray) -> None:
        """Write ``name.npy``, C-ordered."""
        np.save(self.path / f"{name}.npy", np.ascontiguousarray(values), allow_pickle=False)

    def table(self, name: str, rows: pd.DataFrame, *, is_coded: bool = True) -> None:
        """Write ``name.parquet`` without an index.

        Without ``is_coded`` numbers are written as they are, not by a list of those that there
        are: where hardly two are equal, that takes a third less.
        """
        text = [str(each) for each in rows if isinstance(rows[each].dtype, pd.StringDtype)]
        rows.to_parquet(
            self.path / f"{name}.parquet",
            index=False,
            compression="zstd",
            use_dictionary=True if is_coded else text,
        )

    def raw_array(self, name: str, shape: tuple[int, ...], source: Path) -> None:
        """Write ``name.npy`` (float32) from a file of bare C-ordered values."""
        target = self.path / f"{name}.npy"
        with target.open("wb") as out, source.open("rb") as content:
            npy_header(out, shape)
            shutil.copyfileobj(content, out, 1 << 24)

    def transposed_array(
        self, name: str, shape: tuple[int, int], source: Path, block_bytes: int = 1 << 27
    ) -> None:
        """Write ``name.npy`` (float32, shape) from a file of bare values of the transposed shape.

        Reads whole source rows and writes the piece of every target row, so memory stays at two
        blocks however large the array.
        """
        n_rows, n_columns = shape
        per_block = max(1, block_bytes // (4 * max(1, n_rows)))
        with (self.path / f"{name}.npy").open("wb") as out, source.open("rb") as content:
            npy_header(out, shape)
            start = out.tell()
            out.truncate(start + 4 * n_rows * n_columns)
            out.flush()
            for first in range(0, n_columns, per_block):
                n_block = min(per_block, n_columns - first)
                block = np.fromfile(content, np.float32, n_block * n_rows).reshape(n_block, n_rows)
                turned = np.ascontiguousarray(block.T)
                for row in range(n_rows):
                    position = start + 4 * (row * n_columns + first)
                    os.pwrite(out.fileno(), turned[row].data, position)


def npy_header(out: Any, shape: tuple[int, ...], descr: str = "<f4") -> None:
    """Begin a ``.npy`` file of C-ordered values."""
    np.lib.format.write_array_header_1_0(
        out, {"descr": descr, "fortran_order": False, "shape": shape}
    )


class BundleWriter:
    """One process writing one bundle.

    Raises:
        BundleError: if another process is writing it, or its manifest is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with translated_os_errors(path):
            refuse_strangers(path)
            path.mkdir(parents=True, exist_ok=True)
        self._whole: set[str] = set()
        self._uncommitted: list[Path] = []  # folders of stages, in the manifest but not on the disk
        self._is_together, self._committed_s = False, time.monotonic()
        self._lock = FileLock(path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise BundleError(
                f"Another process is building {path.name}; wait for it, or choose another output."
            ) from None
        try:
            now = _now()
            self.manifest = (
                read_manifest(path)
                if (path / MANIFEST_NAME).exists()
                else Manifest(SCHEMA, ENGINE_VERSION, now, now, {}, {}, {})
            )
            self._on_disk = self.manifest
            self._sweep()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up the lock."""
        self._lock.release()

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pass_folder(self) -> Path:
        """Where an unfinished pass over the images keeps its rows."""
        return self.path / ".pass"

    def begin(self) -> None:
        """Mark the bundle as unfinished, before it is changed, until ``end``.

        Each stage is committed whole, so a bundle that lacks some looks like one of a smaller
        build.
        """
        with translated_os_errors(self.path):
            (self.path / UNFINISHED).touch()

    def end(self) -> None:
        """All that was asked for is in the bundle."""
        (self.path / UNFINISHED).unlink(missing_ok=True)

    @contextlib.contextmanager
    def together(self) -> Generator[None]:
        """Within the block, stages that take less than ``TOGETHER_S`` are committed with others.

        To force each to disk takes longer than to make a small one. ``manifest`` has them at once,
        the file only from their commit on: nobody else may wait for one of them. However the block
        ends, all that was made is committed, unless the process is killed.
        """
        self._is_together = True
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError, InputError):  # what went wrong first is told
                self._commit_all()
            raise
        else:
            self._commit_all()
        finally:
            self._is_together = False

    def _commit_all(self) -> None:
        if self._uncommitted:
            self._commit(self.manifest)

    def is_fresh(self, name: str, key: str) -> bool:
        """Whether the stage is committed with this key and its files are what they were.

        Each file is hashed, once by each writer: what ``verify`` calls altered is made again.
        """
        record = self.manifest.stages.get(name)
        if record is None or record.key != key or record.omitted:
            return False
        if key not in self._whole and self._is_whole(name):
            self._whole.add(key)
        return key in self._whole

    def _is_whole(self, name: str) -> bool:
        for file, entry in self.manifest.stages[name].files.items():
            directory, held = self.manifest.place(name, file)
            try:
                with open_plain(self.path / directory, held) as handle:
                    if os.fstat(handle.fileno()).st_size != entry.bytes:
                        return False
                    if hashlib.file_digest(handle, hashlib.sha256).hexdigest() != entry.sha256:
                        return False
            except OSError:
                return False
        return True

    @contextlib.contextmanager
    def stage(
        self,
        name: str,
        *,
        version: int,
        params: Mapping[str, Any],
        needs: Mapping[str, str],
        inputs: Mapping[str, str],
        describe: Mapping[str, Any] | None = None,
    ) -> Generator[StageFolder]:
        """Write one stage; it is committed when the block ends without an exception.

        Args:
            name: ``kind`` or ``kind:instance``.
            version: of the algorithm; raise it when results change.
            params: every parameter that changes the result.
            needs: names and keys of the stages it was computed from.
            inputs: names and content hashes of outside inputs.
            describe: entries of the manifest's ``inputs`` to set in the same commit.

        Stages that were made from an older version of this one leave the manifest in the same
        commit, so that a bundle never shows results that do not belong together.
        """
        self._share_nothing()
        key = stage_key(name, version, params, needs, inputs)
        directory = stage_directory(name, key)
        temporary = self.path / f".tmp-{directory}"
        shutil.rmtree(temporary, ignore_errors=True)
        started = time.monotonic()
        with translated_os_errors(self.path):
            temporary.mkdir()
            folder = StageFolder(temporary)
            try:
                yield folder
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            files = {p.name: _record(p) for p in sorted(temporary.iterdir())}
            final = self.path / directory
            shutil.rmtree(final, ignore_errors=True)
            temporary.rename(final)
            record = StageRecord(
                key=key,
                version=version,
                params=dict(params),
                needs=dict(needs),
                inputs=dict(inputs),
                directory=directory,
                files=files,
                seconds=round(time.monotonic() - started, 3),
                facts=folder.facts,
            )
            self._whole.add(key)
            self._uncommitted.append(final)
            self.manifest = replace(
                self.manifest,
                stages=_consistent({**self.manifest.stages, name: record}),
                inputs={**self.manifest.inputs, **(describe or {})},
            )
            if not self._is_together or time.monotonic() >= self._committed_s + TOGETHER_S:
                self._commit_all()

    def describe(self, *, recipe: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        """Set the recipe and merge entries into the inputs of the manifest, if they differ.

        An entry that is None leaves the manifest.
        """
        held = canonical_json([self.manifest.recipe, self.manifest.inputs])
        merged = {**self.manifest.inputs, **inputs}
        inputs = {name: value for name, value in merged.items() if value is not None}
        if canonical_json([recipe, inputs]) != held:
            self._commit(replace(self.manifest, recipe=dict(recipe), inputs=inputs))

    def drop(self, names: list[str]) -> None:
        """Forget stages and all that was made from them, then delete their files."""
        kept = {n: r for n, r in self.manifest.stages.items() if n not in set(names)}
        if len(kept) != len(self.manifest.stages):
            self._share_nothing()
            kept = {name: self.manifest.stages[name] for name in kept}
            self._commit(replace(self.manifest, stages=_consistent(kept)))

    def _commit(self, manifest: Manifest) -> None:
        manifest = replace(manifest, updated=_now(), engine_version=ENGINE_VERSION)
        folders = [folder for folder in self._uncommitted if folder.is_dir()]
        # Should the disk refuse, only what is there counts: asked again, it may claim to have all.
        self._uncommitted, self.manifest = [], self._on_disk
        with translated_os_errors(self.path):
            fsync_all([*(file for folder in folders for file in folder.iterdir()), *folders])
            fsync_path(self.path)
            temporary = self.path / f".tmp-{MANIFEST_NAME}"
            temporary.unlink(missing_ok=True)  # it may be a link that somebody left
            with temporary.open("x", encoding="utf-8") as handle:
                handle.write(manifest.to_json())
            fsync_path(temporary)
            temporary.replace(self.path / MANIFEST_NAME)
            fsync_path(self.path)
        self.manifest = self._on_disk = manifest
        self._committed_s = time.monotonic()
        self._sweep()

    def _share_nothing(self) -> None:
        """Give every stage all its files in its own folder, so that others may be replaced."""
        files = (file for each in self.manifest.stages.values() for file in each.files.values())
        if any(file.kept_in is not None for file in files):
            with translated_os_errors(self.path):
                manifest = _with_own_files(self.path, self.manifest)
            self._commit(manifest)

    def _sweep(self) -> None:
        """Delete what no manifest entry points to: half-written and replaced stages."""
        kept = {record.directory for record in self.manifest.stages.values()}
        for path in self.path.iterdir():
            if path.name in kept or path.name in (MANIFEST_NAME, ".lock", ".pass"):
                continue
            if path.is_dir() and _is_ours(path):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name == f".tmp-{MANIFEST_NAME}":
                path.unlink(missing_ok=True)


def refuse_strangers(path: Path) -> None:
    """Refuse an output that exists and is no bundle.

    Raises:
        InputError: as said.
    """
    if path.name == ".csp":
        raise InputError(f"{path} has no name before the dot; write it as NAME.csp.")
    if not path.name.isprintable():
        raise InputError(
            f"{path.name!r:.80} has characters in it that cannot be written; write it as NAME.csp."
        )
    if not path.exists():
        around = next((p for p in path.absolute().parents if (p / MANIFEST_NAME).exists()), None)
        if around is not None:
            raise InputError(f"{path} would lie in the bundle {around}; choose another place.")
    if not path.exists() or (path / MANIFEST_NAME).exists():
        return
    if not path.is_dir():
        raise InputError(
            f"Cannot write to {path}, which is not a folder; choose another output folder."
        )
    strangers = [p.name for p in path.iterdir() if p.name[0] != "." and not _is_ours(p)]
    if strangers:
        raise InputError(
            f"{path} is not a bundle and not empty (it holds {strangers[0]}); "
            "choose another output folder."
        )


def is_being_written(path: Path) -> bool:
    """Whether a process holds this bundle at the moment, to write it."""
    lock = path / ".lock"
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True


def _consistent(stages: dict[str, StageRecord]) -> dict[str, StageRecord]:
    """The stages whose needs are all present with the keys they were made from."""
    while True:
        keys = {name: record.key for name, record in stages.items()}
        kept = {
            name: record
            for name, record in stages.items()
            if all(keys.get(need) == key for need, key in record.needs.items())
        }
        if len(kept) == len(stages):
            return kept
        stages = kept


def _is_ours(path: Path) -> bool:
    stem, dash, key = path.name.rpartition("-")
    return bool(stem and dash) and len(key) == 12 and all(c in "0123456789abcdef" for c in key)


@contextlib.contextmanager
def translated_os_errors(path: Path) -> Generator[None]:
    """Turn a full disk or a refused write into one sentence that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"The disk that holds {path} is full; free some space and run the same command "
                "again, it resumes where it stopped."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise InputError(
                f"Cannot write to {path} ({error.strerror}); choose another output folder."
            ) from error
        raise


def _record(path: Path) -> FileRecord:
    dtype = shape = None
    if path.suffix == ".npy":
        values = np.load(path, mmap_mode="r", allow_pickle=False)
        dtype, shape = str(values.dtype), tuple(values.shape)
    return FileRecord(sha256_file(path), path.stat().st_size, dtype, shape)


def _with_own_files(path: Path, manifest: Manifest) -> Manifest:
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
            _copy_inside(path.joinpath(*manifest.place(name, file)), path / record.directory / file)
        own = {file: replace(record.files[file], kept_in=None) for file in shared}
        stages[name] = replace(record, files={**record.files, **own})
    return replace(manifest, stages=stages)


def _copy_inside(source: Path, target: Path) -> None:
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


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
