"""Texts turned at random: as many directions, as long and as far apart, that mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64


@dataclass(frozen=True, slots=True, eq=False)
class Turning:
    """Texts as ``weight_tr @ frame_rd``, where the rows of the frame are orthonormal.

    With another frame at random they keep all lengths and angles among themselves and lose what
    they mean. The texts of an encoder that knows nothing of its images are one more such draw,
    whatever the images are like, and however near to one another the texts lie.
    """

    weight_tr: Float64[np.ndarray, "t r"]
    frame_rd: Float64[np.ndarray, "r d"]

    @classmethod
    def of(cls, text_td: Float[np.ndarray, "t d"]) -> Turning:
        """Factor texts whose mean was taken away; no rows of the frame where nothing is left."""
        left_tr, size_r, frame_rd = np.linalg.svd(text_td.astype(np.float64), full_matrices=False)
        kept = size_r > 1e-6 * max(float(size_r.max(initial=0)), 1e-9)
        return cls(left_tr[:, kept] * size_r[kept], frame_rd[kept])

    def scores(self, image_nd: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "t n"]:
        """What the texts themselves say of images."""
        return self.weight_tr @ (self.frame_rd @ image_nd.T)

    def turned(
        self, image_nd: Float64[np.ndarray, "n d"], n_draws: int, seed: int
    ) -> Iterator[Float64[np.ndarray, "t n"]]:
        """What the texts say when all are turned together, once for each draw."""
        rng = np.random.default_rng(seed)
        shape = (image_nd.shape[1], len(self.frame_rd))
        for _ in range(n_draws):
            frame_rd = np.linalg.qr(rng.normal(size=shape))[0].T
            yield self.weight_tr @ (frame_rd @ image_nd.T)
