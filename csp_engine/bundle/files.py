"""The files of a bundle: which stages there are, and their arrays and tables, by name."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle.kinds import stage_kind
from csp_engine.bundle.manifest import Manifest, StageRecord
from csp_engine.errors import BundleError


class StreamedArray(np.memmap):
    """A memory-mapped array whose reads are copies that leave no mapped pages behind.

    Pages that were read stay in a process's resident memory until the system wants them back; over
    a large array that looks like, and on a small machine is, memory that grows with the probe set.
    """

    def __getitem__(self, key: Any) -> Any:
        values = np.array(super().__getitem__(key))
        pages = getattr(self, "_mmap", None)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)
        return values


class StageFiles:
    """A bundle's manifest and the files it names, read-only.

    Arrays are memory-mapped when first asked for. Instances may be shared between threads.
    """

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest
        self._cache: dict[tuple[str, ...], Any] = {}

    @property
    def name(self) -> str:
        """The folder's name without ``.csp``."""
        return self.path.resolve().name.removesuffix(".csp")

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
        record = self.stage(stage)
        if record.omitted:
            raise BundleError(self.left_out(stage))
        entry = record.files.get(name)
        if entry is None:
            raise BundleError(
                f"Stage {stage!r} of bundle {self.name} has no file {name!r}; "
                f"it has {', '.join(record.files)}."
            )
        path = self.path / record.directory / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry.bytes:
            what = "is missing" if size is None else f"has {size} bytes instead of {entry.bytes}"
            raise BundleError(
                f"Bundle {self.name} is damaged: {record.directory}/{name} {what}; "
                "run 'csp build' with the same inputs to repair it."
            )
        return path

    def left_out(self, stage: str) -> str:
        """The sentence for whoever needs an omitted stage."""
        return (
            f"This copy of bundle {self.name} leaves out {stage} to stay small; measure it again "
            "by 'csp build' with the same images, models and output, or ask for a whole copy."
        )

    def array(self, stage: str, name: str) -> np.ndarray:
        """A memory-mapped, read-only array of a stage."""
        key = (stage, name)
        if key not in self._cache:
            path = self.file(stage, f"{name}.npy")
            entry = self.stage(stage).files[f"{name}.npy"]
            try:
                values = np.load(path, mmap_mode="r", allow_pickle=False)
            except ValueError:
                values = None
            if values is None or (str(values.dtype), values.shape) != (entry.dtype, entry.shape):
                raise BundleError(
                    f"Bundle {self.name} is damaged: {path.name} of stage {stage!r} is not the "
                    "array the manifest lists; run 'csp verify' to see what else is."
                )
            self._cache[key] = values
        return self._cache[key]

    def table(self, stage: str, name: str) -> pd.DataFrame:
        """A table of a stage, kept after the first reading; do not change it."""
        key = (stage, name)
        if key not in self._cache:
            path = self.file(stage, f"{name}.parquet")
            try:
                self._cache[key] = pd.read_parquet(path)
            except (OSError, ValueError) as error:
                raise BundleError(
                    f"Bundle {self.name} is damaged: {path.name} of stage {stage!r} cannot be read "
                    f"({type(error).__name__}); run 'csp verify' to see what else is."
                ) from None
        return self._cache[key]

    def streamed(self, stage: str, name: str) -> np.ndarray:
        """The same array, for reading large parts of it once: see ``StreamedArray``."""
        return self.array(stage, name).view(StreamedArray)
