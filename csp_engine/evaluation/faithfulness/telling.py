"""Which figure, without the truth, tells right labels from wrong ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from csp_engine.evaluation.metrics.metric import Columns, Judged
from csp_engine.stats.intervals import LEVEL, auroc_interval


@dataclass(frozen=True, slots=True)
class Telling:
    """AUROC of a figure for right labels against wrong ones, with Newcombe's interval.

    0.5 where the figure says nothing; NaN without a right or without a wrong label.
    """

    auroc: float
    low: float
    high: float
    n_right: int
    n_wrong: int


def telling(
    figure_a: Float64[np.ndarray, " a"], right_a: Bool[np.ndarray, " a"], level: float = LEVEL
) -> Telling:
    """How well a figure orders labels; those without a figure come last, together."""
    n_right = int(right_a.sum())
    n_wrong = len(right_a) - n_right
    if not n_right or not n_wrong:
        return Telling(*(float("nan"),) * 3, n_right, n_wrong)
    known_a = np.where(np.isnan(figure_a), -np.inf, figure_a)
    # Ranks in place of the figures: float32 would make close ones equal.
    place_a: Float32[np.ndarray, " a"] = np.unique(known_a, return_inverse=True)[1].astype(
        np.float32
    )
    mean_rank_1a, _ = Judged(place_a[None], Columns(np.zeros((len(place_a), 0)))).ranks
    above = mean_rank_1a[0][right_a].sum() - n_right * (n_right + 1) / 2
    auroc = float(above / (n_right * n_wrong))
    low, high = auroc_interval(np.array(auroc), n_right, n_wrong, level)
    return Telling(auroc, float(low), float(high), n_right, n_wrong)
