"""Which neuron of one layer, model or build is most like which of another, by concept vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32

_PRODUCT_VALUES = 16_000_000
"""Bound on working memory; it changes no result."""


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """For each row of a side A its most similar row of a side B.

    Where ``has_match_u`` is False, because the row or all of B has no evidence, the other arrays
    mean nothing (row 0, similarity NaN, not mutual). ``is_mutual_u`` says that the row is in turn
    the most similar one of A for its match. Equal similarities go to the lower row.
    """

    other_u: Int32[np.ndarray, " u"]
    similarity_u: Float32[np.ndarray, " u"]
    is_mutual_u: Bool[np.ndarray, " u"]
    has_match_u: Bool[np.ndarray, " u"]


def match(a_ud: Float32[np.ndarray, "u d"], b_vd: Float32[np.ndarray, "v d"]) -> Matching:
    """Match every row of A with the row of B of largest cosine.

    Both must be concept vectors of one encoder, unit rows or zero rows where there is no evidence;
    zero rows match nothing and are matched by nothing.
    """
    has_a_u, has_b_v = np.any(a_ud, axis=1), np.any(b_vd, axis=1)
    other_u = np.zeros(len(a_ud), np.int32)
    similarity_u = np.full(len(a_ud), np.nan, np.float32)
    is_mutual_u = np.zeros(len(a_ud), bool)
    if not (has_a_u.any() and has_b_v.any()):
        return Matching(other_u, similarity_u, is_mutual_u, np.zeros(len(a_ud), bool))
    row_m, row_p = np.flatnonzero(has_a_u), np.flatnonzero(has_b_v)
    a_md, b_pd = np.ascontiguousarray(a_ud[row_m]), np.ascontiguousarray(b_vd[row_p])
    best_m, value_m = _nearest(a_md, b_pd)
    back_p, _ = _nearest(b_pd, a_md)
    other_u[row_m] = row_p[best_m]
    similarity_u[row_m] = value_m
    is_mutual_u[row_m] = back_p[best_m] == np.arange(len(row_m))
    return Matching(other_u, similarity_u, is_mutual_u, has_a_u)


def chance_level(
    null_rd: Float32[np.ndarray, "r d"], b_vd: Float32[np.ndarray, "v d"], level: float = 0.95
) -> float:
    """The similarity to its best match in B that random image sets rarely pass.

    Args:
        null_rd: concept vectors of random image sets, zero rows where there is no evidence.
        b_vd: concept vectors of the side that matches are looked for in.
        level: the share of random image sets that stay at or below the answer, which is NaN where
            either side has no evidence.
    """
    null_rd, b_vd = null_rd[np.any(null_rd, axis=1)], b_vd[np.any(b_vd, axis=1)]
    if not len(null_rd) or not len(b_vd):
        return float("nan")
    _, value_r = _nearest(np.ascontiguousarray(null_rd), np.ascontiguousarray(b_vd))
    return float(np.quantile(value_r, level, method="higher"))


def _nearest(
    a_md: Float32[np.ndarray, "m d"], b_pd: Float32[np.ndarray, "p d"]
) -> tuple[Int32[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
    """Row of B with the largest product, and the product, for every row of A."""
    best_m = np.empty(len(a_md), np.int32)
    value_m = np.empty(len(a_md), np.float32)
    step = max(1, _PRODUCT_VALUES // len(b_pd))
    for start in range(0, len(a_md), step):
        part = slice(start, start + step)
        # Sums of float32 products differ in their last digits with the order of summation.
        product_cp = np.round(a_md[part] @ b_pd.T, 6)
        best_m[part] = product_cp.argmax(axis=1)
        value_m[part] = product_cp.max(axis=1)
    return best_m, value_m
