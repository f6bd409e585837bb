"""Whether a metric notices a label that is said of too few images, or of too many.

The checks of NeuronEval ("Evaluating Neuron Explanations: A Unified Framework with Sanity Checks",
ICML 2025), on units of which it is known what they answer to. *Missing labels*: half of the images
that show the concept, at random, lose it. *Extra labels*: as many images again, at random, get it.
A metric worth its name falls both times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from csp_engine.evaluation.metrics.metric import Columns, Judged, Metric
from csp_engine.stats.intervals import Share, share_of

FALLS_FOR = 0.9
"""Share of units whose figure must fall."""
FALLS_BY = 0.2
"""How far it must fall for the typical unit, of the way to what an unrelated column gets."""


@dataclass(frozen=True, slots=True)
class Check:
    """What became of a figure: for how many units it fell, and by how much for the typical one.

    ``by`` is the median of the fall over the way from the figure to that of the same column dealt
    out to the images anew; NaN where no unit has figures.
    """

    falls: Share
    by: float

    @property
    def is_passed(self) -> bool:
        """Whether the metric notices what was done to the column."""
        return bool(self.falls.share >= FALLS_FOR and self.by >= FALLS_BY)


@dataclass(frozen=True, slots=True)
class Checked:
    """Both checks of one metric."""

    metric: str
    missing: Check
    extra: Check


def check_metrics(
    activation_un: Float32[np.ndarray, "u n"],
    shows_un: Bool[np.ndarray, "u n"],
    metrics: Sequence[Metric],
    seed: int = 0,
) -> tuple[Checked, ...]:
    """Run both checks for each metric.

    Args:
        activation_un: of units whose truth is known.
        shows_un: for each unit, which images show what it answers to; neither none nor all do.
        metrics: any; a column of 0 and 1 is a prediction too.
        seed: of what is taken away, added and shuffled.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[list[float]]] = {metric.name: [] for metric in metrics}
    for activation_n, shows_n in zip(activation_un, shows_un, strict=True):
        columns = Columns(_variants(shows_n, rng).astype(np.float64))
        judged = Judged(activation_n[None], columns)
        for metric in metrics:
            found[metric.name].append(metric.figures(judged)[0].tolist())
    checked = []
    for name, rows in found.items():
        own_u, missing_u, extra_u, unrelated_u = np.array(rows, float).reshape(-1, 4).T
        changed = (_check(own_u, after_u, unrelated_u) for after_u in (missing_u, extra_u))
        checked.append(Checked(name, *changed))
    return tuple(checked)


def _variants(shows_n: Bool[np.ndarray, " n"], rng: np.random.Generator) -> Bool[np.ndarray, "n 4"]:
    """The column, with half of it missing, with as much again, and shuffled.

    At most half of the images without the concept get it.
    """
    with_p, without_q = np.flatnonzero(shows_n), np.flatnonzero(~shows_n)
    missing_n, extra_n = shows_n.copy(), shows_n.copy()
    missing_n[rng.permutation(with_p)[: len(with_p) // 2]] = False
    n_added = min(len(with_p), (len(without_q) + 1) // 2)
    extra_n[rng.permutation(without_q)[:n_added]] = True
    return np.stack([shows_n, missing_n, extra_n, rng.permutation(shows_n)], axis=1)


def _check(
    own_u: Float64[np.ndarray, " u"],
    after_u: Float64[np.ndarray, " u"],
    unrelated_u: Float64[np.ndarray, " u"],
) -> Check:
    is_known_u = np.isfinite(own_u) & np.isfinite(after_u) & np.isfinite(unrelated_u)
    own_u, after_u, unrelated_u = (x[is_known_u] for x in (own_u, after_u, unrelated_u))
    falls_u = after_u < own_u
    way_u = own_u - unrelated_u
    way_u = np.where(way_u > 0, way_u, np.nan)  # a unit that its own column does not explain
    by_u = (own_u - after_u) / way_u
    by_u = by_u[np.isfinite(by_u)]
    by = float(np.median(by_u)) if len(by_u) else float("nan")
    return Check(share_of(int(falls_u.sum()), len(falls_u)), by)
