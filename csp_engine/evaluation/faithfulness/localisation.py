"""Whether a map points at the thing: pointing game, overlap with an exact mask, and chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from csp_engine.evaluation.paired_effects import Bounded, count_groups, enough, mean_effect


@dataclass(frozen=True, slots=True)
class Pointed:
    """One map against one mask.

    Attributes:
        hit: the share of the places to which it points (those that tie) that lies on the mask or
            as near to it as is tolerated: 0 or 1 where one place is largest.
        overlap: intersection over union of the mask and as many of the map's largest pixels; ties
            count by their share.
        base: the share of the picture that counts as a hit, which is what a random place gets.
    """

    hit: float
    overlap: float
    base: float


def pointed(
    map_hw: Float32[np.ndarray, "h w"],
    mask_hw: Bool[np.ndarray, "h w"],
    place_m2: Float64[np.ndarray, "m 2"],
    tolerance: float = 0.0,
) -> Pointed:
    """Pointing game (Zhang et al. 2016) and overlap of a map with a mask of the same size.

    Overlap at the mask's own area needs no threshold, and a random map gets ``a / (2 - a)`` for a
    mask that covers the share a.

    Args:
        map_hw: the map.
        mask_hw: where the thing is.
        place_m2: x and y of the places to which the map points, in pixels; what lies outside of
            the picture misses.
        tolerance: pixels beside the mask that still count as a hit; overlap knows none.

    Raises:
        ValueError: if they differ in shape, or the mask is empty.
    """
    if map_hw.shape != mask_hw.shape or not mask_hw.any():
        raise ValueError(f"a map of {map_hw.shape}, and a mask of {mask_hw.shape} or empty")
    is_hit_hw = mask_hw
    if tolerance > 0:
        is_hit_hw = ndimage.distance_transform_edt(~mask_hw) <= tolerance
    x_m, y_m = np.floor(place_m2).astype(int).T
    height, width = mask_hw.shape
    is_inside_m = (x_m >= 0) & (x_m < width) & (y_m >= 0) & (y_m < height)
    hit = float(is_hit_hw[y_m[is_inside_m], x_m[is_inside_m]].sum() / len(place_m2))
    n_mask = int(mask_hw.sum())
    value = map_hw.ravel()
    level = np.partition(value, len(value) - n_mask)[len(value) - n_mask]
    is_above_hw, is_level_hw = map_hw > level, map_hw == level
    # Of those that tie at the level, as many as are left, each as likely.
    n_left = n_mask - int(is_above_hw.sum())
    share = n_left / int(is_level_hw.sum())
    shared = float(mask_hw[is_above_hw].sum()) + share * float(mask_hw[is_level_hw].sum())
    return Pointed(hit, shared / (2 * n_mask - shared), float(is_hit_hw.mean()))


@dataclass(frozen=True, slots=True)
class Beaten:
    """How often maps point at the thing, beside one control on the same photographs."""

    rate: Bounded
    control: Bounded
    difference: Bounded

    @property
    def is_better(self) -> bool:
        """Whether the maps point at it more often than the control, beyond chance."""
        return self.difference.low > 0


def beaten(
    rate_n: np.ndarray, control_n: np.ndarray, photograph_n: np.ndarray, seed: int = 0
) -> Beaten:
    """Compare two rates on the same photographs; intervals are bootstrapped over their groups.

    There is none where the groups are too few for one.
    """
    rate_n, control_n = (np.asarray(each, np.float64) for each in (rate_n, control_n))
    n_groups = count_groups(photograph_n)
    rate, control, difference = (
        enough(mean_effect(each_n, photograph_n, seed), n_groups)
        for each_n in (rate_n, control_n, rate_n - control_n)
    )
    return Beaten(rate, control, difference)
