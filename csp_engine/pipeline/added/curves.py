"""Ablation curves that ``deleting`` made, kept in a bundle or left beside it; needs no network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, StageFolder, StoredCurves, stage_key
from csp_engine.bundle.checks.held import RANDOM
from csp_engine.bundle.kinds import CURVES, NEURONS, SCORES
from csp_engine.bundle.stored import CURVES_TEXTS
from csp_engine.bundle.verifying.intervened import fault_of_named
from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.files import write_whole
from csp_engine.hashing import sha256_json

TABLES = ("photographs", "orders", "runs")
FACTS = "facts.json"


def add_curves(path: Path, model: str, layer: str, stored: StoredCurves) -> Bundle:
    """Keep the curves of a layer in a finished bundle, ``curves:MODEL/LAYER``.

    Args:
        path: the bundle, changed in place; earlier curves of the layer are replaced.
        model: one of its networks.
        layer: one of its layers.
        stored: from ``try_orders``.

    Raises:
        InputError: if the bundle has no such layer, or one of another size or with other labels.
        BundleError: if another process is writing the bundle.
    """
    bundle = Bundle.open(path)
    n_units = bundle.n_units(model, layer)
    n_held = int((stored.orders["order"] == RANDOM).sum() / _n_random(stored))
    if n_held != n_units:
        raise InputError(f"The curves are of {n_held} units, and {layer} has {n_units}.")
    if fault := fault_of_named(bundle, model, layer, stored):
        raise InputError(f"What was measured {fault} now; draw the curves again.")
    stage, needs = CURVES.name(model, layer), [NEURONS.name(model, layer)]
    if set(stored.orders["order"]) - {RANDOM, "influence"}:  # of neurons by their labels
        needs.append(SCORES.name(model, layer, stored.method))
    with BundleWriter(path) as writer:
        identity: dict[str, Any] = {
            "version": CURVES.version,
            "params": {
                "output": stored.output, "mode": stored.mode, "method": stored.method,
                "words": list(stored.words), "seed": stored.seed,
            },
            "needs": {need: writer.manifest.stages[need].key for need in needs},
            "inputs": {
                "model": bundle.manifest.inputs["models"][model]["fingerprint"],
                "photographs": sha256_json(csv_text(stored.photographs)),
                "orders": sha256_json(csv_text(stored.orders)),
                "decisions": sha256_json(stored.called_vi.tolist()),
            },
        }  # fmt: skip
        if writer.is_fresh(stage, stage_key(stage, **identity)):
            return bundle
        with writer.stage(stage, **identity) as folder:
            _write(folder, stored)
    return Bundle.open(path)


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """Curves of one layer outside of any bundle."""

    layer: str
    stored: StoredCurves


def leave_curves(path: Path, left: Left) -> None:
    """Write curves into a folder, outside of any bundle, for ``read_curves``."""
    path.mkdir(parents=True, exist_ok=True)
    folder = StageFolder(path)
    _write(folder, left.stored)
    write_whole(path / FACTS, json.dumps({**folder.facts, "layer": left.layer}))


def read_curves(folder: Path) -> Left:
    """What ``leave_curves`` left in a folder of this computer's own."""
    facts = json.loads((folder / FACTS).read_text("utf-8"))
    stored = StoredCurves(
        *(str(facts[name]) for name in CURVES_TEXTS),
        words=tuple(facts["words"]),
        classes=tuple(facts["classes"]),
        seed=int(facts["seed"]),
        **{name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES},
        called_vi=np.load(folder / "called.npy", allow_pickle=False),
    )
    return Left(str(facts["layer"]), stored)


def _write(folder: StageFolder, stored: StoredCurves) -> None:
    for name in TABLES:
        folder.table(name, getattr(stored, name))
    folder.array("called", stored.called_vi)
    folder.facts.update(stored.facts)


def _n_random(stored: StoredCurves) -> int:
    return stored.orders.loc[stored.orders["order"] == RANDOM, "repeat"].nunique()
