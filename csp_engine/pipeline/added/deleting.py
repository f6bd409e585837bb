"""Neurons of a layer held still one after the other, in several orders: ablation curves.

After the analysis and the editing experiment of MILAN (Hernandez et al., ICLR 2022, §5 and §7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.errors import InputError
from csp_engine.evaluation.paired_effects import Bounded, count_groups, enough, mean_effect
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.fixing import Trials

RANDOM = "random"
"""The order that others are compared with."""
Orders = Mapping[str, Sequence[np.ndarray]]
"""By name, some orders of units of one layer; a curve is the mean over its orders."""


@dataclass(frozen=True, slots=True)
class Step:
    """One point of a curve: so many units held still, and how often decisions are right then.

    ``right`` is the share over photographs and orders, ``change`` that less the share before,
    ``against`` that less the random orders at the same number of units; ``least`` and ``most`` are
    the extremes over the orders. Where ``n_groups`` are too few, both have no interval.
    """

    order: str
    slice: str
    n_units: int
    n_photographs: int
    n_groups: int
    right: float
    least: float
    most: float
    change: Bounded
    against: Bounded


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


def curves(
    trials: Trials, layer: str, orders: Orders, sizes: Sequence[int], mode: str, seed: int = 0
) -> list[Step]:
    """Hold the first units of every order still, and decide about the reported photographs.

    Args:
        trials: the network and the photographs.
        layer: whose units are held.
        orders: by name; ``RANDOM`` must be one. A curve ends where its orders do.
        sizes: numbers of units.
        mode: what units are held at, one of ``MODES``.
        seed: of the bootstrap over groups.

    Raises:
        InputError: if the layer cannot be cut.
    """
    rows = trials.reported
    table: pd.DataFrame = trials.photographs.table.iloc[rows]
    truth_n = trials.truth(rows)
    planned = [
        (name, at, size)
        for name, each in orders.items()
        for at, order in enumerate(each)
        for size in sizes
        if size <= len(order)
    ]
    made = [trials.cuts([Piece(layer, np.sort(orders[n][at][:k]))], mode) for n, at, k in planned]
    _, class_tn = trials.decided(rows, [(), *made], "decisions")
    right_tn = (class_tn == truth_n).astype(np.float64)
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    for (name, _, size), right_n in zip(planned, right_tn[1:], strict=True):
        found.setdefault((name, size), []).append(right_n)
    steps = []
    for slice_ in dict.fromkeys(table["slice"]):
        is_in_n = (table["slice"] == slice_).to_numpy(bool)
        group_n = table["group"].to_numpy()[is_in_n]
        n_groups = count_groups(group_n)
        before_n = right_tn[0][is_in_n]
        for (name, size), each in found.items():
            each_on = np.stack(each)[:, is_in_n]
            mean_n = each_on.mean(0)
            random_n = np.stack(found[RANDOM, size])[:, is_in_n].mean(0)
            steps.append(
                Step(
                    name,
                    str(slice_),
                    size,
                    int(is_in_n.sum()),
                    n_groups,
                    float(mean_n.mean()),
                    float(each_on.mean(1).min()),
                    float(each_on.mean(1).max()),
                    enough(mean_effect(mean_n - before_n, group_n, seed), n_groups),
                    enough(mean_effect(mean_n - random_n, group_n, seed), n_groups),
                )
            )
    return steps
