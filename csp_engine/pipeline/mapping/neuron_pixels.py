"""The images of a neuron as its network takes them, from the thumbnails that a bundle keeps."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.networks.models import TargetModel


def pictures(bundle: Bundle, images: Sequence[int]) -> list[Image.Image]:
    """Thumbnails of probe images, RGB."""
    return [Image.open(io.BytesIO(bundle.thumbnail(int(image)))).convert("RGB") for image in images]


def thumbnail_pixels(bundle: Bundle, model: TargetModel, images: Sequence[int]) -> np.ndarray:
    """``(n, channel, height, width)`` of probe images; what their thumbnails lost is missing."""
    shown = [model.preprocess(picture) for picture in pictures(bundle, images)]
    return np.stack(shown) if shown else np.zeros((0, *model.input_shape), np.float32)


def evidence_pixels(
    bundle: Bundle, model: TargetModel, layer: str, unit: int, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The strongest exemplars of a neuron, and the nearest contrast image of each that has one."""
    exemplars, contrast = bundle.exemplars(model.name, layer), bundle.contrast(model.name, layer)
    corpus = exemplars.image_uk[unit, : min(n, int(exemplars.count_u[unit]))]
    is_paired_k = contrast.n_partner_uk[unit, : len(corpus)] > 0
    foil = contrast.image_ukj[unit, : len(is_paired_k), 0][is_paired_k]
    corpus, foil = (thumbnail_pixels(bundle, model, each.tolist()) for each in (corpus, foil))
    return corpus, foil
