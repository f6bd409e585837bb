"""How far raters agree beyond chance: Cohen's kappa of two, Fleiss' of more, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from csp_engine.stats.drawn import percentile_interval

N_DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Kappa:
    """Kappa with its 95 % interval over ``n`` cases; NaN where it is not defined.

    It is not where all raters gave one and the same rating to everything, and the interval is not
    where that holds for all draws, or of fewer than ``LEAST_DRAWN`` cases.
    """

    value: float
    low: float
    high: float
    n: int


def cohen_kappa(
    first_n: Int[np.ndarray, " n"], second_n: Int[np.ndarray, " n"], seed: int = 0
) -> Kappa:
    """Agreement of two raters on the same cases.

    kappa = (p_o - p_e) / (1 - p_e): p_o is the share of cases rated alike, p_e the sum over ratings
    of the product of both raters' shares (Cohen, Educational and Psychological Measurement 20,
    1960). The interval is a percentile bootstrap over cases; draws in which kappa is not defined
    are left out.

    Args:
        first_n: ratings from 0.
        second_n: the other rater's, case for case.
        seed: of the draws.
    """
    n_kinds = int(max(first_n.max(initial=0), second_n.max(initial=0))) + 1
    first_nk, second_nk = (np.eye(n_kinds)[each] for each in (first_n, second_n))
    same_n = (first_n == second_n).astype(np.float64)

    def kappa(weight_rn: Float64[np.ndarray, "r n"]) -> Float64[np.ndarray, " r"]:
        chance_r = ((weight_rn @ first_nk) * (weight_rn @ second_nk)).sum(axis=1)
        return _beyond(weight_rn @ same_n, chance_r)

    return _bounded(kappa, len(first_n), seed)


def fleiss_kappa(count_nk: Int[np.ndarray, "n k"], seed: int = 0) -> Kappa:
    """Agreement of several raters, each case rated by as many of them.

    kappa = (P - P_e) / (1 - P_e): P is the mean over cases of the share of pairs of raters that
    agree, P_e the sum of squared shares of the ratings (Fleiss, Psychological Bulletin 76, 1971).
    The interval is a percentile bootstrap over cases.

    Args:
        count_nk: how many raters gave each rating to each case; every row has the same sum, at
            least 2.
        seed: of the draws.
    """
    n_raters = int(count_nk[0].sum()) if len(count_nk) else 2
    assert n_raters >= 2
    assert (count_nk.sum(axis=1) == n_raters).all()
    pairs_n = (count_nk * (count_nk - 1)).sum(axis=1) / (n_raters * (n_raters - 1))

    def kappa(weight_rn: Float64[np.ndarray, "r n"]) -> Float64[np.ndarray, " r"]:
        share_rk = weight_rn @ (count_nk / n_raters)
        return _beyond(weight_rn @ pairs_n, (share_rk**2).sum(axis=1))

    return _bounded(kappa, len(count_nk), seed)


def _beyond(
    observed_r: Float64[np.ndarray, " r"], chance_r: Float64[np.ndarray, " r"]
) -> Float64[np.ndarray, " r"]:
    """Agreement beyond chance; NaN where chance alone agrees on everything."""
    room_r = 1 - chance_r
    is_defined = room_r > 1e-12
    return np.where(is_defined, (observed_r - chance_r) / np.where(is_defined, room_r, 1), np.nan)


def _bounded(
    kappa: Callable[[Float64[np.ndarray, "r n"]], Float64[np.ndarray, " r"]], n: int, seed: int
) -> Kappa:
    nan = float("nan")
    if not n:
        return Kappa(nan, nan, nan, 0)
    value = float(kappa(np.full((1, n), 1 / n))[0])
    draws_rn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), N_DRAWS) / n
    if np.isnan(value):
        return Kappa(value, nan, nan, n)
    return Kappa(value, *percentile_interval(kappa(draws_rn), n, LEVEL), n)
