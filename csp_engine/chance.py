"""What chance gives for a query: which of the neurons that score high are really about it.

A high cosine alone says little. Two questions are asked of it, both answered with random image
sets, which stand for neurons that mean nothing:

1. Would as many random image sets score as high for *this* query? (A text may be close to every
   image of a probe set.)
2. Would the query be a good label? A text from another world, say "bird" among drawn shapes, scores
   low on everything, but evenly; a neuron can lie above all random sets for it and still be about
   something else. So the score must reach what random image sets reach with their *best* label.

Where the answers differ, nothing here can tell, and the answer is ``unsure``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Float64

RATE_AT = 0.1
"""A neuron stands out where at most this share of those that score as high is due to chance."""
BEST_AT = 0.95
"""The level of best labels of random image sets that a clear answer passes, as a label does."""
LOWER_AT = 0.95
"""An unsure answer beats at least this share of the other texts on the same neuron."""
N_COUNTED = 10
"""A share of draws is counted where at least this many reach a score; fewer say too little."""
STANDINGS = ("none", "unsure", "clear")
_TAIL_LEVELS = (0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class QueryNull:
    """Random image sets and one query.

    ``score_r`` is the score each set gives the query, ``best_r`` its best score over the controls
    (the labels, for a text; probe images, for an image); both sorted upwards.
    """

    score_r: Float[np.ndarray, " r"]
    best_r: Float[np.ndarray, " r"]

    @property
    def bar(self) -> float:
        """What 95 % of random image sets stay below even with their best control."""
        return float(np.quantile(self.best_r, BEST_AT))

    def tail(self, score_m: Float[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """The share of random image sets that reach each score.

        Counted where ten draws or more reach it; beyond, r draws show nothing, and a normal curve
        is used, as wide as the widest that passes through the null's own upper quantiles.
        """
        n_draws = len(self.score_r)
        mean = float(self.score_r.mean())
        normal = NormalDist()
        deviation = float(self.score_r.std())
        for level in _TAIL_LEVELS:
            reach = float(np.quantile(self.score_r, level)) - mean
            deviation = max(deviation, reach / normal.inv_cdf(level))
        n_at_least_m = n_draws - np.searchsorted(self.score_r, score_m, side="left")
        drop_m = (np.asarray(score_m, np.float64) - mean) / max(deviation, 1e-9)
        share_m = n_at_least_m / n_draws
        beyond_m = np.flatnonzero(n_at_least_m < N_COUNTED)
        share_m[beyond_m] = [normal.cdf(-float(drop)) for drop in drop_m[beyond_m]]
        return share_m


def chance_rates(
    score_u: Float[np.ndarray, " u"], nulls: Sequence[tuple[QueryNull, int]]
) -> Float64[np.ndarray, " u"]:
    """For each neuron, the share of those scoring at least as high that chance would give.

    ``min over s <= s_u of E(s) / #{v: s_v >= s}``, where E(s) is how many of as many random image
    sets as there are neurons reach s: a false discovery rate estimated from the null
    (Storey and Tibshirani 2003, with all neurons taken as null). In [0, 1]; low is good.

    Args:
        score_u: scores of all neurons that were searched.
        nulls: the null of each layer, and how many of the neurons it stands for.
    """
    order = np.argsort(-score_u, kind="stable")
    falling_u = score_u[order]
    # Equal scores count together: all of them are at least as high as each.
    n_above_u = np.searchsorted(-falling_u, -falling_u, side="right")
    expected_u = np.zeros(len(score_u))
    for null, n_neurons in nulls:
        expected_u += n_neurons * null.tail(falling_u)
    rate_u = np.minimum(1.0, expected_u / np.maximum(n_above_u, 1))
    rate_u = np.minimum.accumulate(rate_u[::-1])[::-1]
    out_u = np.empty(len(score_u))
    out_u[order] = rate_u
    return out_u


def standings(
    score_m: Float[np.ndarray, " m"],
    rate_m: Float[np.ndarray, " m"],
    bar_m: Float[np.ndarray, " m"],
    lower_m: Float[np.ndarray, " m"],
) -> list[str]:
    """How each neuron stands to the query: ``clear``, ``unsure`` or ``none``.

    ``clear``: both questions say yes. ``unsure``: the score is that of a good label, but chance
    would give as many; or it is not, but more neurons score so high than chance gives and the query
    beats nearly all other texts on the neuron. ``none``: anything less.

    Args:
        score_m: scores of some neurons.
        rate_m: their ``chance_rates``.
        bar_m: the bar of each one's layer.
        lower_m: share of the controls that score lower on the neuron.
    """
    found = []
    for score, rate, bar, lower in zip(score_m, rate_m, bar_m, lower_m, strict=True):
        is_rare, is_good = rate <= RATE_AT, score > bar
        if is_rare and is_good:
            found.append("clear")
        elif is_good or (is_rare and lower >= LOWER_AT):
            found.append("unsure")
        else:
            found.append("none")
    return found
