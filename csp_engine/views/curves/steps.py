"""Every point of an ablation curve: how often decisions are right, and against random orders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine.bundle import StoredCurves
from csp_engine.bundle.checks.held import RANDOM
from csp_engine.evaluation.paired_effects import count_groups, mean_effects
from csp_engine.stats.intervals import Share, share_of
from csp_engine.views.audit.fixes import Points


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
    change: Points
    against: Points


def before(stored: StoredCurves) -> dict[str, Share]:
    """By slice, how many photographs are decided rightly for by the network as it is."""
    right_vi, slice_i, _ = _right(stored)
    return {
        name: share_of(int(right_vi[0, slice_i == name].sum()), int((slice_i == name).sum()))
        for name in dict.fromkeys(slice_i.tolist())
    }


def steps(stored: StoredCurves) -> tuple[Step, ...]:
    """All points: by slice, then in the order in which they were tried."""
    right_vi, slice_i, group_i = _right(stored)
    seed = stored.seed
    runs_of: dict[tuple[str, int], list[int]] = {}
    for at, (order, n_units) in enumerate(
        zip(stored.runs["order"], stored.runs["n_units"], strict=True)
    ):
        if at:
            runs_of.setdefault((str(order), int(n_units)), []).append(at)
    found = []
    for name in dict.fromkeys(slice_i.tolist()):
        is_in_i = slice_i == name
        group_n, right_vn = group_i[is_in_i], right_vi[:, is_in_i]
        mean_mn = np.stack([right_vn[own].mean(0) for own in runs_of.values()])
        random_mn = np.stack([right_vn[runs_of[RANDOM, size]].mean(0) for _, size in runs_of])
        changes, against = (
            [Points(each.value, each.low, each.high) for each in mean_effects(m, group_n, seed)]
            for m in (mean_mn - right_vn[0], mean_mn - random_mn)
        )
        for at, ((order, n_units), own) in enumerate(runs_of.items()):
            right_o = right_vn[own].mean(1)
            found.append(
                Step(
                    order,
                    name,
                    n_units,
                    int(is_in_i.sum()),
                    count_groups(group_n),
                    float(mean_mn[at].mean()),
                    float(right_o.min()),
                    float(right_o.max()),
                    changes[at],
                    against[at],
                )
            )
    return tuple(found)


def _right(stored: StoredCurves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which decisions are right, ``(v, i)``, and slice and group of every reported photograph."""
    table = stored.photographs
    rows = table[~table["is_choosing"].to_numpy(bool)]
    truth_i = rows["class"].map({name: at for at, name in enumerate(stored.classes)}).to_numpy()
    right_vi = (np.asarray(stored.called_vi) == truth_i).astype(np.float64)
    return right_vi, rows["slice"].astype(str).to_numpy(object), rows["group"].to_numpy()
