"""How finely labels tell neurons apart, and how much of what could be said of each they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from csp_engine.stats.drawn import N_RESAMPLES, mean_interval, percentile_interval
from csp_engine.stats.intervals import LEVEL


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


@dataclass(frozen=True, slots=True)
class Specificity:
    """How special labels are among words of which some are kinds of others.

    ``n`` labels have a ``depth``, the links between them and a word that is a kind of nothing;
    ``n_below`` of them are kinds of broader words, and ``margin`` is how much more like its
    exemplars a unit's label is than the best of these, as a difference of cosines. ``broad`` is
    the share of those for which a broader word is as like, or more. Means, with percentile
    bootstraps over units; bounds are NaN of too few.
    """

    n: int
    depth: float
    depth_low: float
    depth_high: float
    n_below: int
    margin: float
    margin_low: float
    margin_high: float
    broad: float


def specificity(
    depth_a: Sequence[int],
    margin_b: Sequence[float],
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> Specificity:
    """Mean depth of labels, and mean margin of those that have a broader word.

    Args:
        depth_a: links above each label that has a place among the words.
        margin_b: for each label that has a broader word: cos(x, label) - max over all broader
            words h of cos(x, h), x being the mean of the unit vectors of the unit's exemplars.
        level: of the intervals.
        seed: of their draws.
    """
    margins = np.asarray(margin_b, np.float64)
    broad = float((margins <= 0).mean()) if len(margins) else float("nan")
    return Specificity(
        len(depth_a),
        *mean_interval(np.asarray(depth_a, np.float64), level, seed),
        len(margins),
        *mean_interval(margins, level, seed),
        broad,
    )


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
