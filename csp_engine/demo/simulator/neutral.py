"""The control of an artefact: the same shape in the same place, of neutral texture."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

GRAIN_RADIUS = 6
"""Detail finer than this, in pixels, is the grain that the paste keeps."""
EDGE_RADIUS = 1


def neutral(
    image_hwc: UInt8[np.ndarray, "h w c"],
    mask_hw: Bool[np.ndarray, "h w"],
    around_hw: Bool[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w c"]:
    """The photograph with a shape filled with the usual colour of its surroundings.

    The fill is the median colour of ``around`` without the shape, plus the photograph's own fine
    detail, with an edge of a pixel. It has the shape, size and place of an artefact, and nothing
    else of it; what it covers is covered alike.

    Args:
        image_hwc: the photograph without the artefact.
        mask_hw: where the artefact would be seen.
        around_hw: what counts as its surroundings, such as skin; where none of it is left, the
            whole photograph does.
    """
    free_hw = around_hw & ~mask_hw
    pixels = image_hwc[free_hw] if free_hw.any() else image_hwc.reshape(-1, image_hwc.shape[-1])
    colour = np.median(pixels, axis=0)
    blurred = np.asarray(
        Image.fromarray(image_hwc).filter(ImageFilter.GaussianBlur(GRAIN_RADIUS)), np.float32
    )
    fill_hwc = colour + image_hwc - blurred
    cover = Image.fromarray(mask_hw.astype(np.uint8) * 255)
    soft_hw = np.asarray(cover.filter(ImageFilter.GaussianBlur(EDGE_RADIUS)), np.float32) / 255
    mixed = image_hwc + soft_hw[..., None] * (fill_hwc - image_hwc)
    return np.floor(mixed.clip(0, 255) + 0.5).astype(np.uint8)
