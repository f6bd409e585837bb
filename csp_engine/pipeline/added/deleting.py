"""Neurons of a layer held still one after the other, in several orders: ablation curves.

After the analysis and the editing experiment of MILAN (Hernandez et al., ICLR 2022, §5 and §7).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, StageFolder, StoredCurves, stage_key
from csp_engine.bundle.checks.held import NONE, RANDOM
from csp_engine.bundle.kinds import CURVES, NEURONS
from csp_engine.bundle.stored import CURVES_TEXTS
from csp_engine.cells import csv_text
from csp_engine.errors import InputError
from csp_engine.files import write_whole
from csp_engine.hashing import sha256_json
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.fixing import Trials

TABLES = ("photographs", "orders", "runs")
FACTS = "facts.json"
Orders = Mapping[str, Sequence[np.ndarray]]
"""By name, some orders of units of one layer; a curve is the mean over its orders."""


def sizes_of(n_units: int, most: float, n_steps: int) -> list[int]:
    """Numbers of units at equal steps up to a share of the layer, each once."""
    steps = np.round(np.linspace(0, most * n_units, n_steps + 1)[1:]).astype(int)
    return sorted(set(np.maximum(steps, 1).tolist()))


def random_orders(units: Sequence[int], n_orders: int, seed: int = 0) -> list[np.ndarray]:
    """Some units in random orders."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.asarray(units, np.int64)) for _ in range(n_orders)]


def ranked_alone(
    trials: Trials, layer: str, units: Sequence[int], mode: str, slice_: str
) -> np.ndarray:
    """Units by how often decisions about a slice are right with each of them held alone.

    On the photographs that choose, the best first; of nothing that they say is anything reported.

    Raises:
        InputError: if no photograph that chooses is of the slice.
    """
    table = trials.photographs.table
    rows = trials.choosing
    rows = rows[(table["slice"].iloc[rows] == slice_).to_numpy(bool)]
    if not len(rows):
        raise InputError(f"No photograph of {slice_!r} is among those that choose; give more.")
    pieces = [[Piece(layer, np.array([unit]))] for unit in units]
    score_tn, class_tn = trials.decided(
        rows, [trials.cuts(each, mode) for each in pieces], "each neuron alone"
    )
    right_u = (class_tn == trials.truth(rows)).mean(1)
    way_n = np.where(trials.truth(rows) == trials.classes.index(trials.output), 1, -1)
    margin_u = (score_tn * way_n).mean(1)  # parts those that turn equally many decisions
    return np.asarray(units, np.int64)[np.lexsort((-margin_u, -right_u))]


def try_orders(
    trials: Trials,
    layer: str,
    orders: Orders,
    sizes: Sequence[int],
    mode: str,
    *,
    method: str = "",
    words: Sequence[str] = (),
    seed: int = 0,
) -> StoredCurves:
    """Hold the first units of every order still, and decide about the reported photographs.

    Args:
        trials: the network and the photographs.
        layer: whose units are held.
        orders: by name, of ``checks.held.ORDERS``; ``RANDOM`` must be one. A curve ends where its
            orders do.
        sizes: numbers of units.
        mode: what units are held at, one of ``MODES``.
        method: whose labels gave orders; empty where none did.
        words: what labels were asked for.
        seed: that orders came from; intervals are drawn from it too.

    Raises:
        InputError: if the layer cannot be cut.
    """
    planned = [
        (name, at, size)
        for name, each in orders.items()
        for at, order in enumerate(each)
        for size in sizes
        if size <= len(order)
    ]
    made = [trials.cuts([Piece(layer, np.sort(orders[n][at][:k]))], mode) for n, at, k in planned]
    _, class_tn = trials.decided(trials.reported, [(), *made], "decisions")
    rows = [
        (name, at, int(unit))
        for name, each in orders.items()
        for at, order in enumerate(each)
        for unit in order
    ]
    runs = pd.DataFrame([(NONE, 0, 0), *planned], columns=pd.Index(["order", "repeat", "n_units"]))
    own = pd.DataFrame(rows, columns=pd.Index(["order", "repeat", "unit"]))
    return StoredCurves(
        output=trials.output,
        images=trials.photographs.name,
        mode=mode,
        method=method,
        words=tuple(words),
        classes=trials.classes,
        seed=seed,
        photographs=trials.photographs.table,
        orders=own.astype({"order": "string", "repeat": "int32", "unit": "int32"}),
        runs=runs.astype({"order": "string", "repeat": "int32", "n_units": "int32"}),
        called_vi=class_tn.astype(np.uint16),
    )


def add_curves(path: Path, model: str, layer: str, stored: StoredCurves) -> Bundle:
    """Keep the curves of a layer in a finished bundle, ``curves:MODEL/LAYER``.

    Args:
        path: the bundle, changed in place; earlier curves of the layer are replaced.
        model: one of its networks.
        layer: one of its layers.
        stored: from ``try_orders``.

    Raises:
        InputError: if the bundle has no such layer, or one of another size.
        BundleError: if another process is writing the bundle.
    """
    bundle = Bundle.open(path)
    n_units = bundle.n_units(model, layer)
    n_held = int((stored.orders["order"] == RANDOM).sum() / _n_random(stored))
    if n_held != n_units:
        raise InputError(f"The curves are of {n_held} units, and {layer} has {n_units}.")
    stage, need = CURVES.name(model, layer), NEURONS.name(model, layer)
    with BundleWriter(path) as writer:
        identity: dict[str, Any] = {
            "version": CURVES.version,
            "params": {
                "output": stored.output, "mode": stored.mode, "method": stored.method,
                "words": list(stored.words), "seed": stored.seed,
            },
            "needs": {need: writer.manifest.stages[need].key},
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
