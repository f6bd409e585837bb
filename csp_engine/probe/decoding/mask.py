"""Masks: pictures that say of each pixel whether it belongs to something."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Bool
from PIL import Image

from csp_engine.errors import UnreadableImageError
from csp_engine.probe.decoding.picture import FORMATS, decode


def decode_mask(content: bytes) -> Bool[np.ndarray, "height width"]:
    """Which pixels a mask holds.

    Of two values the higher one holds, however dark it looks, for programs write 0 and 1 as well as
    0 and 255, and palettes of any colours. Of more values, as at soft edges, those above 127 do.

    Raises:
        UnreadableImageError: if it does not decode, or numbers several things in one picture.
    """
    grey_hw = np.asarray(decode(content).convert("L"))
    values = np.unique(grey_hw)
    if len(values) == 1:  # 0 and 1 of 16 bits, or two colours of a palette that are as bright
        grey_hw = _numbers(content, grey_hw)
        values = np.unique(grey_hw)
    if len(values) == 1:
        return np.full(grey_hw.shape, values[0] == 1 or values[0] > 127)
    if len(values) == 2:
        return grey_hw == values[1]
    if values[-1] <= 127:
        few = ", ".join(map(str, values[:4]))
        raise UnreadableImageError(
            f"The mask holds {len(values)} values ({few} …), which number several things; save "
            "one of them as 0 and 255."
        )
    return grey_hw > 127


def _numbers(content: bytes, grey_hw: np.ndarray) -> np.ndarray:
    """The numbers that the file keeps for pixels, where it has one for each; else as they look."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            found = np.asarray(image) if image.mode in ("P", "I;16", "I;16B", "I") else grey_hw
    except (OSError, ValueError):
        return grey_hw
    return found if found.shape == grey_hw.shape else grey_hw
