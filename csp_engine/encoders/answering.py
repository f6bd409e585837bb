"""What an encoder says of images, refused where it says nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from csp_engine.errors import InputError
from csp_engine.types import Encoder
from csp_engine.vectors import fault, is_unit


def embedded(
    encoder: Encoder,
    pixels: Float32[np.ndarray, "n channel height width"],
    files: Sequence[str],
) -> Float32[np.ndarray, "n d"]:
    """The unit vectors of preprocessed images.

    Args:
        encoder: takes pixels.
        pixels: a batch.
        files: what to call each image.

    Raises:
        InputError: as ``answered``.
    """
    return answered(encoder, encoder.embed_images(pixels), files)


def answered(
    encoder: Encoder, vector_nd: np.ndarray, files: Sequence[str]
) -> Float32[np.ndarray, "n d"]:
    """What an encoder gave for images, if each vector has length 1.

    Raises:
        InputError: naming the first image whose vector has not, or is not finite.
    """
    is_unit_n = is_unit(vector_nd)
    if not is_unit_n.all():
        bad = int(is_unit_n.argmin())
        raise InputError(
            f"Encoder {encoder.spec} gives a vector {fault(vector_nd[bad])} for image "
            f"{files[bad]}; check its weights and preprocessing, or leave that image out."
        )
    return vector_nd.astype(np.float32, copy=False)
