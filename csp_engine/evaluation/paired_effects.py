"""How large an effect on pairs of images is, and how much of it passes through part of a network.

Pairs of one group (a photograph, a lesion, a patient) are drawn together in every bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from csp_engine.stats.drawn import LEAST_DRAWN

N_DRAWS = 2000
LEVEL = 0.95
NEAREST = 0.2
"""Share of a layer's units among which a unit's stand-in is drawn."""
LEAST_NEAREST = 8
_TRIES = 5
"""Draws for each random set that is wanted, for where few are left one comes again and again."""
LEAST_GROUPS = LEAST_DRAWN
"""Groups that an interval is drawn from, at least."""
IN_HALVES = 2 * LEAST_GROUPS
"""Groups that are needed where one half chooses and the other confirms."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A figure with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float

    @property
    def is_away_from_zero(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


UNKNOWN = Bounded(float("nan"), float("nan"), float("nan"))


def enough(found: Bounded, n_groups: int) -> Bounded:
    """A figure, without its interval where that would be drawn from too few groups."""
    return found if n_groups >= LEAST_GROUPS else Bounded(found.value, math.nan, math.nan)


def count_groups(group_n: Int[np.ndarray, " n"]) -> int:
    """How many groups there are."""
    return len(np.unique(group_n))


def mean_effect(
    change_n: Float[np.ndarray, " n"], group_n: Int[np.ndarray, " n"], seed: int = 0
) -> Bounded:
    """The mean over pairs, with a percentile bootstrap over groups."""
    return ratio(change_n, np.ones(len(change_n)), group_n, seed)


def mean_effects(
    change_mn: Float[np.ndarray, "m n"], group_n: Int[np.ndarray, " n"], seed: int = 0
) -> list[Bounded]:
    """``mean_effect`` of every row, over the same draws, and without an interval of few groups."""
    change_mn = np.asarray(change_mn, np.float64)
    if not change_mn.size:
        return [UNKNOWN] * len(change_mn)
    _, place_n = np.unique(group_n, return_inverse=True)
    n_groups = int(place_n.max()) + 1
    sums_mg = np.stack([np.bincount(place_n, each, n_groups) for each in change_mn])
    counts_rg = group_draws(n_groups, seed)
    drawn_rm = (counts_rg @ sums_mg.T) / (counts_rg @ np.bincount(place_n))[:, None]
    ends_2m = np.percentile(drawn_rm, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    found = zip(change_mn.mean(1), *ends_2m, strict=True)
    return [enough(Bounded(*map(float, each)), n_groups) for each in found]


def mean_within(
    value_nu: Float[np.ndarray, "n u"], group_n: Int[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " u"], Float64[np.ndarray, " u"]]:
    """Means over pairs, and how far to either side their 95 % intervals reach; of many units.

    With S the sum and m the number of pairs of each of G groups, ``x = Σ S / Σ m`` and
    ``t(G − 1) · √(G / (G − 1) · Σ (S − x m)²) / Σ m``: the paired t of group means where all groups
    are of one size. NaN where groups are fewer than ``LEAST_GROUPS``.
    """
    from scipy.special import stdtrit

    value_nu = np.asarray(value_nu, np.float64)
    _, place_n = np.unique(group_n, return_inverse=True)
    size_g = np.bincount(place_n).astype(np.float64)
    n_groups, n = len(size_g), len(value_nu)
    mean_u = value_nu.mean(axis=0)
    if n_groups < LEAST_GROUPS:
        return mean_u, np.full_like(mean_u, np.nan)
    sum_gu = np.zeros((n_groups, value_nu.shape[1]))
    np.add.at(sum_gu, place_n, value_nu)
    left_gu = sum_gu - size_g[:, None] * mean_u
    error_u = np.sqrt(n_groups / (n_groups - 1) * np.square(left_gu).sum(axis=0)) / n
    return mean_u, stdtrit(n_groups - 1, 50 * (1 + LEVEL) / 100) * error_u


def mean_gap(
    value_n: Float[np.ndarray, " n"],
    is_first_n: Bool[np.ndarray, " n"],
    group_n: Int[np.ndarray, " n"],
    seed: int = 0,
) -> Bounded:
    """The mean of some less the mean of the others, with a percentile bootstrap over groups.

    Unknown where either are none.
    """
    is_first_n = np.asarray(is_first_n, bool)
    if not is_first_n.any() or is_first_n.all():
        return UNKNOWN
    _, place_n = np.unique(group_n, return_inverse=True)
    n_groups = int(place_n.max()) + 1
    counts_rg = group_draws(n_groups, seed)
    value, drawn_r = 0.0, np.zeros(len(counts_rg))
    for own_n, sign in ((is_first_n, 1), (~is_first_n, -1)):
        sum_g, size_g = (
            np.bincount(place_n[own_n], weights, n_groups)
            for weights in (np.asarray(value_n, np.float64)[own_n], np.ones(int(own_n.sum())))
        )
        value += sign * float(sum_g.sum() / size_g.sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn_r = drawn_r + sign * (counts_rg @ sum_g) / (counts_rg @ size_g)
    return bounded(value, drawn_r)


def ratio(
    part_n: Float[np.ndarray, " n"],
    whole_n: Float[np.ndarray, " n"],
    group_n: Int[np.ndarray, " n"],
    seed: int = 0,
) -> Bounded:
    """The sum of parts over the sum of wholes, with a percentile bootstrap over groups.

    NaN without pairs; where a drawn sum of wholes is 0, that draw is left out.
    """
    if not len(part_n):
        return UNKNOWN
    _, place_n = np.unique(group_n, return_inverse=True)
    n_groups = int(place_n.max()) + 1
    sums_2g = np.stack(
        [np.bincount(place_n, np.asarray(each, np.float64), n_groups) for each in (part_n, whole_n)]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(sums_2g[0].sum() / sums_2g[1].sum())
        counts_rg = group_draws(n_groups, seed)
        drawn_r = (counts_rg @ sums_2g[0]) / (counts_rg @ sums_2g[1])
    drawn_r = drawn_r[np.isfinite(drawn_r)]
    if not np.isfinite(value) or not len(drawn_r):
        return UNKNOWN
    low, high = np.percentile(drawn_r, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Bounded(value, float(low), float(high))


def group_draws(n_groups: int, seed: int) -> Float64[np.ndarray, "r g"]:
    """How often each group is drawn."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), N_DRAWS).astype(np.float64)


def halves(group_n: Int[np.ndarray, " n"], seed: int = 0) -> Bool[np.ndarray, " n"]:
    """Which pairs choose, the rest confirm; a group lies in one half."""
    known, place_n = np.unique(group_n, return_inverse=True)
    order_g = np.random.default_rng(seed).permutation(len(known))
    is_choosing_g = np.zeros(len(known), bool)
    is_choosing_g[order_g[: len(known) // 2]] = True
    return is_choosing_g[place_n]


def strongest(effect_u: Float[np.ndarray, " u"], effect: float) -> Int[np.ndarray, " u"]:
    """Units from the one that carries most of an effect to the one that works most against it."""
    return np.argsort(-np.sign(effect) * np.asarray(effect_u, np.float64), kind="stable")


def matched_sets(
    chosen_k: Int[np.ndarray, " k"],
    activation_u: Float32[np.ndarray, " u"],
    influence_u: Float32[np.ndarray, " u"],
    n_sets: int,
    seed: int = 0,
) -> list[Int[np.ndarray, " k"]]:
    """Random sets of other units, as active and as influential as the chosen ones.

    Each chosen unit gets a stand-in from the ``NEAREST`` share of the other units that lie nearest
    to it by rank of activation and rank of influence (the larger of both distances); within a set
    no unit stands in twice, and no set comes twice: where few others are left, there are fewer
    sets. Empty where there are fewer others than chosen ones.
    """
    n_units = len(activation_u)
    others = np.setdiff1d(np.arange(n_units), chosen_k)
    if len(others) < len(chosen_k) or not len(chosen_k):
        return []
    rank_u2 = np.stack(
        [np.argsort(np.argsort(v, kind="stable")) for v in (activation_u, influence_u)], 1
    )
    n_near = max(LEAST_NEAREST, round(NEAREST * len(others)))
    far_ko = np.abs(rank_u2[chosen_k, None] - rank_u2[None, others]).max(-1)
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    for _ in range(_TRIES * n_sets):
        if len(found) == n_sets:
            break
        is_free_o = np.ones(len(others), bool)
        stand_ins = []
        for at in rng.permutation(len(chosen_k)):
            free = np.flatnonzero(is_free_o)
            near = free[np.argsort(far_ko[at, free], kind="stable")[:n_near]]
            picked = int(rng.choice(near))
            is_free_o[picked] = False
            stand_ins.append(int(others[picked]))
        found[tuple(sorted(stand_ins))] = None
    return [np.array(each, np.int64) for each in found]


def evenly(value_n: Float[np.ndarray, " n"], n_shown: int) -> Int[np.ndarray, " s"]:
    """Pairs at equal steps from the largest value to the smallest, so that none is hand-picked."""
    order = np.argsort(-np.asarray(value_n, np.float64), kind="stable")
    if len(order) <= n_shown:
        return order
    return order[np.round(np.linspace(0, len(order) - 1, n_shown)).astype(int)]


class Drawn:
    """Groups of images, drawn with replacement again and again.

    Every figure is a value over all photographs and one for each draw, ``(value, drawn_r)``;
    differences of figures are differences of both. Draws are NaN where fewer than
    ``LEAST_GROUPS`` groups have anything to say.
    """

    def __init__(self, group_n: Int[np.ndarray, " n"], seed: int = 0) -> None:
        _, self._place_n = np.unique(group_n, return_inverse=True)
        self._n_groups = int(self._place_n.max(initial=-1)) + 1
        self._counts_rg = group_draws(self._n_groups, seed)

    def share(
        self, hit_n: Bool[np.ndarray, " n"], among_n: Bool[np.ndarray, " n"]
    ) -> tuple[float, Float64[np.ndarray, " r"]]:
        """The share of hits among some photographs; NaN where there is none."""
        hit_g, among_g = (
            np.bincount(self._place_n, each.astype(np.float64), self._n_groups)
            for each in (hit_n & among_n, among_n)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(np.divide(hit_g.sum(), among_g.sum()))
            drawn_r = (self._counts_rg @ hit_g) / (self._counts_rg @ among_g)
        return value, self._told(drawn_r, among_n)

    def auroc(
        self,
        score_n: Float[np.ndarray, " n"],
        is_positive_n: Bool[np.ndarray, " n"],
        among_n: Bool[np.ndarray, " n"],
    ) -> tuple[float, Float64[np.ndarray, " r"]]:
        """How often a positive photograph scores above another one, ties counted half."""
        rows = np.flatnonzero(among_n)
        order = rows[np.argsort(score_n[rows], kind="stable")]
        starts = np.flatnonzero(np.diff(score_n[order], prepend=-np.inf) != 0)
        weight_rk = np.concatenate(
            [np.ones((1, len(order))), self._counts_rg[:, self._place_n[order]]]
        )
        if not len(order):
            return float("nan"), np.full(len(self._counts_rg), np.nan)
        above_rk, below_rk = (
            np.add.reduceat(np.where(is_it, weight_rk, 0), starts, axis=1)
            for is_it in (is_positive_n[order], ~is_positive_n[order])
        )
        before_rk = np.cumsum(below_rk, axis=1) - below_rk / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            area_r = (above_rk * before_rk).sum(1) / (above_rk.sum(1) * below_rk.sum(1))
        both = among_n & is_positive_n, among_n & ~is_positive_n
        return float(area_r[0]), self._told(area_r[1:], *both)

    def _told(
        self, drawn_r: Float64[np.ndarray, " r"], *each_n: Bool[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " r"]:
        """Draws, or NaN if any of some sets of photographs is of too few groups."""
        n_least = min(count_groups(self._place_n[own_n]) for own_n in each_n)
        return drawn_r if n_least >= LEAST_GROUPS else np.full_like(drawn_r, np.nan)


def bounded(value: float, drawn_r: Float64[np.ndarray, " r"]) -> Bounded:
    """A figure with its percentile interval; unknown where it is not defined."""
    drawn_r = drawn_r[np.isfinite(drawn_r)]
    if not np.isfinite(value):
        return UNKNOWN
    if not len(drawn_r):
        return Bounded(value, math.nan, math.nan)
    low, high = np.percentile(drawn_r, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Bounded(value, float(low), float(high))


def difference(
    after: tuple[float, Float64[np.ndarray, " r"]], before: tuple[float, Float64[np.ndarray, " r"]]
) -> tuple[float, Float64[np.ndarray, " r"]]:
    """One figure less another, over the same draws."""
    return after[0] - before[0], after[1] - before[1]
