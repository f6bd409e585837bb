"""Where the lesion is in a photograph of skin, roughly: what a paste has to leave free."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from PIL import Image
from scipy import ndimage

from csp_engine.stats.otsu import otsu

_SIDE = 96
_BLACK = 40
_LEAST_PIXELS = 12


def find_lesion(image: Image.Image) -> Bool[np.ndarray, "height width"]:
    """The lesion as a mask of the image's size; all False where nothing stands out.

    How much darker and more coloured each place is than skin as bright as most of the picture;
    Otsu's threshold divides that. Black corners do not count. Of the parts, the one that is
    largest and nearest to the middle is the lesion, with those close to it, filled and a little
    wider than it looks.
    """
    width, height = image.size
    factor = _SIDE / min(width, height)
    small_size = (max(8, round(width * factor)), max(8, round(height * factor)))
    small = image.convert("RGB").resize(small_size, Image.Resampling.BOX)
    rgb_hwc = ndimage.gaussian_filter(np.asarray(small, np.float32), (1.5, 1.5, 0))
    black_hw = _black_borders(rgb_hwc.max(axis=2))
    seen_hw = ~black_hw
    if seen_hw.sum() < _LEAST_PIXELS:
        return np.zeros((height, width), bool)
    # Green and blue fall most where there is pigment or blood.
    light_hw = rgb_hwc @ np.array([0.2, 0.5, 0.3], np.float32)
    colour_hw = rgb_hwc.max(axis=2) - rgb_hwc.min(axis=2)
    dark_hw = np.percentile(light_hw[seen_hw], 80) - light_hw
    stands_hw = dark_hw + 0.4 * (colour_hw - np.median(colour_hw[seen_hw]))
    stands_hw = np.where(seen_hw, stands_hw, stands_hw[seen_hw].min())
    found_hw = (stands_hw > otsu(stands_hw[seen_hw])) & seen_hw
    chosen_hw = _nearest_and_largest(ndimage.binary_opening(found_hw, iterations=2))
    chosen_hw = ndimage.binary_fill_holes(ndimage.binary_dilation(chosen_hw, iterations=2))
    full = Image.fromarray(chosen_hw).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(full, bool)


def _black_borders(value_hw: np.ndarray) -> np.ndarray:
    """Black that reaches the border of the picture, and what lies just inside of it."""
    label_hw, _ = ndimage.label(value_hw < _BLACK)
    border = np.concatenate([label_hw[0], label_hw[-1], label_hw[:, 0], label_hw[:, -1]])
    black_hw = np.isin(label_hw, np.unique(border[border > 0]))
    return ndimage.binary_dilation(black_hw, iterations=4)


def _nearest_and_largest(found_hw: np.ndarray) -> np.ndarray:
    """The part that weighs most, the middle of the picture counting most, and parts beside it."""
    label_hw, n = ndimage.label(found_hw)
    if n == 0:
        return found_hw
    height, width = found_hw.shape
    y_hw, x_hw = np.mgrid[:height, :width]
    off_hw = ((x_hw - width / 2) / width) ** 2 + ((y_hw - height / 2) / height) ** 2
    weights = ndimage.sum_labels(np.exp(-off_hw / 0.06), label_hw, np.arange(1, n + 1))
    main_hw = label_hw == 1 + int(np.argmax(weights))
    near_hw = ndimage.binary_dilation(main_hw, iterations=6)
    return np.isin(label_hw, np.unique(label_hw[near_hw & (label_hw > 0)]))
