"""What a unit looks at in its exemplars: the rest of a picture is grey, most of it cut off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.attributing.geometry import Frame, frame_of, onto_picture
from csp_engine.networks.attributing.neuron_maps import own_maps
from csp_engine.networks.attributing.places import grid_of
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.models import TargetModel
from csp_engine.pipeline.mapping.neuron_pixels import pictures
from csp_engine.pipeline.mapping.overlays import HALF, MOST_OFF

GREY = 127
MARGIN = 0.06
"""Left around what is kept, as a share of the picture's longer side."""
LEAST = 0.3
"""A crop is at least so large in each direction, as a share of the picture."""


def looked_at(map_yx: Float32[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Places where a map is at least half of its largest value; all where nothing is above 0."""
    most = float(map_yx.max())
    return map_yx >= HALF * most if most > 0 else np.ones(map_yx.shape, bool)


def cropped(picture: Image.Image, map_yx: Float32[np.ndarray, "y x"]) -> Image.Image:
    """The part of a picture that a map points at, grey where it does not."""
    mask_yx = looked_at(map_yx)
    pixels = np.where(mask_yx[..., None], np.asarray(picture.convert("RGB")), np.uint8(GREY))
    margin = MARGIN * max(picture.size)
    spans = []
    for axis, side in ((0, picture.width), (1, picture.height)):
        kept = np.flatnonzero(mask_yx.any(axis=axis))
        low, high = kept[0] - margin, kept[-1] + 1 + margin
        missing = max(0.0, LEAST * side - (high - low)) / 2
        spans.append((max(0, round(low - missing)), min(side, round(high + missing))))
    (left, right), (top, bottom) = spans
    return Image.fromarray(pixels[top:bottom, left:right])


class Crops:
    """Crops of the thumbnails of a layer's exemplars, each by its unit's own activation map.

    Raises:
        InputError: if the layer has no places.
    """

    def __init__(self, bundle: Bundle, model: TargetModel, tap: LayerTap) -> None:
        grid_of(tap, model.input_shape)
        self.bundle = bundle
        self.model = model
        self.tap = tap
        self.n_whole = 0
        """Units that were shown whole pictures, because thumbnails are not what they saw."""
        self._frames: dict[tuple[int, int], Frame] = {}

    def of(self, unit: int, images: Sequence[int]) -> list[Image.Image]:
        """Crops of a unit's first exemplars, or whole pictures where it fires otherwise on them.

        That is where the activations on the thumbnails are off what was measured on the photographs
        by more than ``MOST_OFF`` of it, on average.
        """
        shown = pictures(self.bundle, images)
        pixels = np.stack([self.model.preprocess(picture) for picture in shown])
        exemplars = self.bundle.exemplars(self.model.name, str(self.tap.id))
        kept_k = np.asarray(exemplars.activation_uk[unit, : len(shown)])
        with ActivationRecorder(self.model, [self.tap]) as recorder:
            now_k = recorder(pixels)[str(self.tap.id)][:, unit]
        if np.abs(now_k - kept_k).mean() > MOST_OFF * max(np.abs(kept_k).mean(), 1e-12):
            self.n_whole += 1
            return shown
        found = own_maps(self.model, self.tap, unit, pixels)
        return [
            cropped(picture, onto_picture(map_hw, self._frame(picture))[0])
            for picture, map_hw in zip(shown, found, strict=True)
        ]

    def _frame(self, picture: Image.Image) -> Frame:
        if picture.size not in self._frames:
            self._frames[picture.size] = frame_of(self.model.preprocess, *picture.size)
        return self._frames[picture.size]
