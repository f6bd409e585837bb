"""The demo as it ships: what a finished work folder leaves behind.

``demo.json`` in the shipped folder is the record: the settings everything follows from, the hash of
every file, hashes over the decoded pixels of the probe photographs, and the figures measured when
it was made. Files of the bundle are recorded by its own manifest.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.bundle import (
    Bundle,
    copy_slim,
    translated_os_errors,
)
from csp_engine.cells import csv_text
from csp_engine.demo.shipping.opening import BUNDLE, CASES, FORMAT, SHIPPED
from csp_engine.demo.shipping.opening import RECORD as DEMO
from csp_engine.demo.shipping.parts import BUNDLE as MADE_BUNDLE
from csp_engine.demo.shipping.parts import PARTS, World
from csp_engine.demo.shipping.world import probe_cases
from csp_engine.errors import InputError
from csp_engine.hashing import sha256_file, sha256_json
from csp_engine.types import Progress, silent

MAX_BYTES = 60_000_000
"""All demo assets together must not be larger."""

PIXEL_BLOCK = 100
"""Photographs under one hash in ``demo.json``."""

LIBRARIES = ("numpy", "pandas", "pillow", "torch", "open_clip_torch", "transformers")


def require_place(target: Path) -> None:
    """Refuse a place that ``ship`` could not use, before there is anything to ship.

    Raises:
        InputError: if it holds something else, or cannot be written.
    """
    temporary, before = _beside(target)
    with translated_os_errors(target):
        _recover(target, before)
        if target.exists() and not (target.is_dir() and _is_replaceable(target)):
            raise InputError(
                f"{target} is not empty and holds no demo; choose another folder with --out."
            )
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        temporary.rmdir()


def ship(world: World, target: Path = SHIPPED, progress: Progress = silent) -> Path:
    """Put a finished demo where it ships from, whole or not at all.

    Args:
        world: a finished work folder.
        target: replaced if it holds an older demo.
        progress: called with what is being checked.

    Raises:
        InputError: if the world is not finished, the demo would be larger than ``MAX_BYTES``, or
            the target holds something else or cannot be written.
        BundleError: if the world's bundle is damaged.
    """
    missing = [part for part in (*PARTS, "probe", MADE_BUNDLE, "quality.json")
               if not world.path(part).exists()]  # fmt: skip
    if missing:
        raise InputError(
            f"The demo in {world.folder} is not finished (it lacks {missing[0]}); "
            "run 'csp demo build' again."
        )
    require_place(target)
    temporary, before = _beside(target)
    with translated_os_errors(target):
        temporary.mkdir()
        try:
            _fill(temporary, world, progress)
            size = sum(path.stat().st_size for path in files_of(temporary))
            if size > MAX_BYTES:
                raise InputError(
                    f"The demo would be {size / 1e6:.1f} MB, and {MAX_BYTES / 1e6:.0f} MB is the "
                    "most it may be; make thumbnails, probe set or networks smaller."
                )
            if target.exists():
                target.rename(before)
            temporary.rename(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            _recover(target, before)
            raise
        shutil.rmtree(before, ignore_errors=True)
    return target


def _beside(target: Path) -> tuple[Path, Path]:
    """Where a new demo is filled, and where the older one waits until the new one is in place."""
    return target.with_name(f".new-{target.name}"), target.with_name(f".old-{target.name}")


def _recover(target: Path, before: Path) -> None:
    """After a stop between the two renames, the older demo is the one that counts."""
    if before.exists() and not target.exists():
        before.rename(target)
    shutil.rmtree(before, ignore_errors=True)


def _is_replaceable(folder: Path) -> bool:
    return (folder / DEMO).exists() or not any(folder.iterdir())


def files_of(folder: Path) -> list[Path]:
    """All files of a folder and the folders in it."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _fill(folder: Path, world: World, progress: Progress) -> None:
    copy_slim(Bundle.open(world.path(MADE_BUNDLE)), folder / BUNDLE)
    for part in PARTS:
        source, copy = world.path(part), folder / part
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copyfile(source, copy)
    cases = probe_cases(world.plan)
    (folder / CASES).write_bytes(gzip.compress(as_csv(cases), mtime=0))
    images = sorted((world.path("probe") / "images").iterdir())
    record: dict[str, Any] = {
        "format": FORMAT,
        "settings": world.record["settings"],
        "libraries": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
        "files": {
            path.relative_to(folder).as_posix(): {
                "sha256": sha256_file(path),
                "bytes": path.stat().st_size,
            }
            for path in files_of(folder)
            if path == folder / BUNDLE / "manifest.json" or BUNDLE not in path.parts
        },
        "pixels": list(pixel_hashes(map(_pixels, images), len(images), progress)),
        "seconds": {name: part["seconds"] for name, part in world.record["parts"].items()},
        "quality": json.loads(world.path("quality.json").read_text(encoding="utf-8")),
    }
    record["self_sha256"] = sha256_json(record)
    (folder / DEMO).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def as_csv(table: pd.DataFrame) -> bytes:
    """A table as the demo keeps it."""
    return csv_text(table).encode()


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def pixel_hashes(image_hwc: Iterator[np.ndarray], n: int, progress: Progress) -> Iterator[str]:
    """One sha256 over the pixels of every ``PIXEL_BLOCK`` images, in order."""
    digest = hashlib.sha256()
    for i, image in enumerate(image_hwc, start=1):
        digest.update(image.tobytes())
        progress("pixels", i, n)
        if i % PIXEL_BLOCK == 0 or i == n:
            yield digest.hexdigest()
            digest = hashlib.sha256()
