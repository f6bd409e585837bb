"""Give each exemplar its own contrast images, with the largest total similarity: exactly.

Rows are exemplars, columns candidate images; each row has ``n_partners`` places, a column fills at
most one place. -inf marks pairs that are not allowed.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from csp_engine.evidence.neighbours import TIE


def assign_columns(
    similarity_mc: Float64[np.ndarray, "m c"], n_partners: int
) -> tuple[Int64[np.ndarray, " s"], Int64[np.ndarray, " s"], bool]:
    """Fill the places so that the total similarity is as large as possible.

    If not all places can be filled, the filled ones are as many as possible, in the order first
    place of row 0, of row 1, …, second place of row 0, …: a place is left empty only where those
    before it leave no way to fill it. (The sets of places that can be filled form a matroid, so the
    greedy order gives a largest set, and it is the set of largest weight for any falling weights.)

    Returns:
        Row and column of each filled place, by row, and whether all places are filled.
    """
    n_rows, n_columns = similarity_mc.shape
    row_s = np.tile(np.arange(n_rows), n_partners)
    n_places = len(row_s)
    from scipy.optimize import linear_sum_assignment  # half a second that pages need not wait

    try:
        if n_columns < n_places:
            raise ValueError
        place_s, column_s = linear_sum_assignment(similarity_mc[row_s], maximize=True)
        is_full = True
    except ValueError:
        # First which places, by falling weights and a way out for each; then the best filling.
        weight_s = np.arange(n_places, 0, -1, dtype=np.float64)[:, None]
        weight_sc = np.where(np.isfinite(similarity_mc[row_s]), weight_s, -np.inf)
        way_out_ss = np.where(np.eye(n_places, dtype=bool), 0.0, -np.inf)
        _, pick_s = linear_sum_assignment(np.hstack([weight_sc, way_out_ss]), maximize=True)
        row_s = row_s[pick_s < n_columns]
        place_s, column_s = linear_sum_assignment(similarity_mc[row_s], maximize=True)
        is_full = False
    row_s = row_s[place_s]
    column_s = _lower_columns(similarity_mc, row_s, column_s)
    order_s = np.argsort(row_s, kind="stable")
    return row_s[order_s], column_s[order_s], is_full


def row_prices(
    similarity_mc: Float64[np.ndarray, "m c"],
    row_s: Int64[np.ndarray, " s"],
    column_s: Int64[np.ndarray, " s"],
) -> Float64[np.ndarray, " m"]:
    """The similarity at which a new column would begin to interest each row.

    These are the row potentials of an optimal full assignment (linear programming duals): with
    column potentials v >= 0, zero on unused columns, u_i + v_c >= s_ic for all and equality on
    assigned pairs. A new column has v = 0; as long as s_ic <= u_i for all rows i, no assignment
    that uses it can have a larger total. v is the least fixed point of
    v_{c(s')} = max(0, max_s v_{c(s)} + s_{r(s), c(s')} - s_{r(s), c(s)}).
    """
    gain_ss = similarity_mc[row_s][:, column_s] - similarity_mc[row_s, column_s][:, None]
    potential_s = np.zeros(len(row_s))
    for _ in range(len(row_s)):
        raised_s = np.maximum(potential_s, (potential_s[:, None] + gain_ss).max(axis=0))
        if (raised_s <= potential_s + TIE).all():
            break
        potential_s = raised_s
    price_m = np.full(len(similarity_mc), np.inf)
    np.minimum.at(price_m, row_s, similarity_mc[row_s, column_s] - potential_s)
    return price_m


def _lower_columns(
    similarity_mc: Float64[np.ndarray, "m c"],
    row_s: Int64[np.ndarray, " s"],
    column_s: Int64[np.ndarray, " s"],
) -> Int64[np.ndarray, " s"]:
    """Exchange assigned columns for unused, equally similar ones of lower number."""
    column_s = column_s.copy()
    is_free_c = np.ones(similarity_mc.shape[1], bool)
    is_free_c[column_s] = False
    own_s = similarity_mc[row_s, column_s]
    is_lower_sc = np.arange(similarity_mc.shape[1]) < column_s[:, None]
    is_equal_sc = is_lower_sc & is_free_c & (similarity_mc[row_s] >= own_s[:, None] - TIE)
    for s in np.flatnonzero(is_equal_sc.any(axis=1)):
        lower_c = np.flatnonzero(is_equal_sc[s] & is_free_c)
        if len(lower_c):
            is_free_c[column_s[s]] = True
            is_free_c[lower_c[0]] = False
            column_s[s] = lower_c[0]
    return column_s
