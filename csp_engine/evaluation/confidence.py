"""How likely a label is right: a probability learnt where the truth is known, and its error.

The probability is a logistic regression on features that need no truth. It is worth something only
on neurons that did not teach it, so every figure here that judges it is taken from groups of
neurons (layers, say) that were left out while it was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int

from csp_engine.errors import InputError
from csp_engine.stats.intervals import Share, share_of

LEAST_OF_A_KIND = 10
"""Right, and wrong, labels that are needed to learn from."""

N_BINS = 10
_STEPS, _CLOSE = 100, 1e-9

Alike = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Whether two rows of the vocabulary mean the same, pair by pair."""


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """``P(right) = 1 / (1 + exp(-(bias + Σ_f weight_f (x_f - centre_f) / spread_f)))``."""

    centre_f: Float64[np.ndarray, " f"]
    spread_f: Float64[np.ndarray, " f"]
    weight_f: Float64[np.ndarray, " f"]
    bias: float

    def probability(self, x_uf: Float64[np.ndarray, "u f"]) -> Float64[np.ndarray, " u"]:
        """The probability that the label of each row is right, in (0, 1)."""
        total_u = self.bias + ((x_uf - self.centre_f) / self.spread_f) @ self.weight_f
        return _logistic(total_u)


@dataclass(frozen=True, slots=True)
class Bin:
    """Labels of like probability: their mean probability, and the share of them that is right."""

    mean: float
    right: Share


def label_features(
    percentile_u: Float64[np.ndarray, " u"],
    score_uk: Float64[np.ndarray, "u k"],
    id_uk: Int[np.ndarray, "u k"],
    others: Sequence[Int[np.ndarray, " u"]],
    signals: Sequence[np.ndarray],
    alike: Alike,
) -> Float64[np.ndarray, "u f"]:
    """One row for each unit.

    Its best label's place among random image sets as -log10 of their share that scores higher; its
    lead over the next label of another meaning, as a share of its score; the share of the other
    methods that mean the same; and what the method itself declares.

    Args:
        percentile_u: share of the random image sets below the best score; NaN without a label.
        score_uk: scores of the kept labels, best first; NaN where there is none.
        id_uk: their rows in the vocabulary; -1 where there is none, or it is not in it.
        others: the best labels of the other methods, in the same way.
        signals: the arrays of ``Stores.signals``.
        alike: whether labels mean the same.
    """
    score_uk = np.nan_to_num(np.asarray(score_uk, float))
    place_u = -np.log10(np.clip(1 - np.nan_to_num(np.asarray(percentile_u, float)), 1e-4, 1))
    gap_u, _ = gap(id_uk, score_uk, alike)
    lead_u = gap_u / np.maximum(np.abs(score_uk[:, 0]), 1e-9)
    agreeing_u = agreeing(id_uk[:, 0], others, alike)
    more = [np.nan_to_num(np.asarray(each, float)) for each in signals]
    return np.column_stack([place_u, lead_u, agreeing_u, *more])


def gap(
    id_uk: Int[np.ndarray, "u k"], score_uk: Float64[np.ndarray, "u k"], alike: Alike
) -> tuple[Float64[np.ndarray, " u"], Bool[np.ndarray, " u"]]:
    """How far the best label is ahead of the next that means something else, and if there is one.

    Without one it is the gap to the last label. Of most units the second label is another, so
    ranks are looked at one after the other, and only where none was found yet.
    """
    n_units, n_ranks = id_uk.shape
    next_u = np.full(n_units, n_ranks - 1)
    has_other_u = np.zeros(n_units, bool)
    open_m = np.arange(n_units)
    for rank in range(1, n_ranks):
        best_m, id_m = id_uk[open_m, 0], id_uk[open_m, rank]
        is_other_m = id_m >= 0
        both_m = is_other_m & (best_m >= 0)
        if both_m.any():
            is_other_m[both_m] = ~alike(best_m[both_m], id_m[both_m])
        found_m = open_m[is_other_m]
        next_u[found_m], has_other_u[found_m] = rank, True
        open_m = open_m[~is_other_m]
    return score_uk[:, 0] - score_uk[np.arange(n_units), next_u], has_other_u


