"""Rows of unit length, in the two ways that are needed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32

VANISHED = 1e-5
"""A weighted mean of unit vectors shorter than this is rounding, not a direction."""
UNIT = 1e-2
"""How far a length may be from 1: vectors may have been made in half precision."""


def normalise_rows(x_nd: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """Bring every row to unit length; rows of zeros stay zero.

    Lengths are taken in float64, so that neither tiny nor huge rows are lost on the way.
    """
    exact_nd = x_nd.astype(np.float64)
    length_n = np.sqrt(np.einsum("nd,nd->n", exact_nd, exact_nd))
    length_n[length_n == 0] = 1.0
    return (exact_nd / length_n[:, None]).astype(np.float32)


def is_unit(x_nd: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """Which rows have length 1, as far as half precision tells; none that is not finite has."""
    with np.errstate(over="ignore", invalid="ignore"):
        exact_nd = x_nd.astype(np.float64)
        length_n = np.sqrt(np.einsum("nd,nd->n", exact_nd, exact_nd))
        return np.abs(length_n - 1) < UNIT


def fault(vector_d: Float[np.ndarray, " d"]) -> str:
    """What is wrong with a vector that should have length 1."""
    if not np.isfinite(vector_d).all():
        return "that is not finite"
    return f"of length {np.linalg.norm(vector_d.astype(np.float64)):.3g} instead of 1"


def directions(x_nd: Float[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    """The direction of sums of unit vectors: unit rows, or zero where hardly anything is left.

    What is shorter than ``VANISHED`` is the rounding error of a sum that cancels out, which must
    not become a direction.
    """
    norm_n = np.linalg.norm(x_nd, axis=1, keepdims=True)
    unit_nd = x_nd / np.where(norm_n > VANISHED, norm_n, 1)
    unit_nd[norm_n[:, 0] <= VANISHED] = 0
    return unit_nd.astype(np.float32, copy=False)
