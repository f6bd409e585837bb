"""Fixes of a classifier in a finished bundle: stages ``fix:MODEL/NAME``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, StageFolder, StoredFix, stage_key
from csp_engine.bundle.kinds import FIX
from csp_engine.bundle.stored import FIX_TEXTS
from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.files import write_whole
from csp_engine.hashing import sha256_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")
FACTS = "facts.json"


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Part of one layer: whole numbers of units, or a direction, a unit vector over all of them."""

    layer: str
    part: np.ndarray

    @property
    def is_direction(self) -> bool:
        """Whether it is one direction."""
        return self.part.dtype.kind == "f"


def add_fix(path: Path, model: str, name: str, stored: StoredFix) -> Bundle:
    """Keep a tried fix in a finished bundle, as stage ``fix:MODEL/NAME``.

    Args:
        path: the bundle, changed in place; an earlier fix of the name is replaced.
        model: one of its networks.
        name: letters, digits, blanks, dots, hyphens; at most 60.
        stored: from ``try_fix``.

    Raises:
        InputError: if the name cannot be one, or the bundle has no such network.
        BundleError: if another process is writing the bundle.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot name a fix; use up to 60 letters, digits, blanks, '.', '_' and '-'."
        )
    described = Bundle.open(path).manifest.inputs.get("models", {})
    if model not in described:
        raise InputError(f"Model {model!r} is not in {path.name}; it has {', '.join(described)}.")
    stage = FIX.name(model, name)
    identity: dict[str, Any] = {
        "version": FIX.version,
        "params": {"output": stored.output, "mode": stored.mode, "clean": stored.clean},
        "needs": {},
        "inputs": {
            "model": described[model]["fingerprint"],
            "photographs": sha256_json(csv_text(stored.photographs)),
            "cuts": sha256_json(csv_text(stored.cuts)),
            "decisions": sha256_json(stored.called_vi.tolist()),
        },
    }
    with BundleWriter(path) as writer:
        if writer.is_fresh(stage, stage_key(stage, **identity)):
            return Bundle.open(path)
        with writer.stage(stage, **identity) as folder:
            write_fix(folder, stored)
    return Bundle.open(path)


def write_fix(folder: StageFolder, stored: StoredFix) -> None:
    """The files of a fix."""
    for name in ("photographs", "runs", "cuts", "shown"):
        folder.table(name, getattr(stored, name))
    folder.array("score", stored.score_wi.astype(np.float32))
    folder.array("called", stored.called_vi.astype(np.uint16))
    folder.array("thumb_offset", np.cumsum([0, *map(len, stored.thumbs)]).astype(np.int64))
    folder.path.joinpath("thumbs.bin").write_bytes(b"".join(stored.thumbs))
    folder.facts.update(stored.facts)


def read_fix(folder: Path) -> StoredFix:
    """What ``write_fix`` and ``write_facts`` left in a folder of this computer's own."""
    facts = json.loads((folder / FACTS).read_text("utf-8"))
    tables = {
        name: pd.read_parquet(folder / f"{name}.parquet")
        for name in ("photographs", "runs", "cuts", "shown")
    }
    score, called, offset = (
        np.load(folder / f"{name}.npy", allow_pickle=False)
        for name in ("score", "called", "thumb_offset")
    )
    content = (folder / "thumbs.bin").read_bytes()
    return StoredFix(
        *(str(facts[name]) for name in FIX_TEXTS),
        classes=tuple(facts["classes"]),
        **tables,
        score_wi=score,
        called_vi=called,
        thumbs=tuple(content[a:b] for a, b in pairwise(offset.tolist())),
    )


def leave_fix(path: Path, stored: StoredFix) -> None:
    """Write a fix into a folder, outside of any bundle, for ``read_fix``."""
    path.mkdir(parents=True, exist_ok=True)
    folder = StageFolder(path)
    write_fix(folder, stored)
    write_whole(path / FACTS, json.dumps(folder.facts))
