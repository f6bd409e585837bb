"""What a neuron that matters to an output stands for: valid concepts, spurious ones, or neither.

The audit of SemanticLens (Dreyer et al., Nature Machine Intelligence 2025, Fig. 4): concepts that
one expects are split into valid and spurious, and every neuron gets its best alignment to either.
A neuron that drives the output and aligns with neither was not expected. Where "aligns" begins is
ours: above what 95 % of random image sets reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int8, Int64

from csp_engine.errors import InputError
from csp_engine.vectors import normalise_rows

KINDS = ("valid", "spurious", "unexpected", "neutral")
"""What a neuron can be; ``kinds`` gives places in this list."""

LEVEL = 0.95
BLOCK = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """The best alignment of each unit to a set of texts, and which text it is.

    ``value_u`` is NaN, and ``text_u`` 0, for a unit without a concept vector.
    """

    value_u: Float32[np.ndarray, " u"]
    text_u: Int64[np.ndarray, " u"]


def best_alignment(
    vector_ud: Float[np.ndarray, "u d"],
    text_td: Float[np.ndarray, "t d"],
    empty_d: Float[np.ndarray, " d"] | None = None,
) -> Aligned:
    """How well each concept vector fits the best of some texts, beyond how well it fits any.

    ``a_u = max over t of cos(z_u, t) - cos(z_u, e)``, in [-2, 2], with e the vector of the empty
    text (nothing is taken away where there is none). Ties go to the first text.

    Args:
        vector_ud: concept vectors of any length; zero rows have no concept.
        text_td: vectors of the texts, of any length but zero.
        empty_d: vector of the templates without a text.

    Raises:
        InputError: if there is no text.
    """
    if not len(text_td):
        raise InputError("There is no text to align with; name at least one concept.")
    unit_ud = normalise_rows(vector_ud)
    cosine_ut = unit_ud @ normalise_rows(text_td).T
    text_u = cosine_ut.argmax(axis=1)
    value_u = np.take_along_axis(cosine_ut, text_u[:, None], axis=1)[:, 0]
    if empty_d is not None:
        value_u = value_u - unit_ud @ normalise_rows(empty_d[None])[0]
    has_concept_u = np.any(vector_ud, axis=1)
    value_u = np.where(has_concept_u, value_u, np.nan).astype(np.float32)
    return Aligned(value_u, np.where(has_concept_u, text_u, 0))


def chance_bar(null_r: Float[np.ndarray, " r"], level: float = LEVEL) -> float:
    """The alignment that a share ``level`` of random image sets stays at or below.

    NaN where there are none. The maximum over texts is in both, so it needs no correction.
    """
    known_r = null_r[np.isfinite(null_r)]
    return float(np.quantile(known_r, level)) if len(known_r) else float("nan")


def influential(effect_u: Float[np.ndarray, " u"], share: float = 0.5) -> Bool[np.ndarray, " u"]:
    """The fewest units that together carry a share of the sum of absolute effects.

    Units without an effect are never among them; of equal ones the lower number comes first.

    Raises:
        InputError: if ``share`` is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"The share of influence must be above 0 and at most 1; got {share}.")
    size_u = np.abs(np.nan_to_num(effect_u.astype(np.float64)))
    order_u = np.argsort(-size_u, kind="stable")
    before_u = np.concatenate([[0.0], np.cumsum(size_u[order_u])[:-1]])
    is_in_u = np.zeros(len(size_u), bool)
    # Sums in another order differ in the last digits, which must not let one unit more in.
    is_in_u[order_u] = before_u < share * size_u.sum() * (1 - 1e-12)
    return is_in_u & (size_u > 0)


def kinds(
    valid_u: Float[np.ndarray, " u"],
    spurious_u: Float[np.ndarray, " u"],
    valid_bar: Float[np.ndarray, " u"] | float,
    spurious_bar: Float[np.ndarray, " u"] | float,
    *,
    neutral_u: Float[np.ndarray, " u"] | None = None,
    neutral_bar: Float[np.ndarray, " u"] | float = 0.0,
) -> Int8[np.ndarray, " u"]:
    """What each unit is, as places in ``KINDS``; nothing is neutral without neutral concepts.

    Unexpected: no alignment is above its bar. Else the one furthest above its own bar decides, the
    first in the order of ``KINDS`` where they are equal: one set may hold more concepts, so that
    chance alone lifts it more. A unit without a concept vector is unexpected. A bar that is NaN
    counts as 0.
    """
    pairs = [(valid_u, valid_bar), (spurious_u, spurious_bar)]
    pairs += [] if neutral_u is None else [(neutral_u, neutral_bar)]
    above_su = np.stack(
        [np.nan_to_num(value_u - np.nan_to_num(bar), nan=-np.inf) for value_u, bar in pairs]
    )
    kind_u = np.array([KINDS.index(kind) for kind in ("valid", "spurious", "neutral")])[
        above_su.argmax(axis=0)
    ]
    is_none_u = above_su.max(axis=0) <= 0
    return np.where(is_none_u, KINDS.index("unexpected"), kind_u).astype(np.int8)


def best_match(
    vector_ud: Float[np.ndarray, "u d"], other_vd: Float[np.ndarray, "v d"]
) -> tuple[Int64[np.ndarray, " u"], Float32[np.ndarray, " u"]]:
    """For each unit the unit of another network whose concept vector is nearest, and the cosine.

    Ties go to the lower number. NaN (and unit 0) where either side has no concept vector at all.
    """
    has_u, has_v = np.any(vector_ud, axis=1), np.any(other_vd, axis=1)
    match_u = np.zeros(len(vector_ud), np.int64)
    cosine_u = np.full(len(vector_ud), np.nan, np.float32)
    if not has_v.any():
        return match_u, cosine_u
    other_vd = normalise_rows(other_vd)
    for start in range(0, len(vector_ud), BLOCK):
        cosine_bv = normalise_rows(vector_ud[start : start + BLOCK]) @ other_vd.T
        cosine_bv[:, ~has_v] = -np.inf
        best_b = cosine_bv.argmax(axis=1)
        match_u[start : start + BLOCK] = best_b
        cosine_u[start : start + BLOCK] = cosine_bv[np.arange(len(best_b)), best_b]
    return np.where(has_u, match_u, 0), np.where(has_u, cosine_u, np.nan).astype(np.float32)
