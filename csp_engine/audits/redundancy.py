"""Redundancy: whether another neuron of the layer is about the same.

As in SemanticLens (Dreyer et al., Nature Machine Intelligence 2025), on unit-length embeddings, but
kept for each neuron instead of averaged over the layer.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32

from csp_engine.audits.statistic import Measured, Seen, Statistic


def redundancy(
    vector_ud: Float32[np.ndarray, "u d"], *, unit_block: int = 1024
) -> tuple[Int32[np.ndarray, " u"], Float32[np.ndarray, " u"]]:
    """The other unit of the layer whose concept vector is nearest, ties to the lower number.

    Args:
        vector_ud: concept vectors of any length; a zero row has no concept and is nobody's nearest.
        unit_block: units at a time.

    Returns:
        The nearest other unit and its cosine. Where there is no other unit to compare with, the
        cosine is NaN and the unit number is the unit's own.
    """
    n_units = len(vector_ud)
    norm_u = np.linalg.norm(vector_ud, axis=1)
    has_concept_u = norm_u > 0
    unit_ud = vector_ud / np.where(has_concept_u, norm_u, 1)[:, None]
    nearest_u = np.arange(n_units, dtype=np.int32)
    similarity_u = np.full(n_units, np.nan, np.float32)
    for start in range(0, n_units, unit_block):
        cosine_bu = unit_ud[start : start + unit_block] @ unit_ud.T
        rows = np.arange(len(cosine_bu))
        cosine_bu[:, ~has_concept_u] = -np.inf
        cosine_bu[rows, start + rows] = -np.inf
        best_b = cosine_bu.argmax(axis=1)
        value_b = cosine_bu[rows, best_b]
        is_found = has_concept_u[start + rows] & (value_b > -np.inf)
        nearest_u[start + rows[is_found]] = best_b[is_found]
        similarity_u[start + rows[is_found]] = value_b[is_found]
    return nearest_u, similarity_u


def measure(seen: Seen) -> Measured:
    """The sum of the exemplars points where their mean does."""
    return {"sum": seen.exemplar_ukd.sum(axis=1)}


def across(found: Measured) -> Measured:
    """Every unit compared with all others of the layer."""
    nearest_u, similarity_u = redundancy(found["sum"])
    return {"nearest_unit": nearest_u, "redundancy": similarity_u}


REDUNDANCY = Statistic(
    name="redundancy",
    title="Redundancy",
    meaning="Cosine between the mean of the exemplars and the nearest such mean in the layer.",
    measure=measure,
    across=across,
    low=-1,
    high=1,
    term="redundancy",
    beside={"nearest_unit": "the most similar neuron; itself where there is none"},
    order=30,
    is_column=False,
    is_together=True,
)
