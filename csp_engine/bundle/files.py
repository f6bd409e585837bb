"""The files of a bundle: which stages there are, and their arrays and tables, by name."""

from __future__ import annotations

import hashlib
import io
import math
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from csp_engine.bundle.checks.arrays import fault_of_array
from csp_engine.bundle.checks.inside import NotInside, Stamp, open_plain
from csp_engine.bundle.checks.later import found_altered, hash_later, is_known, remember
from csp_engine.bundle.checks.tables import fault_of_table
from csp_engine.bundle.kinds import stage_kind
from csp_engine.bundle.manifest import MANIFEST_NAME, FileRecord, Manifest, StageRecord
from csp_engine.errors import BundleError, LeftOutError
from csp_engine.printable import encodable

IN_MEMORY = 1 << 22
"""Bytes up to which an array is read and hashed at once, and then held in memory."""

LARGEST_HASHED = 1 << 30
"""Bytes from which on only ``verify`` hashes a file; the largest are the activations."""


class StreamedArray(np.memmap):
    """A memory-mapped array whose reads are copies that leave no mapped pages behind.

    Pages that were read stay in a process's resident memory until the system wants them back; over
    a large array that looks like, and on a small machine is, memory that grows with the probe set.
    """

    def __getitem__(self, key: Any) -> Any:
        values = np.array(super().__getitem__(key))
        let_go(self)
        return values


def let_go(values: np.ndarray) -> None:
    """Leave the pages of a memory-mapped array to the system, after more was read than is needed.

    To read one value maps sixteen pages around it, so a sample may map all there is.
    """
    pages = getattr(values, "_mmap", None)
    if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


