"""Rows of unit length, in the two ways that are needed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

VANISHED = 1e-5
"""A weighted mean of unit vectors shorter than this is rounding, not a direction."""


def normalise_rows(x_nd: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Bring every row to unit length; rows of zeros stay zero.

    Lengths are taken in float64, so that neither tiny nor huge rows are lost on the way.
    """
    exact_nd = x_nd.astype(np.float64)
    length_n = np.sqrt(np.einsum("nd,nd->n", exact_nd, exact_nd))
    length_n[length_n == 0] = 1.0
    return (exact_nd / length_n[:, None]).astype(np.float32)


def directions(x_nd: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """The direction of sums of unit vectors: unit rows, or zero where hardly anything is left.

    What is shorter than ``VANISHED`` is the rounding error of a sum that cancels out, which must
    not become a direction.
    """
    norm_n = np.linalg.norm(x_nd, axis=1, keepdims=True)
    unit_nd = x_nd / np.where(norm_n > VANISHED, norm_n, 1)
    unit_nd[norm_n[:, 0] <= VANISHED] = 0
    return unit_nd.astype(np.float32, copy=False)
