"""Factors of a layer in a finished bundle: stages ``factors:MODEL/LAYER``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, StageFolder, StoredFactors, stage_key
from csp_engine.bundle.kinds import FACTORS, NEURONS
from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.files import write_whole
from csp_engine.hashing import sha256_array, sha256_json

TABLES = ("photographs", "factors", "shown")
FACTS = "facts.json"


def add_factors(path: Path, model: str, layer: str, stored: StoredFactors, seed: int) -> Bundle:
    """Keep the factors of a layer in a finished bundle; earlier ones are replaced.

    Args:
        path: the bundle, changed in place.
        model: one of its networks.
        layer: one of its layers.
        stored: from ``find_factors``.
        seed: that it was found with; its intervals are drawn again from it.

    Raises:
        InputError: if the bundle has no such layer, or one of another size.
        BundleError: if another process is writing the bundle.
    """
    bundle = Bundle.open(path)
    n_units = bundle.n_units(model, layer)
    if len(stored.direction_uk) != n_units:
        raise InputError(
            f"The factors are of {len(stored.direction_uk)} units, and {layer} has {n_units}."
        )
    stage = FACTORS.name(model, layer)
    identity: dict[str, Any] = {
        "version": FACTORS.version,
        "params": {"n_factors": len(stored.factors), "seed": seed},
        "inputs": {
            "model": bundle.manifest.inputs["models"][model]["fingerprint"],
            "photographs": sha256_json(csv_text(stored.photographs)),
            "directions": sha256_array(np.ascontiguousarray(stored.direction_uk)),
            "decisions": sha256_json(stored.called_vi.tolist()),
        },
    }
    need = NEURONS.name(model, layer)
    with BundleWriter(path) as writer:
        identity["needs"] = {need: writer.manifest.stages[need].key}
        if writer.is_fresh(stage, stage_key(stage, **identity)):
            return bundle
        with writer.stage(stage, **identity) as folder:
            _write(folder, stored)
    return Bundle.open(path)


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """Factors of one layer outside of any bundle, and the seed that they were found with."""

    layer: str
    seed: int
    stored: StoredFactors


def leave_factors(path: Path, left: Left) -> None:
    """Write factors into a folder, outside of any bundle, for ``read_factors``."""
    path.mkdir(parents=True, exist_ok=True)
    folder = StageFolder(path)
    _write(folder, left.stored)
    facts = {**folder.facts, "layer": left.layer, "seed": left.seed}
    write_whole(path / FACTS, json.dumps(facts))


def read_factors(folder: Path) -> Left:
    """What ``leave_factors`` left in a folder of this computer's own."""
    facts = json.loads((folder / FACTS).read_text("utf-8"))
    tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
    direction, push, called, offset = (
        np.load(folder / f"{name}.npy", allow_pickle=False)
        for name in ("direction", "push", "called", "thumb_offset")
    )
    content = (folder / "thumbs.bin").read_bytes()
    stored = StoredFactors(
        str(facts["images"]),
        tuple(facts["classes"]),
        int(facts["n_tried"]),
        int(facts["n_random"]),
        **tables,
        direction_uk=direction,
        push_nk=push,
        called_vi=called,
        thumbs=tuple(content[a:b] for a, b in pairwise(offset.tolist())),
    )
    return Left(str(facts["layer"]), int(facts["seed"]), stored)


def _write(folder: StageFolder, stored: StoredFactors) -> None:
    for name in TABLES:
        folder.table(name, getattr(stored, name))
    folder.array("direction", stored.direction_uk)
    folder.array("push", stored.push_nk)
    folder.array("called", stored.called_vi)
    folder.array("thumb_offset", np.cumsum([0, *map(len, stored.thumbs)]).astype(np.int64))
    folder.path.joinpath("thumbs.bin").write_bytes(b"".join(stored.thumbs))
    folder.facts.update(stored.facts)
