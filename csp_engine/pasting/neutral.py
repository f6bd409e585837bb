"""Plain skin for the place of an artefact: what a control paste shows."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageFilter
from scipy import ndimage

_SIDE = 64
_WIDTHS = (2, 4, 8, 16, 32, 64)
_GRAIN = 2.5
_SHIFTS = 12


def neutral_texture(
    image_hwc: UInt8[np.ndarray, "height width 3"],
    left_out_hw: Bool[np.ndarray, "height width"],
    scale: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "height width 3"]:
    """Skin for every pixel: the mean colour around it, with the grain of skin from beside it.

    The colour comes from the nearest skin, by Gaussian means that grow until they see enough of
    it; the grain is what the photograph has beyond its own blur, moved here from where there is
    skin. The lesion and what the artefact will cover give neither.

    Args:
        image_hwc: the photograph.
        left_out_hw: what is not to be used: lesion and artefact.
        scale: pixels per unit, of which the shorter side has 256.
        rng: chooses from where the grain comes.
    """
    grow = max(1, round(4 * scale))
    left_out_hw = ndimage.maximum_filter(left_out_hw.astype(np.uint8), 2 * grow + 1) > 0
    return _colour(image_hwc, ~left_out_hw) + _grain(image_hwc, ~left_out_hw, scale, rng)


def _colour(image_hwc: np.ndarray, skin_hw: np.ndarray) -> np.ndarray:
    height, width = skin_hw.shape
    factor = _SIDE / min(height, width)
    size = (max(4, round(width * factor)), max(4, round(height * factor)))
    share_hw = _resized(skin_hw.astype(np.float32), size)
    summed_hwc = np.stack(
        [_resized(image_hwc[..., c] * skin_hw.astype(np.float32), size) for c in range(3)], -1
    )
    usual = image_hwc[skin_hw] if skin_hw.any() else image_hwc.reshape(-1, 3)
    filled_hwc = np.broadcast_to(usual.mean(axis=0), summed_hwc.shape).copy()
    for sigma in reversed(_WIDTHS):  # the narrowest that sees enough has the last word, softly
        seen_hw = ndimage.gaussian_filter(share_hw, sigma, mode="nearest")
        mean_hwc = ndimage.gaussian_filter(summed_hwc, (sigma, sigma, 0), mode="nearest")
        trust_hw1 = np.clip(seen_hw / 0.25, 0, 1)[..., None]
        mean_hwc /= np.maximum(seen_hw, 1e-6)[..., None]
        filled_hwc += trust_hw1 * (mean_hwc - filled_hwc)
    planes = [
        Image.fromarray(filled_hwc[..., c].astype(np.float32), "F").resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for c in range(3)
    ]
    return np.stack([np.asarray(plane) for plane in planes], -1)


def _resized(plane_hw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(plane_hw.astype(np.float32), "F")
    return np.asarray(image.resize(size, Image.Resampling.BOX))


def _grain(
    image_hwc: np.ndarray, skin_hw: np.ndarray, scale: float, rng: np.random.Generator
) -> np.ndarray:
    """The finest structure of skin, moved so that what is left out gets some too."""
    blur = Image.fromarray(image_hwc).filter(ImageFilter.GaussianBlur(max(1.0, _GRAIN * scale)))
    fine_hwc = (image_hwc.astype(np.float32) - np.asarray(blur, np.float32)) * skin_hw[..., None]
    height, width = skin_hw.shape
    lacks_hw = ~skin_hw
    best, most = (0, 0), -1
    for _ in range(_SHIFTS):
        shift = (int(rng.integers(height)), int(rng.integers(width)))
        n = int((lacks_hw & np.roll(skin_hw, shift, (0, 1))).sum())
        if n > most:
            best, most = shift, n
    return np.roll(fine_hwc, best, (0, 1))
