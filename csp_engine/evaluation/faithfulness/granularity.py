"""How finely labels tell neurons apart, and how much of what could be said of each they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from csp_engine.stats.drawn import percentile_interval
from csp_engine.stats.intervals import LEVEL

N_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Spread:
    """How many different meanings labels have.

    ``entropy`` in bits; 2 to its power, ``n_effective``, is how many meanings there would be if
    all were as frequent.
    """

    n_labels: int
    n_distinct: int
    entropy: float

    @property
    def share(self) -> float:
        """Meanings for each label, in (0, 1]; NaN without a label."""
        return self.n_distinct / self.n_labels if self.n_labels else float("nan")

    @property
    def n_effective(self) -> float:
        """Meanings that are as frequent as if there were no others."""
        return float(2**self.entropy) if self.n_labels else 0.0


@dataclass(frozen=True, slots=True)
class Utility:
    """Mean correlation of the label's own column with the unit, and of its best column.

    ``share`` is the first over the second, with a percentile bootstrap over units; its bounds are
    NaN of too few.
    """

    n: int
    mean: float
    best: float
    share: float
    low: float
    high: float


def spread(meaning_a: Sequence[Hashable]) -> Spread:
    """Distinct meanings and their entropy, ``-Σ p log2 p``."""
    n = len(meaning_a)
    share_m = np.array(list(Counter(meaning_a).values()), float) / max(n, 1)
    entropy = float(-(share_m * np.log2(share_m)).sum()) if n else 0.0
    return Spread(n, len(share_m), abs(entropy))


def utility(
    pearson_uc: Float[np.ndarray, "u c"],
    column_u: Sequence[int | None],
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> Utility:
    """How much of the best column's correlation the columns that labels name have.

    A label that names no column (None) has the correlation 0, as has one that goes against its
    unit; units without any correlation above 0 are left out.
    """
    known_uc = np.nan_to_num(np.asarray(pearson_uc, np.float64), nan=0.0)
    best_u = known_uc.max(axis=1, initial=0)
    said_u = np.array(
        [0.0 if c is None else max(0.0, row[c]) for row, c in zip(known_uc, column_u, strict=True)]
    )
    said_u, best_u = said_u[best_u > 0], best_u[best_u > 0]
    n = len(best_u)
    if not n:
        return Utility(0, *(float("nan"),) * 5)
    rows = np.random.default_rng(seed).integers(n, size=(N_RESAMPLES, n))
    drawn = said_u[rows].sum(axis=1) / best_u[rows].sum(axis=1)
    whole = float(said_u.sum() / best_u.sum())
    ends = percentile_interval(drawn, n, level)
    return Utility(n, float(said_u.mean()), float(best_u.mean()), whole, *ends)
