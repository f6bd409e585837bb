"""Whether tables of associations name what there is, and say what can be."""

from __future__ import annotations

import numpy as np
import pandas as pd

NEAR = 1e-5
"""How far bounds may overlap: figures are kept in single precision."""


def fault_of_asked(rows: pd.DataFrame) -> str:
    """What is wrong with the columns of an association, as the end of "columns.parquet of …"."""
    strange = rows["kind"][~rows["kind"].isin(("concept", "class"))]
    if len(strange):
        return f"has a column of kind {strange.iloc[0]!r:.80}, which is nothing"
    is_twice = rows.duplicated(["name", "kind"])
    if is_twice.any():
        return f"names {rows['name'][is_twice].iloc[0]!r:.80} twice"
    if (rows["n_positive"] > rows["n_known"]).any():
        return "has a column that more images show than it is known of"
    return ""


def fault_of_found(rows: pd.DataFrame, columns: pd.DataFrame) -> str:
    """What is wrong with what was found, likewise."""
    if len(rows) and rows["column"].max() >= len(columns):
        return f"names column {rows['column'].max()}, but there are {len(columns)}"
    if rows.duplicated(["unit", "column"]).any():
        return "names a unit twice for one column"
    for figure in ("auroc", "within"):
        value, low, high = (rows[f"{figure}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        if ((value < low - NEAR) | (value > high + NEAR)).any():
            return f"has an {figure} outside of its bounds"
    counted = np.bincount(rows["column"][rows["is_suspect"]], minlength=len(columns))
    if not np.array_equal(counted, columns["n_suspects"]):
        return "has another number of suspects than its columns say"
    return ""
