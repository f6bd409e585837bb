"""Pairs of images that differ in one artefact, whoever made them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool
from PIL import Image

VERSIONS = ("without", "neutral", "with")
"""Of a photograph, in the order in which they are shown."""

Triple = tuple[Image.Image, Image.Image, Image.Image | None]
"""Without the artefact, with it, and with something neutral in its place; all RGB of one size."""


@runtime_checkable
class ImagePairs(Protocol):
    """The same photographs with and without one artefact at a time.

    Attributes:
        name: what they are, in words.
        table: one row a pair: ``artefact``, ``file`` (the photograph) and ``group`` (what
            photographs share, such as a lesion or a patient; None where not known).
        fingerprint: sha256 of everything that decides the pixels.
    """

    name: str
    table: pd.DataFrame
    fingerprint: str

    def images(self, row: int) -> Triple:
        """The images of one row; the third is None where there is no neutral one."""
        ...


VISIBLE = 20
"""A pixel shows an artefact if a colour changes by more than so many of 255 levels."""


def mask_of(pairs: ImagePairs, row: int) -> Bool[np.ndarray, "h w"]:
    """Where the artefact of a pair is: as its maker says, else where both versions differ."""
    exact = getattr(pairs, "mask", None)
    if exact is not None:
        return exact(row)
    without, with_it, _ = pairs.images(row)
    change_hwc = np.asarray(with_it, np.int16) - np.asarray(without, np.int16)
    return np.abs(change_hwc).max(axis=-1) > VISIBLE
