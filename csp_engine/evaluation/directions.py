"""Directions of a layer that show a concept: from columns, from a handful of images, from factors.

A concept that is spread over many units has no neuron, but may have a direction (Kim et al. 2018).
Written to a file as the readout of an autoencoder (``--sae``), a direction is a neuron like others.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from csp_engine.errors import InputError
from csp_engine.evaluation.metrics.auroc import AUROC
from csp_engine.evaluation.metrics.metric import Columns, Judged
from csp_engine.evaluation.paired_effects import UNKNOWN, Bounded, halves
from csp_engine.stats.intervals import auroc_interval

PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Of the ridge, for each image; the one with the least leave-one-out error is taken."""
LEAST_OF_EACH = 10
"""Groups of images with a concept, and without, in each half, below which nothing is held out."""
LEAST_MARKED = 3
LEAST_SHARE = 1e-9
"""Of a layer's energy, less of which is what rounding left to a factor."""


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A direction of a layer, and how well it tells a concept.

    Attributes:
        name: of the concept.
        weight_u: unit vector; an image's activation on it is ``weight · (activation - mean)``.
        n_with: images known to have the concept.
        n_without: images taken not to.
        held_out: AUROC on the half of the groups that it was not fitted to, of a direction fitted
            to the other half; NaN with too few.
        best_unit: the unit that tells the concept best on the fitting half; -1 with too few.
        best_held_out: its AUROC on the same held-out half.
    """

    name: str
    weight_u: Float32[np.ndarray, " u"]
    n_with: int
    n_without: int
    held_out: Bounded
    best_unit: int
    best_held_out: Bounded


def concept_direction(
    activation_un: Float[np.ndarray, "u n"],
    flag_n: Float[np.ndarray, " n"],
    group_n: Int[np.ndarray, " n"],
    name: str,
    seed: int = 0,
) -> Direction:
    """The ridge direction of a flag, fitted to all its images and judged on a held-out half.

    Ridge regression of the flag on activations in standard deviations, divided by these deviations
    again, at unit length. Groups stay whole: half of them fit the direction that is judged on the
    others.

    Args:
        activation_un: pooled activations.
        flag_n: 1 with the concept, 0 without, NaN where nobody knows.
        group_n: what images share (lesion, patient).
        name: of the concept.
        seed: draws the halves.

    Raises:
        InputError: if no image has the concept, or none is without it, or no unit varies.
    """
    flag_n = np.asarray(flag_n, np.float64)
    known_n = np.flatnonzero(~np.isnan(flag_n))
    has_n = flag_n[known_n] > 0
    n_with, n_without = int(has_n.sum()), int((~has_n).sum())
    if not n_with or not n_without:
        raise InputError(
            f"Of the images, {n_with} have {name!r} and {n_without} have not, and a direction "
            "needs both; name another column with --column, or mark images with --like."
        )
    own_nu = np.asarray(activation_un, np.float64).T[known_n]
    weight_u = _ridge(own_nu, has_n, name)
    fits_n = halves(group_n[known_n], seed)
    counts = [
        len(np.unique(group_n[known_n][half & kind]))
        for half in (fits_n, ~fits_n)
        for kind in (has_n, ~has_n)
    ]
    if min(counts) < LEAST_OF_EACH:
        return Direction(name, weight_u, n_with, n_without, UNKNOWN, -1, UNKNOWN)
    half_u = _ridge(own_nu[fits_n], has_n[fits_n], name)
    best = int(np.nanargmax(_areas(own_nu[fits_n], has_n[fits_n])))
    held = np.stack([own_nu[~fits_n] @ half_u, own_nu[~fits_n, best]], axis=1)
    areas = _areas(held, has_n[~fits_n])
    bounds = [_bounded(float(area), *counts[2:]) for area in areas]
    return Direction(name, weight_u, n_with, n_without, bounds[0], best, bounds[1])


def marked_direction(
    activation_un: Float[np.ndarray, "u n"],
    like: Int[np.ndarray, " k"],
    unlike: Int[np.ndarray, " m"],
    name: str,
) -> Direction:
    """A direction from a handful of images; all others count as without where none are marked so.

    Raises:
        InputError: if fewer than ``LEAST_MARKED`` are marked, or one is marked both ways.
    """
    both = np.intersect1d(like, unlike)
    if len(both):
        raise InputError(f"Image {both[0]} is marked with --like and --unlike; keep one.")
    if len(np.unique(like)) < LEAST_MARKED:
        raise InputError(
            f"{len(np.unique(like))} images are marked with --like; mark {LEAST_MARKED} or more."
        )
    flag_n = np.full(np.shape(activation_un)[1], np.nan if len(unlike) else 0.0)
    flag_n[unlike], flag_n[like] = 0.0, 1.0
    chosen = np.flatnonzero(~np.isnan(flag_n))
    own_nu = np.asarray(activation_un, np.float64).T[chosen]
    weight_u = _ridge(own_nu, flag_n[chosen] > 0, name)
    n_with = len(np.unique(like))
    return Direction(name, weight_u, n_with, len(chosen) - n_with, UNKNOWN, -1, UNKNOWN)


def factors(
    activation_un: Float[np.ndarray, "u n"], n_factors: int, seed: int = 0
) -> tuple[Float32[np.ndarray, "u k"], Float64[np.ndarray, " k"]]:
    """Non-negative factors of a layer as readouts, and the share of its energy that each explains.

    ``A ≈ W H`` with all entries of W (n x k) and H (k x u) at least 0 (Lee and Seung 1999); an
    image's activation on factor k is ``relu(a · pinv(H)_k)``. The share is
    ``|w_k h_k|² / |A|²``; factors come by it, the largest first. There are fewer than asked for
    where nothing is left for a factor to explain (``LEAST_SHARE``).

    Raises:
        InputError: if an activation is negative or not finite, if all are 0, or if more factors
            are asked for than there are units or images.
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    own_nu = np.asarray(activation_un, np.float64).T
    if not np.isfinite(own_nu).all():
        raise InputError(
            "The layer has activations that are not finite, so it has no factors; check the "
            "weights and the images, or name another layer with --layer."
        )
    if own_nu.min(initial=0) < 0:
        raise InputError(
            "The layer has negative activations, and non-negative factors need a layer behind a "
            "ReLU; name one with --layer."
        )
    if not 1 <= n_factors <= min(own_nu.shape):
        raise InputError(f"--factors {n_factors}: use 1 to {min(own_nu.shape)} for this layer.")
    model = NMF(n_factors, init="nndsvda", max_iter=400, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        w_nk = model.fit_transform(own_nu)
    h_ku = model.components_
    energy = max(float(np.square(own_nu).sum()), 1e-30)
    share_k = np.square(w_nk).sum(0) * np.square(h_ku).sum(1) / energy
    readout_uk = np.linalg.pinv(h_ku).astype(np.float32)
    order = np.argsort(-share_k, kind="stable")
    order = order[(share_k[order] > LEAST_SHARE) & (np.abs(readout_uk).max(axis=0) > 0)[order]]
    if not len(order):
        raise InputError(
            "The layer is 0 wherever it was looked at, so it has no factors; name another with "
            "--layer."
        )
    return readout_uk[:, order], share_k[order]


def _ridge(own_nu: np.ndarray, has_n: np.ndarray, name: str) -> Float32[np.ndarray, " u"]:
    from sklearn.linear_model import RidgeCV

    spread_u = own_nu.std(axis=0)
    varies_u = spread_u > 1e-12 * float(np.abs(own_nu).max(initial=0))
    if not varies_u.any():
        raise InputError(f"No unit of the layer varies over the images of {name!r}.")
    scale_u = np.where(varies_u, spread_u, 1.0)
    plain_nu = (own_nu - own_nu.mean(axis=0)) / scale_u * varies_u
    fitted = RidgeCV(alphas=[p * len(own_nu) for p in PENALTIES]).fit(plain_nu, has_n.astype(float))
    weight_u = fitted.coef_ / scale_u * varies_u
    return (weight_u / max(float(np.linalg.norm(weight_u)), 1e-30)).astype(np.float32)


def _areas(score_nk: np.ndarray, has_n: np.ndarray) -> Float64[np.ndarray, " k"]:
    judged = Judged(
        np.ascontiguousarray(score_nk.T, np.float32), Columns(has_n[:, None].astype(np.float64))
    )
    return np.asarray(AUROC.figures(judged), np.float64)[:, 0]


def _bounded(area: float, n_with: int, n_without: int) -> Bounded:
    low, high = auroc_interval(np.asarray(area), n_with, n_without)
    return Bounded(area, float(low), float(high))
