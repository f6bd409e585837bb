"""What CSP takes from one exemplar, before weights: the formula of the paper, pair by pair."""

from __future__ import annotations

import numpy as np


def contrast_residuals(
    exemplar_ukd: np.ndarray,
    contrast_ukd: np.ndarray,
    gamma: int | float,
) -> np.ndarray:
    """Take from each exemplar what it shares with its contrast image.

    ``r = p - gamma <p, n> n`` for unit rows p (exemplar) and n (contrast image). Rows are not
    normalised again: at gamma = 1 an exemplar that equals its contrast image counts for nothing.

    Args:
        exemplar_ukd: unit rows.
        contrast_ukd: unit rows, or zero rows where an exemplar has no contrast image.
        gamma: in [0, 1]; 0 returns the exemplars unchanged.
    """
    s_uk = np.einsum("ukd,ukd->uk", exemplar_ukd, contrast_ukd)
    return exemplar_ukd - np.float32(gamma) * s_uk[..., None] * contrast_ukd
