"""Units of a layer that fire together, whatever they are called.

What one unit says weakly, several may say together. Which do is found on half of the images and
shown on the other half: hierarchical clustering by average linkage (Sokal and Michener 1958) of
rank correlations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import rankdata

from csp_engine.errors import InputError
from csp_engine.evaluation.paired_effects import (
    IN_HALVES,
    Bounded,
    bounded,
    count_groups,
    group_draws,
    halves,
)

LEAST_TOGETHER = 0.7
"""Mean rank correlation at which two groups of units become one, and that a group must hold."""
LEAST_UNITS = 3
"""Units that make a group, at least."""
MOST_UNITS = 4096
"""Units of a layer, at most: every pair of them is compared."""
MOST_IMAGES = 2000
"""Images that are looked at, at most; of more, so many are drawn."""
_VALUES = 4_000_000
"""Of one array of the bootstrap, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Cofiring:
    """Units that fire together.

    Attributes:
        unit_k: their numbers, the one that goes best with the others first.
        together: mean rank correlation over pairs of them, on images that did not choose them.
    """

    unit_k: Int[np.ndarray, " k"]
    together: Bounded

    @property
    def name(self) -> str:
        """After the unit that goes best with the others."""
        return f"firing with {self.unit_k[0]}"


@dataclass(frozen=True, slots=True, eq=False)
class Cofirings:
    """What fires together in a layer.

    Attributes:
        groups: those that held, the largest first.
        n_found: groups found on the half that chooses.
        n_choosing: images that chose.
        n_confirming: images on which figures were counted.
        n_still: units left out because a half of the images tells nothing of them: there they
            are constant.
    """

    groups: tuple[Cofiring, ...]
    n_found: int
    n_choosing: int
    n_confirming: int
    n_still: int

    def of_unit(self, unit: int) -> Cofiring | None:
        """The group that a unit belongs to; None where it belongs to none."""
        return next((each for each in self.groups if unit in each.unit_k), None)


def cofirings(
    activation_un: Float[Any, "u n"],
    group_n: Int[np.ndarray, " n"],
    *,
    least_together: float = LEAST_TOGETHER,
    least_units: int = LEAST_UNITS,
    seed: int = 0,
) -> Cofirings:
    """Groups of units whose activations rise and fall together, from one image to the next.

    With r the ranks of a unit's activations within a half of the images (ties share their mean),
    ρ(u, v) is the Pearson correlation of r_u and r_v there (Spearman). On one half units are
    clustered by average linkage of ``1 - ρ``, until no two clusters have a mean ρ of
    ``least_together``; clusters of ``least_units`` are found. On the other half

        together = mean of ρ(u, v) over pairs u ≠ v of the group

    is measured, with a percentile bootstrap over groups of images (ranks stay those of the half).
    A group holds if the lower end reaches ``least_together``.

    Args:
        activation_un: finite activations, in an array or what gives rows of one.
        group_n: what images share (a lesion, a patient); a group of images lies in one half.
        least_together: see above, above 0.
        least_units: see above, at least 2.
        seed: of halves and draws.

    Raises:
        InputError: if the images are of too few groups, or the layer has too many units.
    """
    if len(group_n) > MOST_IMAGES:
        rng = np.random.default_rng(seed)
        drawn = np.sort(rng.choice(len(group_n), MOST_IMAGES, replace=False))
        activation_un, group_n = activation_un[:, drawn], group_n[drawn]
    n_groups = count_groups(group_n)
    if n_groups < IN_HALVES:
        raise InputError(
            f"The {len(group_n)} images are of {n_groups} group{'s' * (n_groups != 1)} (lesions, "
            f"patients or images), and {IN_HALVES} are needed, half to find what fires together "
            "and half to show it; build with more images."
        )
    is_choosing_n = halves(group_n, seed)
    chosen_un, told_un = (
        np.asarray(activation_un[:, own_n], np.float64) for own_n in (is_choosing_n, ~is_choosing_n)
    )
    varies_u = (np.ptp(chosen_un, axis=1) > 0) & (np.ptp(told_un, axis=1) > 0)
    units = np.flatnonzero(varies_u)
    if len(units) > MOST_UNITS:
        raise InputError(
            f"{len(units):,} units of the layer vary, and at most {MOST_UNITS:,} can be compared "
            "with one another; choose another layer."
        )
    counts = int(is_choosing_n.sum()), int((~is_choosing_n).sum()), int((~varies_u).sum())
    if len(units) < 2:
        return Cofirings((), 0, *counts)
    rank_un = _ranks(chosen_un[units])
    rho_uu = rank_un @ rank_un.T
    apart = 1 - rho_uu[np.triu_indices(len(units), 1)]
    cluster_u = fcluster(linkage(np.maximum(apart, 0), "average"), 1 - least_together, "distance")
    told_group_n = group_n[~is_choosing_n]
    found, n_found = [], 0
    for cluster in np.unique(cluster_u):
        own = np.flatnonzero(cluster_u == cluster)
        if len(own) < least_units:
            continue
        n_found += 1
        together = _together(rankdata(told_un[units[own]], axis=1), told_group_n, seed)
        if together.low >= least_together:
            order = np.argsort(-rho_uu[np.ix_(own, own)].sum(axis=1), kind="stable")
            found.append(Cofiring(units[own[order]], together))
    found.sort(key=lambda each: (-len(each.unit_k), -each.together.value))
    return Cofirings(tuple(found), n_found, *counts)


def _ranks(value_un: np.ndarray) -> np.ndarray:
    """Ranks of each row, centred and of length 1."""
    rank_un = rankdata(value_un, axis=1)
    rank_un = rank_un - rank_un.mean(axis=1, keepdims=True)
    return rank_un / np.linalg.norm(rank_un, axis=1, keepdims=True)


def _together(rank_kn: np.ndarray, group_n: np.ndarray, seed: int) -> Bounded:
    """Mean correlation over pairs of rows, and its interval.

    The variance of the sum of k standardised rows is ``k + k (k - 1) · mean correlation``, so no
    draw needs all pairs.
    """
    n_units, n_images = rank_kn.shape
    rank_kn = rank_kn - rank_kn.mean(axis=1, keepdims=True)
    _, place_n = np.unique(group_n, return_inverse=True)
    n_groups = int(place_n.max()) + 1
    counts_rg = np.concatenate([np.ones((1, n_groups)), group_draws(n_groups, seed)])
    found = []
    for part_rg in np.array_split(counts_rg, -(-len(counts_rg) * n_images // _VALUES)):
        weight_rn = part_rg[:, place_n]
        weight_rn /= weight_rn.sum(axis=1, keepdims=True)
        mean_rk = weight_rn @ rank_kn.T
        variance_rk = weight_rn @ (rank_kn**2).T - mean_rk**2
        # A unit that a draw leaves constant correlates with none: such a draw tells nothing.
        scale_rk = np.where(variance_rk > 1e-9, variance_rk, np.nan) ** -0.5
        sum_rn = scale_rk @ rank_kn
        spread_r = (weight_rn * sum_rn**2).sum(axis=1) - (scale_rk * mean_rk).sum(axis=1) ** 2
        found.append((spread_r - n_units) / (n_units * (n_units - 1)))
    mean_r = np.concatenate(found)
    return bounded(float(mean_r[0]), mean_r[1:])
