"""Whether tables of factors say what can be, and how factors are ranked and called."""

from __future__ import annotations

import numpy as np
import pandas as pd

N_TRIED = 5
"""Factors that are projected out, the first by rank."""
N_SHOWN = 6
"""Photographs of each factor that is projected out whose pictures are kept."""
NEAR_UNIT = 1e-3


def leading(push_nk: np.ndarray, is_wrong_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors by how much more they push wrong decisions than right ones, and by how much."""
    push_nk = np.asarray(push_nk, np.float64)
    gap_k = push_nk[is_wrong_n].mean(axis=0) - push_nk[~is_wrong_n].mean(axis=0)
    order = np.argsort(-gap_k, kind="stable")
    return order, gap_k[order]


def called_in_turn(low_k: np.ndarray) -> np.ndarray:
    """Which are called: those before the first whose interval does not lie above 0."""
    return np.cumprod(np.asarray(low_k) > 0).astype(bool)


def fault_of_factors(rows: pd.DataFrame, n_factors: int) -> str:
    """What is wrong with a table of factors, as the end of "factors.parquet of STAGE …"."""
    if len(rows) != n_factors:
        return f"has {len(rows)} rows for {n_factors} directions"
    if (np.diff(rows["chosen"].to_numpy(float)) > 1e-6).any():
        return "does not list factors by rank"
    if ((rows["share"] < 0) | (rows["share"] > 1 + 1e-6)).any():
        return "has a share outside of 0 to 1"
    return ""


def fault_of_arrays(
    name: str, values: np.ndarray, photographs: pd.DataFrame, n_factors: int
) -> str:
    """What is wrong with directions or pushes, as the end of "NAME.npy of STAGE …"."""
    wanted = (len(photographs), n_factors)
    if name == "push" and values.shape != wanted:
        return f"is of shape {values.shape} instead of {wanted}"
    if not np.isfinite(values).all():
        return "holds values that are not numbers"
    if (
        name == "direction"
        and (np.abs(np.square(values.astype(np.float64)).sum(axis=0) - 1) > NEAR_UNIT).any()
    ):
        return "has a direction that is not of length 1"
    return ""
