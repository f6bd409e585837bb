"""Sorting of activations that are mostly exactly zero, such as those of an autoencoder's latents.

Only what is not zero is sorted; the result is that of sorting everything.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

_LEAST_ZERO = 0.75
"""Share of zeros from which on it pays to set them aside."""


def ascending(acts_n: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """The activations, weakest first; -0 counts as 0."""
    is_other_n = acts_n != 0
    n_others = int(np.count_nonzero(is_other_n))
    if n_others > (1 - _LEAST_ZERO) * len(acts_n):
        return np.sort(acts_n)
    other_m = np.sort(acts_n[is_other_n])
    n_below = int(np.searchsorted(other_m, 0))
    sorted_n = np.zeros_like(acts_n)
    sorted_n[:n_below] = other_m[:n_below]
    sorted_n[len(sorted_n) - (n_others - n_below) :] = other_m[n_below:]
    return sorted_n
