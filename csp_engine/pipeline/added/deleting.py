"""Neurons of a layer held still one after the other, in several orders: ablation curves.

After the analysis and the editing experiment of MILAN (Hernandez et al., ICLR 2022, §5 and §7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from csp_engine.bundle import StoredCurves
from csp_engine.bundle.checks.held import NONE
from csp_engine.errors import InputError
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.fixing import Trials

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
