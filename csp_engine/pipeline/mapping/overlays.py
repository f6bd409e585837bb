"""Overlays of a neuron's maps for the pictures that a bundle shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float32
from PIL import Image
from scipy import ndimage

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.attributing.geometry import Frame, frame_of, onto_picture
from csp_engine.networks.attributing.neuron_maps import NeuronMaps
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.models import TargetModel
from csp_engine.pipeline.mapping.neuron_pixels import evidence_pixels, pictures
from csp_engine.types import Progress, silent

N_EVIDENCE = 16
"""Exemplars, and contrast images, that COCOA compares."""
N_SCALE = 4
"""Exemplars that set the scale of a neuron's maps."""
MOST_OFF = 0.25
"""How far a neuron may fire off on thumbnails, as a share of what it does on the photographs."""
DARKEST = 0.72
"""How dark a place gets at which the map is 0."""
HALF = 0.5


class NeuronOverlays:
    """Maps of one neuron over thumbnails, all on one scale, so that images can be compared."""

    def __init__(self, bundle: Bundle, model: TargetModel, tap: LayerTap, unit: int) -> None:
        self.bundle = bundle
        self.model = model
        self.tap = tap
        self.unit = unit
        corpus, foil = evidence_pixels(bundle, model, str(tap.id), unit, N_EVIDENCE)
        if not len(corpus):
            raise InputError(
                f"{model.name}/{tap.id}/{unit} has no exemplars, so there is nothing to map."
            )
        self.maps = NeuronMaps(model, tap, unit, corpus, foil)
        self._scales: dict[str, float] = {}
        self._frames: dict[tuple[int, int], Frame] = {}

    @cached_property
    def off(self) -> float:
        """How far the neuron fires off on thumbnails, as a share of its exemplars' activations."""
        exemplars = self.bundle.exemplars(self.model.name, str(self.tap.id))
        kept_k = exemplars.activation_uk[self.unit, : len(self.maps.corpus)]
        with ActivationRecorder(self.model, [self.tap]) as recorder:
            now_k = recorder(self.maps.corpus)[str(self.tap.id)][:, self.unit]
        return float(np.abs(now_k - kept_k).mean() / max(np.abs(kept_k).mean(), 1e-12))

    def require_alike(self) -> None:
        """Refuse a neuron whose thumbnails are not what it saw.

        Raises:
            InputError: if it fires otherwise there.
        """
        if self.off > MOST_OFF:
            raise InputError(
                f"On the thumbnails that the bundle keeps this neuron fires {self.off:.0%} off "
                "what it did on the photographs, so a map of them would be of something else."
            )

    def raw(
        self, name: str, images: Sequence[int], progress: Progress = silent
    ) -> list[Float32[np.ndarray, "y x"]]:
        """Maps over thumbnails, 1 being what is usual for the largest place of an exemplar."""
        return self.over(name, pictures(self.bundle, images), progress)

    def over(
        self, name: str, shown: Sequence[Image.Image], progress: Progress = silent
    ) -> list[Float32[np.ndarray, "y x"]]:
        """The same over any pictures, RGB, such as changed ones."""
        pixels = np.stack([self.model.preprocess(picture) for picture in shown])
        scale = self._scale(name)
        found = self.maps.of(pixels, name, progress=progress)
        return [
            onto_picture(map_hw / np.float32(scale), self._frame(picture))[0]
            for map_hw, picture in zip(found, shown, strict=True)
        ]

    def of(self, name: str, images: Sequence[int]) -> list[bytes]:
        """WebP files that darken what the map leaves out, a line where it is half."""
        return [overlay(map_yx) for map_yx in self.raw(name, images)]

    def pictures(
        self, name: str, images: Sequence[int], progress: Progress = silent
    ) -> list[Image.Image]:
        """The thumbnails with their overlays."""
        return [
            shaded(picture, map_yx)
            for picture, map_yx in zip(
                pictures(self.bundle, images), self.raw(name, images, progress), strict=True
            )
        ]

    def _scale(self, name: str) -> float:
        """The mean over the strongest exemplars of the largest value of each map."""
        if name not in self._scales:
            found = self.maps.of(self.maps.corpus[:N_SCALE], name)
            self._scales[name] = max(float(found.max(axis=(1, 2)).mean()), 1e-12)
        return self._scales[name]

    def _frame(self, picture: Image.Image) -> Frame:
        if picture.size not in self._frames:
            self._frames[picture.size] = frame_of(self.model.preprocess, *picture.size)
        return self._frames[picture.size]


def overlay(map_yx: Float32[np.ndarray, "y x"]) -> bytes:
    """A black WebP picture, clear where the map is 1 or more, a white line where it is half."""
    buffer = io.BytesIO()
    _shade(map_yx).save(buffer, "WEBP", quality=70, alpha_quality=80, method=1)
    return buffer.getvalue()


def shaded(picture: Image.Image, map_yx: Float32[np.ndarray, "y x"]) -> Image.Image:
    """A picture under such an overlay."""
    return Image.alpha_composite(picture.convert("RGBA"), _shade(map_yx)).convert("RGB")


def _shade(map_yx: np.ndarray) -> Image.Image:
    value = map_yx.clip(0, 1)
    alpha = 255 * DARKEST * (1 - value)
    is_inside = value >= HALF
    is_line = is_inside & ~ndimage.binary_erosion(is_inside, border_value=1)
    rgba = np.zeros((*value.shape, 4), np.uint8)
    rgba[..., 3] = np.round(alpha)
    rgba[is_line] = (255, 255, 255, 230)
    return Image.fromarray(rgba, "RGBA")
