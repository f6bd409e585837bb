"""What chance gives for a query: which of the neurons that score high are really about it.

A high cosine alone says little. Two questions are asked of it, both answered with random image
sets, which stand for neurons that mean nothing:

1. Do the neuron's exemplars hold more of the query than chance gives? Judged by **strength**, the
   score before the concept vector is made unit length. A random set leaves hardly anything once
   its look-alikes are taken away; made unit length, that remainder points somewhere by chance and
   scores as high as a real neuron, so cosines cannot answer this question.
2. Does the query fit as well as a good label would? A text from another world, say "bird" among
   drawn shapes, may be held by neurons more than chance gives and still be about something else. So
   the score must reach what random image sets reach with their *best* label.

What all labels share (they are texts, and real image-text encoders keep texts apart from images) is
taken off the query and the labels first, so that it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float, Float64

RATE_AT = 0.1
"""A neuron stands out where at most this share of those as strong is due to chance."""
BEST_AT = 0.95
"""The level of best labels of random image sets that a clear answer passes, as a label does."""
HALF_AT = 0.5
"""The level that an unsure answer passes: what half of the sets reach with their best label."""
N_COUNTED = 10
"""A share of draws is counted where at least this many reach a value; fewer say too little."""
STANDINGS = ("none", "unsure", "clear")
_TAIL_LEVELS = (0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True, slots=True, eq=False)
class QueryNull:
    """Random image sets and one query.

    ``strength_r`` is how much of the query each set holds, ``best_r`` its best score over the
    controls (the labels, for a text; probe images, for an image); both sorted upwards.
    """

    strength_r: Float[np.ndarray, " r"]
    best_r: Float[np.ndarray, " r"]

    def level(self, share: float) -> float:
        """What this share of random image sets stay below even with their best control."""
        return float(np.quantile(self.best_r, share))

    def tail(self, strength_m: Float[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """The share of random image sets that reach each strength.

        Counted where ten draws or more reach it; beyond, r draws show nothing, and a normal curve
        is used, as wide as the widest that passes through the null's own upper quantiles.
        """
        n_draws = len(self.strength_r)
        mean = float(self.strength_r.mean())
        normal = NormalDist()
        deviation = float(self.strength_r.std())
        for level in _TAIL_LEVELS:
            reach = float(np.quantile(self.strength_r, level)) - mean
            deviation = max(deviation, reach / normal.inv_cdf(level))
        n_at_least_m = n_draws - np.searchsorted(self.strength_r, strength_m, side="left")
        drop_m = (np.asarray(strength_m, np.float64) - mean) / max(deviation, 1e-9)
        share_m = n_at_least_m / n_draws
        beyond_m = np.flatnonzero(n_at_least_m < N_COUNTED)
        share_m[beyond_m] = [normal.cdf(-float(drop)) for drop in drop_m[beyond_m]]
        return share_m


def chance_rates(
    strength_u: Float[np.ndarray, " u"], nulls: Sequence[tuple[QueryNull, int]]
) -> Float64[np.ndarray, " u"]:
    """For each neuron, the share of those at least as strong that chance would give.

    ``min over s <= s_u of E(s) / #{v: s_v >= s}``, where E(s) is how many of as many random image
    sets as there are neurons reach s: a false discovery rate estimated from the null
    (Storey and Tibshirani 2003, with all neurons taken as null). In [0, 1]; low is good.

    Args:
        strength_u: strengths of all neurons that were searched.
        nulls: the null of each layer, and how many of the neurons it stands for.
    """
    order = np.argsort(-strength_u, kind="stable")
    falling_u = strength_u[order]
    # Equal ones count together: all of them are at least as strong as each.
    n_above_u = np.searchsorted(-falling_u, -falling_u, side="right")
    expected_u = np.zeros(len(strength_u))
    for null, n_neurons in nulls:
        expected_u += n_neurons * null.tail(falling_u)
    rate_u = np.minimum(1.0, expected_u / np.maximum(n_above_u, 1))
    rate_u = np.minimum.accumulate(rate_u[::-1])[::-1]
    out_u = np.empty(len(strength_u))
    out_u[order] = rate_u
    return out_u


def standings(
    score_m: Float[np.ndarray, " m"],
    rate_m: Float[np.ndarray, " m"],
    bar_m: Float[np.ndarray, " m"],
    half_m: Float[np.ndarray, " m"],
) -> list[str]:
    """How each neuron stands to the query: ``clear``, ``unsure`` or ``none``.

    ``clear``: both questions say yes. ``unsure``: the neuron holds more of the query than chance
    gives, but the query fits it only as well as some label fits every other random set; or it fits
    like a good label, but chance gives as much. ``none``: anything less.

    Args:
        score_m: scores of some neurons.
        rate_m: their ``chance_rates``.
        bar_m: the ``BEST_AT`` level of each one's layer.
        half_m: the ``HALF_AT`` level of each one's layer.
    """
    found = []
    for score, rate, bar, half in zip(score_m, rate_m, bar_m, half_m, strict=True):
        is_rare, is_good = rate <= RATE_AT, score > bar
        if is_rare and is_good:
            found.append("clear")
        elif is_good or (is_rare and score > half):
            found.append("unsure")
        else:
            found.append("none")
    return found