class StageFiles:
    """A bundle's manifest and the files it names, read-only.

    A file is checked against its hash when it is first read: a small one before anything of it is
    used, a large one in the background, after which whoever reads it again is told. Small arrays
    are held in memory; large ones are memory-mapped, and looked at for changes at every reading.
    Instances may be shared between threads.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self._cache: dict[tuple[str, ...], Any] = {}
        self._open: dict[tuple[str, str], tuple[BinaryIO, Stamp]] = {}
        self._altered: dict[tuple[str, str], str] = {}
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        """The folder's name without ``.csp``."""
        return encodable(self.path.resolve().name.removesuffix(".csp"))

    # ---------------------------------------------------------------- what there is

    def has(self, stage: str) -> bool:
        """Whether a stage is committed."""
        return stage in self.manifest.stages

    @property
    def omitted(self) -> tuple[str, ...]:
        """Stages whose files this copy of the bundle leaves out."""
        return tuple(name for name, record in self.manifest.stages.items() if record.omitted)

    def stage(self, name: str) -> StageRecord:
        """The record of a stage.

        Raises:
            BundleError: if the bundle lacks it; the sentence names what it has.
        """
        try:
            return self.manifest.stages[name]
        except KeyError:
            held = self.manifest.stages
            same = [stage for stage in held if stage_kind(stage) == stage_kind(name)]
            have = ", ".join(same or sorted(set(map(stage_kind, held))))
            raise BundleError(
                f"Bundle {self.name} has no stage {name!r}; it has {have or 'none yet'}. "
                "Run 'csp build' with the same output to complete it."
            ) from None

    # ---------------------------------------------------------------- files

    def file(self, stage: str, name: str) -> Path:
        """The path of one file of a stage, checked to be whole in size.

        Raises:
            BundleError: if the manifest does not list it, this copy leaves it out, or it is missing
                or cut off.
        """
        self.opened(stage, name).close()
        return self.path.joinpath(*self.manifest.place(stage, name))

    def listed(self, stage: str, name: str) -> FileRecord:
        """What the manifest says of one file.

        Raises:
            BundleError: if it does not list it.
            LeftOutError: if this copy leaves it out.
        """
        record = self.stage(stage)
        if record.omitted:
            raise LeftOutError(self.left_out(stage))
        entry = record.files.get(name)
        if entry is None:
            raise BundleError(
                f"Stage {stage!r} of bundle {self.name} has no file {name!r}; "
                f"it has {', '.join(record.files)}."
            )
        return entry

    def fact(self, stage: str, name: str) -> Any:
        """A small result that the manifest keeps of a stage.

        Raises:
            BundleError: if it does not.
        """
        record = self.stage(stage)
        if name not in record.facts:
            raise BundleError(
                f"Bundle {self.name} is damaged: its {MANIFEST_NAME} says nothing of {name} in "
                f"stage {stage!r}; restore it from a copy, or build it again into an empty folder."
            )
        return record.facts[name]

    def opened(self, stage: str, name: str) -> BinaryIO:
        """One file of a stage, open, of the size that the manifest lists.

        Raises:
            BundleError: if the manifest does not list it, this copy leaves it out, or it is
                missing, cut off, or no plain file inside of the bundle.
        """
        entry = self.listed(stage, name)
        directory, file = self.manifest.place(stage, name)
        where = self._where(stage, name)
        try:
            handle = open_plain(self.path / directory, file)
        except NotInside as error:
            raise self._damaged(f"{where} cannot be used: {error}") from None
        except FileNotFoundError:
            raise self._damaged(f"{where} is missing") from None
        except OSError as error:
            raise self._damaged(f"{where} cannot be read ({error.strerror})") from None
        size = Stamp.of(handle).size
        if size != entry.bytes:
            handle.close()
            raise self._damaged(f"{where} has {size} bytes instead of {entry.bytes}")
        return handle

    def _damaged(self, what: str) -> BundleError:
        return BundleError(
            f"Bundle {self.name} is damaged: {what}; "
            "run 'csp build' with the same inputs to repair it."
        )

    def content(self, stage: str, name: str) -> bytes:
        """All bytes of a file, checked against its hash.

        Raises:
            BundleError: as ``file``, and if the file was altered.
        """
        entry = self.listed(stage, name)
        with self.opened(stage, name) as handle:
            content = handle.read(entry.bytes + 1)
            if len(content) != entry.bytes:
                raise self._changed(stage, name)
            if not is_known(handle.fileno(), entry.sha256):
                if hashlib.sha256(content).hexdigest() != entry.sha256:
                    where = self._where(stage, name)
                    raise self._damaged(f"{where} was altered (its sha256 does not match)")
                remember(handle.fileno(), entry.sha256)
        return content

    def kept_open(self, stage: str, name: str) -> BinaryIO:
        """A large file, open as long as this object is; it is hashed in the background.

        Raises:
            BundleError: as ``file``, if it has changed since it was opened, or was found altered.
        """
        key = (stage, name)
        with self._lock:
            if key not in self._open:
                handle = self.opened(stage, name)
                self._open[key] = handle, Stamp.of(handle)
                entry = self.listed(stage, name)
                if entry.bytes <= LARGEST_HASHED:
                    hash_later(handle.fileno(), entry.sha256, self._teller(stage, name))
            handle, stamp = self._open[key]
        if Stamp.of(handle) != stamp:
            raise self._changed(stage, name)
        if key in self._altered:
            raise self._damaged(self._altered[key])
        return handle

    def _teller(self, stage: str, name: str) -> Callable[[bool], None]:
        altered, where = self._altered, self._where(stage, name)

        def tell(is_right: bool) -> None:
            if not is_right:
                altered[stage, name] = f"{where} was altered (its sha256 does not match)"
                found_altered.append(str(self._damaged(altered[stage, name])))

        return tell

    def _where(self, stage: str, name: str) -> str:
        """Folder and name of a file, as sentences write it."""
        return "/".join(self.manifest.place(stage, name))

    def _changed(self, stage: str, name: str) -> BundleError:
        return BundleError(
            f"{self._where(stage, name)} of bundle {self.name} has changed while it was open; "
            "open the bundle again, and run 'csp verify' to see whether it is whole."
        )

    def left_out(self, stage: str) -> str:
        """The sentence for whoever needs an omitted stage."""
        return (
            f"This copy of bundle {self.name} leaves out {stage} to stay small; measure it again "
            "by 'csp build' with the same images, models and output, or ask for a whole copy."
        )

    def array(self, stage: str, name: str) -> np.ndarray:
        """A read-only array of a stage: in memory if it is small, else memory-mapped."""
        key = (stage, name)
        file = f"{name}.npy"
        if key not in self._cache:
            entry = self.listed(stage, file)
            is_small = entry.bytes <= IN_MEMORY
            values = self._small(stage, file) if is_small else self._mapped(stage, file)
            if (str(values.dtype), values.shape) != (entry.dtype, entry.shape):
                raise self._no_array(stage, file)
            fault = fault_of_array(self, stage, name, values)
            let_go(values)
            if fault:
                raise self._damaged(f"{self._where(stage, file)} {fault}")
            self._cache[key] = values
        elif (stage, file) in self._open:
            self.kept_open(stage, file)
        return self._cache[key]

    def _no_array(self, stage: str, file: str) -> BundleError:
        return BundleError(
            f"Bundle {self.name} is damaged: {file} of stage {stage!r} is not the array the "
            "manifest lists; run 'csp verify' to see what else is."
        )

    def _small(self, stage: str, file: str) -> np.ndarray:
        content = self.content(stage, file)
        try:
            shape, is_fortran, dtype, start = _npy_header(io.BytesIO(content))
            if dtype.itemsize * math.prod(shape) != len(content) - start:
                raise self._no_array(stage, file)
            flat = np.frombuffer(content, dtype, offset=start, count=math.prod(shape))
        except BundleError:
            raise
        except Exception:  # numpy parses the header as Python and raises what that raises
            raise self._no_array(stage, file) from None
        return flat.reshape(shape, order="F" if is_fortran else "C")

    def _mapped(self, stage: str, file: str) -> np.ndarray:
        handle = self.kept_open(stage, file)
        with os.fdopen(os.dup(handle.fileno()), "rb") as own:
            own.seek(0)
            try:
                shape, is_fortran, dtype, start = _npy_header(own)
                if dtype.itemsize * math.prod(shape) != os.fstat(own.fileno()).st_size - start:
                    raise self._no_array(stage, file)
                order: Any = "F" if is_fortran else "C"
                return np.memmap(own, dtype, "r", start, shape, order)
            except BundleError:
                raise
            except Exception:  # as above
                raise self._no_array(stage, file) from None

    def table(self, stage: str, name: str) -> pd.DataFrame:
        """A table of a stage, kept after the first reading; do not change it."""
        key = (stage, name)
        if key not in self._cache:
            file = f"{name}.parquet"
            content = self.content(stage, file)
            try:
                rows = pd.read_parquet(io.BytesIO(content))
            except Exception as error:  # half a dozen types, by which bytes are wrong
                raise BundleError(
                    f"Bundle {self.name} is damaged: {file} of stage {stage!r} cannot be read "
                    f"({type(error).__name__}); run 'csp verify' to see what else is."
                ) from None
            fault = fault_of_table(self, stage, name, rows)
            if fault:
                raise self._damaged(f"{self._where(stage, file)} {fault}")
            self._cache[key] = rows
        return self._cache[key]

    def streamed(self, stage: str, name: str) -> np.ndarray:
        """The same array, for reading large parts of it once: see ``StreamedArray``."""
        return self.array(stage, name).view(StreamedArray)


def _npy_header(handle: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order, type and place of the values of a ``.npy`` file without objects.

    Raises:
        ValueError: if it is none.
    """
    version = np.lib.format.read_magic(handle)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    shape, is_fortran, dtype = read(handle)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"an array of {dtype}")
    return shape, is_fortran, dtype, handle.tell()
