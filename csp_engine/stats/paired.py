"""Methods compared by a figure of the same neurons: paired, and with many looks allowed for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float, Float64

from csp_engine.stats.drawn import percentile_interval
from csp_engine.stats.intervals import LEVEL

N_DRAWS = 9999
_BLOCK = 500


@dataclass(frozen=True, slots=True)
class PairedMeans:
    """The mean of the first less the second over the neurons that both have.

    Bounds from drawing neurons anew, NaN of too few; ``p`` from turning the sign of neurons at
    random, two-sided; ``p_holm`` after Holm, over all pairs that were compared.
    """

    first: str
    second: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def compare(
    figure_of: Mapping[str, Float[np.ndarray, " u"]], *, level: float = LEVEL, seed: int = 0
) -> tuple[PairedMeans, ...]:
    """Every two methods, in the order given; a neuron counts where both have a figure."""
    found = []
    for first, second in combinations(figure_of, 2):
        gap_u = np.asarray(figure_of[first], np.float64) - figure_of[second]
        found.append((first, second, *_of_gaps(gap_u[np.isfinite(gap_u)], level, seed)))
    corrected = holm([row[-1] for row in found])
    return tuple(PairedMeans(*row, p) for row, p in zip(found, corrected, strict=True))


def holm(p_m: Sequence[float]) -> list[float]:
    """p-values after Holm (1979): ``max over ranks up to i of min(1, (m - i + 1) p_(i))``.

    Those that are not known are left out of the count.
    """
    known = sorted((p, at) for at, p in enumerate(p_m) if not np.isnan(p))
    corrected, largest = [float("nan")] * len(p_m), 0.0
    for rank, (p, at) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[at] = largest
    return corrected


def _of_gaps(
    gap_u: Float64[np.ndarray, " u"], level: float, seed: int
) -> tuple[int, float, float, float, float]:
    n = len(gap_u)
    if not n:
        nan = float("nan")
        return 0, nan, nan, nan, nan
    mean = float(gap_u.mean())
    rng = np.random.default_rng(seed)
    n_as_far, means = 0, []
    for start in range(0, N_DRAWS, _BLOCK):
        shape = (min(_BLOCK, N_DRAWS - start), n)
        turned_r = rng.choice(np.array([-1.0, 1.0]), shape) @ gap_u / n
        # As far within rounding: equal sums in another order must count.
        n_as_far += int((np.abs(turned_r) >= abs(mean) * (1 - 1e-12)).sum())
        means.append(gap_u[rng.integers(n, size=shape)].mean(axis=1))
    low, high = percentile_interval(np.concatenate(means), n, level)
    return n, mean, low, high, (1 + n_as_far) / (1 + N_DRAWS)
