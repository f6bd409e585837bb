"""Clarity: how alike the exemplars of a neuron are.

As in SemanticLens (Dreyer et al., Nature Machine Intelligence 2025), on unit-length embeddings.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

from csp_engine.audits.statistic import Measured, Seen, Statistic


def clarity(
    exemplar_ukd: Float32[np.ndarray, "u k d"], mask_uk: Bool[np.ndarray, "u k"]
) -> Float32[np.ndarray, " u"]:
    """How alike a unit's exemplars are: the mean cosine over all pairs of different exemplars.

    ``(m ||mean_i v_i||^2 - 1) / (m - 1)`` for m unit rows, in [-1/(m-1), 1]. NaN below two.

    Args:
        exemplar_ukd: unit rows, zero where the mask is false.
        mask_uk: which exemplars exist.
    """
    m_u = np.count_nonzero(mask_uk, axis=1)
    square_u = np.square(exemplar_ukd.sum(axis=1, dtype=np.float64)).sum(axis=1)
    is_defined = m_u >= 2
    m_u = np.maximum(m_u, 2)
    value_u = (square_u / m_u - 1) / (m_u - 1)
    return np.where(is_defined, value_u, np.nan).astype(np.float32)


def measure(seen: Seen) -> Measured:
    """Of a block of units."""
    return {"clarity": clarity(seen.exemplar_ukd, seen.mask_uk)}


CLARITY = Statistic(
    name="clarity",
    title="Clarity",
    meaning="Mean cosine between exemplars: high means that they look alike.",
    measure=measure,
    low=-1,
    high=1,
    term="clarity",
    order=10,
    is_together=True,
)