def agreeing(
    best_u: Int[np.ndarray, " u"], others: Sequence[Int[np.ndarray, " u"]], alike: Alike
) -> Float64[np.ndarray, " u"]:
    """The share of the other methods whose best label means the same."""
    total_u = np.zeros(len(best_u))
    for other_u in others:
        both_u = (best_u >= 0) & (other_u >= 0)
        if both_u.any():
            total_u[both_u] += alike(best_u[both_u], other_u[both_u])
    return total_u / max(1, len(others))


def can_learn(right_u: Bool[np.ndarray, " u"]) -> bool:
    """Whether enough labels are right and enough are wrong."""
    n_right = int(right_u.sum())
    return min(n_right, len(right_u) - n_right) >= LEAST_OF_A_KIND


def calibrate(
    x_uf: Float64[np.ndarray, "u f"], right_u: Bool[np.ndarray, " u"], penalty: float = 1.0
) -> Calibration:
    """Logistic regression by Newton's method, on features brought to mean 0 and deviation 1.

    Minimises ``Σ_u log(1 + exp(-y_u z_u)) + penalty / 2 Σ_f weight_f²`` with y = ±1; the bias is
    not penalised. A constant feature gets weight 0.

    Raises:
        InputError: if too few labels are right, or too few are wrong.
    """
    if not can_learn(right_u):
        raise InputError(
            f"{int(right_u.sum())} of {len(right_u)} labels are right; to learn how likely one is, "
            f"{LEAST_OF_A_KIND} right and {LEAST_OF_A_KIND} wrong ones are needed."
        )
    centre_f, spread_f = x_uf.mean(axis=0), x_uf.std(axis=0)
    spread_f = np.where(spread_f > 1e-12, spread_f, 1.0)
    one_uf = np.column_stack([(x_uf - centre_f) / spread_f, np.ones(len(x_uf))])
    penalty_f = np.append(np.full(x_uf.shape[1], penalty), 0.0)
    beta_f = np.zeros(len(penalty_f))
    for _ in range(_STEPS):
        p_u = _logistic(one_uf @ beta_f)
        slope_f = one_uf.T @ (p_u - right_u) + penalty_f * beta_f
        curve_ff = (one_uf * (p_u * (1 - p_u))[:, None]).T @ one_uf + np.diag(penalty_f + 1e-9)
        step_f = np.linalg.solve(curve_ff, slope_f)
        beta_f -= step_f * min(1.0, 5.0 / max(float(np.abs(step_f).max()), 1e-12))
        if np.abs(step_f).max() < _CLOSE:
            break
    return Calibration(centre_f, spread_f, beta_f[:-1], float(beta_f[-1]))


def left_out(
    x_uf: Float64[np.ndarray, "u f"],
    right_u: Bool[np.ndarray, " u"],
    group_u: Sequence[object],
    penalty: float = 1.0,
) -> Float64[np.ndarray, " u"]:
    """The probability of every row by what the other groups teach; NaN where they cannot."""
    codes_u = np.unique(np.asarray([str(group) for group in group_u]), return_inverse=True)[1]
    p_u = np.full(len(right_u), np.nan)
    for code in range(codes_u.max(initial=-1) + 1):
        others_u = codes_u != code
        if can_learn(right_u[others_u]):
            learnt = calibrate(x_uf[others_u], right_u[others_u], penalty)
            p_u[~others_u] = learnt.probability(x_uf[~others_u])
    return p_u


def reliability(
    p_u: Float64[np.ndarray, " u"], right_u: Bool[np.ndarray, " u"], n_bins: int = N_BINS
) -> tuple[Bin, ...]:
    """The reliability diagram: bins of equal width in probability, those that hold any."""
    bin_u = np.minimum((p_u * n_bins).astype(int), n_bins - 1)
    found = []
    for number in np.unique(bin_u):
        own_u = bin_u == number
        share = share_of(int(right_u[own_u].sum()), int(own_u.sum()))
        found.append(Bin(float(p_u[own_u].mean()), share))
    return tuple(found)


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: ``Σ_b n_b / n · |mean p_b - share right_b|``.

    From "On calibration of modern neural networks" (arXiv 1706.04599).
    """
    n = sum(each.right.n for each in bins)
    if not n:
        return float("nan")
    return sum(each.right.n * abs(each.mean - each.right.share) for each in bins) / n


def _logistic(x_u: Float64[np.ndarray, " u"]) -> Float64[np.ndarray, " u"]:
    return 0.5 * (1 + np.tanh(0.5 * x_u))
