"""What each unit does over the probe set: its strongest images, its statistics, honest samples.

Activations come neuron-major, ``(u, n)``, as bundles store them. Every function works on any run of
units and treats each unit by itself, so results do not depend on how a layer is cut into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64

from csp_engine.errors import InputError
from csp_engine.evidence.ascending import ascending
from csp_engine.types import Exemplars

QUANTILE_LEVELS = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
"""Levels of ``UnitStatistics.quantile_uq``."""

ACTIVE_ABOVE = 1e-6
"""An activation counts as active above this, a unit as dead if no magnitude exceeds it.

The published code of CSP uses the same number to count a neuron's active images.
"""

# Units whose rows are copied at once while selecting: bounds the working memory, changes no result.
_BLOCK_VALUES = 8_000_000

# Two streams of random numbers per unit must not be the same stream.
_STRATIFIED, _RANDOM = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class UnitStatistics:
    """How a unit is distributed over the probe set.

    ``std_u`` divides by n. ``density_u`` is the share of images with an activation above
    ``ACTIVE_ABOVE``. ``quantile_uq`` interpolates linearly between order statistics at
    ``QUANTILE_LEVELS``. ``histogram_ub`` counts images in equal-width bins from minimum to maximum
    (each bin holds its lower edge, the last one both); a constant unit has all counts in bin 0.
    """

    n_image: int
    mean_u: Float32[np.ndarray, " u"]
    std_u: Float32[np.ndarray, " u"]
    min_u: Float32[np.ndarray, " u"]
    max_u: Float32[np.ndarray, " u"]
    density_u: Float32[np.ndarray, " u"]
    is_dead_u: Bool[np.ndarray, " u"]
    is_dense_u: Bool[np.ndarray, " u"]
    is_constant_u: Bool[np.ndarray, " u"]
    never_positive_u: Bool[np.ndarray, " u"]
    quantile_uq: Float32[np.ndarray, "u q"]
    histogram_ub: Int32[np.ndarray, "u b"]


def rank_exemplars(
    acts_un: Float32[np.ndarray, "u n"],
    n_exemplars: int,
    *,
    first_unit: int = 0,
    copy_of_n: Int32[np.ndarray, " n"] | None = None,
) -> Exemplars:
    """The images that activate each unit most, strongest first, ties to the lower image id.

    Exact in float32 and for any sign. Only images strictly above the unit's minimum qualify: a
    constant unit has none, and a unit that is silent (0) on most images never shows a silent one.

    Args:
        acts_un: activations of a run of units.
        n_exemplars: ranks per unit; rows with fewer qualifying images have a smaller ``count_u``.
        first_unit: number of the first row within its layer, for messages.
        copy_of_n: for each image the lowest with the same content; of such copies only that one
            qualifies. Without it all do, as in the published code.

    Raises:
        InputError: if ``n_exemplars`` < 1, there is no image, or an activation is not finite.
    """
    if n_exemplars < 1:
        raise InputError(f"{n_exemplars} exemplars per unit is too few; ask for at least 1.")
    if copy_of_n is not None:
        first_m = np.flatnonzero(copy_of_n == np.arange(len(copy_of_n))).astype(np.int32)
        if len(first_m) < len(copy_of_n):
            among = rank_exemplars(acts_un[:, first_m], n_exemplars, first_unit=first_unit)
            is_there_uk = np.arange(n_exemplars) < among.count_u[:, None]
            image_uk = np.where(is_there_uk, first_m[among.image_uk], 0).astype(np.int32)
            return replace(among, image_uk=image_uk)
    n_units, n_images = acts_un.shape
    _require_images(n_images)
    image_uk = np.zeros((n_units, n_exemplars), np.int32)
    activation_uk = np.zeros((n_units, n_exemplars), np.float32)
    count_u = np.zeros(n_units, np.int32)
    n_wanted = min(n_exemplars, n_images)
    step = max(1, _BLOCK_VALUES // n_images)
    for start in range(0, n_units, step):
        acts_bn = np.asarray(acts_un[start : start + step])
        _require_finite(acts_bn, first_unit + start)
        for unit, acts_n in enumerate(acts_bn, start):
            image_m = _strongest(acts_n, n_wanted)
            count = len(image_m)
            image_uk[unit, :count] = image_m
            activation_uk[unit, :count] = acts_n[image_m]
            count_u[unit] = count
    return Exemplars(image_uk, activation_uk, count_u)


def unit_statistics(
    acts_un: Float32[np.ndarray, "u n"],
    *,
    dense_at: float = 0.99,
    n_bins: int = 32,
    first_unit: int = 0,
) -> UnitStatistics:
    """Moments, range, density, exact quantiles, histogram of each unit, and what is odd about it.

    Sums run in float64 over sorted values, so the order of the images does not matter at all.

    Args:
        acts_un: activations of a run of units.
        dense_at: a unit active on at least this share of images is dense.
        n_bins: bins of the histogram.
        first_unit: number of the first row within its layer, for messages.

    Raises:
        InputError: if there is no image, no bin, or an activation is not finite.
    """
    if n_bins < 1:
        raise InputError(f"A histogram with {n_bins} bins is empty; ask for at least 1.")
    n_units, n_images = acts_un.shape
    _require_images(n_images)
    mean_u, std_u, min_u, max_u, density_u = (np.empty(n_units, np.float32) for _ in range(5))
    peak_u = np.empty(n_units, np.float32)
    quantile_uq = np.empty((n_units, len(QUANTILE_LEVELS)), np.float32)
    histogram_ub = np.empty((n_units, n_bins), np.int32)
    for unit in range(n_units):
        acts_n = np.asarray(acts_un[unit])
        _require_finite(acts_n[None], first_unit + unit)
        sorted_n = ascending(acts_n).astype(np.float64)
        lowest, highest = sorted_n[0], sorted_n[-1]
        # Taken about the minimum, a constant unit has exactly its value as mean and 0 as deviation.
        above_n = sorted_n - lowest
        above = above_n.mean()
        mean_u[unit] = lowest + above
        std_u[unit] = np.sqrt(np.mean((above_n - above) ** 2))
        min_u[unit], max_u[unit] = lowest, highest
        peak_u[unit] = max(-lowest, highest)
        density_u[unit] = 1 - np.searchsorted(sorted_n, ACTIVE_ABOVE, side="right") / n_images
        quantile_uq[unit] = _quantiles(sorted_n)
        histogram_ub[unit] = _histogram(sorted_n, n_bins)
    return UnitStatistics(
        n_image=n_images,
        mean_u=mean_u,
        std_u=std_u,
        min_u=min_u,
        max_u=max_u,
        density_u=density_u,
        is_dead_u=peak_u <= ACTIVE_ABOVE,
        is_dense_u=density_u >= np.float32(dense_at),
        is_constant_u=min_u == max_u,
        never_positive_u=max_u <= 0,
        quantile_uq=quantile_uq,
        histogram_ub=histogram_ub,
    )


def stratified_samples(
    acts_un: Float32[np.ndarray, "u n"],
    *,
    n_strata: int = 10,
    per_stratum: int = 3,
    seed: int,
    first_unit: int = 0,
) -> tuple[
    Int32[np.ndarray, "u s"],
    Float32[np.ndarray, "u s"],
    Int32[np.ndarray, " s"],
]:
    """Images from every part of each unit's range, not only the top: the honest view of a neuron.

    Images are ranked by activation, weakest first; band ``b`` of ``B`` holds the ranks
    ``floor(b n / B) … floor((b + 1) n / B) - 1``, and each band gives ``per_stratum`` different
    images at random. Images of equal activation take the ranks they share in random order (a unit
    that is silent on most images must not show the first of them by id). No image comes twice; with
    fewer images than asked for there are fewer bands, then fewer images per band.

    Args:
        acts_un: activations of a run of units.
        n_strata: bands.
        per_stratum: images per band.
        seed: together with the unit's number within its layer it fixes the draw.
        first_unit: number of the first row within its layer.

    Returns:
        Image ids, their activations, and the band of each column, bands from weakest to strongest.

    Raises:
        InputError: if a count is below 1, there is no image, or an activation is not finite.
    """
    if n_strata < 1 or per_stratum < 1:
        raise InputError(
            f"Cannot sample {per_stratum} images from {n_strata} bands; both must be at least 1."
        )
    n_units, n_images = acts_un.shape
    _require_images(n_images)
    n_strata = min(n_strata, n_images)
    per_stratum = min(per_stratum, n_images // n_strata)
    edge = [band * n_images // n_strata for band in range(n_strata + 1)]
    image_us = np.empty((n_units, n_strata * per_stratum), np.int32)
    activation_us = np.empty(image_us.shape, np.float32)
    for unit in range(n_units):
        acts_n = np.asarray(acts_un[unit])
        _require_finite(acts_n[None], first_unit + unit)
        rng = np.random.default_rng([seed, first_unit + unit, _STRATIFIED])
        rank_s = np.concatenate(
            [
                low + np.sort(rng.choice(high - low, per_stratum, replace=False))
                for low, high in pairwise(edge)
            ]
        )
        image_us[unit] = _images_at_ranks(acts_n, rank_s, rng)
        activation_us[unit] = acts_n[image_us[unit]]
    stratum_s = np.repeat(np.arange(n_strata, dtype=np.int32), per_stratum)
    return image_us, activation_us, stratum_s


def random_samples(
    acts_un: Float32[np.ndarray, "u n"],
    *,
    n_random: int = 30,
    seed: int,
    first_unit: int = 0,
) -> tuple[Int32[np.ndarray, "u s"], Float32[np.ndarray, "u s"]]:
    """Different images drawn uniformly for each unit, all of them where there are fewer than asked.

    Args:
        acts_un: activations of a run of units.
        n_random: images per unit.
        seed: together with the unit's number within its layer it fixes the draw.
        first_unit: number of the first row within its layer.

    Returns:
        Image ids and their activations.

    Raises:
        InputError: if ``n_random`` < 1 or there is no image.
    """
    if n_random < 1:
        raise InputError(f"Cannot sample {n_random} random images; ask for at least 1.")
    n_units, n_images = acts_un.shape
    _require_images(n_images)
    image_us = np.empty((n_units, min(n_random, n_images)), np.int32)
    for unit in range(n_units):
        rng = np.random.default_rng([seed, first_unit + unit, _RANDOM])
        image_us[unit] = rng.choice(n_images, image_us.shape[1], replace=False)
    return image_us, np.take_along_axis(np.asarray(acts_un), image_us.astype(np.int64), axis=1)


def _strongest(acts_n: Float32[np.ndarray, " n"], n_wanted: int) -> Int64[np.ndarray, " m"]:
    """The images strictly above the minimum, strongest first, ties by id; at most ``n_wanted``."""
    lowest = acts_n.min()
    floor = max(lowest, np.float32(0))
    image_m = np.flatnonzero(acts_n > floor)
    if len(image_m) < n_wanted and floor > lowest:
        image_m = np.flatnonzero(acts_n > lowest)
    value_m = acts_n[image_m]
    if len(image_m) > n_wanted:
        # The value at the last rank is found without sorting; everything at or above it then gets
        # a stable sort. Cutting by argpartition's indices instead would pick arbitrary images
        # among those that tie across that rank.
        last = np.partition(value_m, len(value_m) - n_wanted)[len(value_m) - n_wanted]
        is_near_m = value_m >= last
        image_m, value_m = image_m[is_near_m], value_m[is_near_m]
    return image_m[np.argsort(-value_m, kind="stable")[:n_wanted]]


def _quantiles(sorted_n: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " q"]:
    place_q = np.asarray(QUANTILE_LEVELS) * (len(sorted_n) - 1)
    return np.interp(place_q, np.arange(len(sorted_n)), sorted_n)


def _histogram(sorted_n: Float64[np.ndarray, " n"], n_bins: int) -> Int64[np.ndarray, " b"]:
    count_b = np.zeros(n_bins, np.int64)
    lowest, highest = sorted_n[0], sorted_n[-1]
    if lowest == highest:
        count_b[0] = len(sorted_n)
        return count_b
    inner_edge = np.linspace(lowest, highest, n_bins + 1)[1:-1]
    below = np.searchsorted(sorted_n, inner_edge, side="left")
    return np.diff(np.concatenate([[0], below, [len(sorted_n)]]))


def _images_at_ranks(
    acts_n: Float32[np.ndarray, " n"], rank_s: Int64[np.ndarray, " s"], rng: np.random.Generator
) -> Int64[np.ndarray, " s"]:
    """The images at distinct ranks from the weakest, equal activations in random order."""
    value_s = ascending(acts_n)[rank_s]
    image_s = np.empty(len(rank_s), np.int64)
    for value in np.unique(value_s):
        is_here_s = value_s == value
        run = np.flatnonzero(acts_n == value)
        n_here = int(is_here_s.sum())
        image_s[is_here_s] = run if len(run) == 1 else rng.choice(run, n_here, replace=False)
    return image_s


def _require_images(n_images: int) -> None:
    if n_images < 1:
        raise InputError("There are no activations: the probe set has no images.")


def _require_finite(acts_bn: Float32[np.ndarray, "b n"], first_unit: int) -> None:
    # A sum is finite unless an element is not, or it overflows; so the costly test is rare.
    if np.isfinite(acts_bn.sum(dtype=np.float64)):
        return
    bad_b = ~np.isfinite(acts_bn).all(axis=1)
    if bad_b.any():
        raise InputError(
            f"The layer gives non-finite values in unit {first_unit + int(bad_b.argmax())}; check "
            "the weights and the preprocessing of the target model."
        )
