"""How far a classifier falls from its best test images to its worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from csp_engine.stats.intervals import Share, difference_of_shares, share_of


@dataclass(frozen=True, slots=True)
class Fall:
    """How often a model is right on two slices, and the difference with its 95 % interval."""

    model: str
    best: str
    worst: str
    high: Share
    low: Share
    gap: float
    least: float
    most: float


def falls(tables: Mapping[str, pd.DataFrame]) -> tuple[Fall, ...]:
    """The fall of each model between the slices that are the best and worst of the first model.

    Args:
        tables: test figures by model, see ``Bundle.performance``.
    """
    first = next(iter(tables.values()))
    best = str(first["slice"].iloc[int(first["accuracy"].argmax())])
    worst = str(first["slice"].iloc[int(first["accuracy"].argmin())])
    found = []
    for model, rows in tables.items():
        by_name = rows.set_index("slice")
        if best == worst or not {best, worst} <= set(by_name.index):
            continue
        high, low = (
            share_of(int(by_name.loc[n, "n_correct"]), int(by_name.loc[n, "n"]))
            for n in (best, worst)
        )
        found.append(Fall(model, best, worst, high, low, *difference_of_shares(high, low)))
    return tuple(found)
