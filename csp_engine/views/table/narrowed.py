"""Which rows of the table a view keeps, and in what order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from csp_engine.views.address import REVIEWS, Narrowing


def passes(table: pd.DataFrame, review: str) -> np.ndarray:
    """Which rows have the state of review that a URL asks for."""
    if review == REVIEWS[0]:
        return np.ones(len(table), bool)
    if "review" not in table:  # nobody has said anything yet
        return np.full(len(table), review == "unreviewed")
    if review in ("reviewed", "unreviewed"):
        return (table["review"].notna() == (review == "reviewed")).to_numpy(bool)
    return (table["review"] == review).to_numpy(bool)


_BY = {"layer": "place"}
"""Columns that another one orders: layers come as in the bundle, not by their names."""
_FLAGS = ("disagree", "unsaid")
"""Choices that are columns of the table."""


def narrowed(table: pd.DataFrame, keep: Narrowing) -> pd.DataFrame:
    """The rows that a view keeps, in its order; neurons without a number go last."""
    kept = np.ones(len(table), bool)
    if keep.has:
        found = table["label"].str.contains(keep.has, case=False, regex=False)
        kept &= found.to_numpy(bool)
    state = table["state"].to_numpy()
    has_label = (table["label"] != "").to_numpy()
    reliable = table["reliable"].to_numpy(bool)
    kept &= {
        "reliable": reliable,
        "unclear": has_label & ~reliable,
        "live": ~np.isin(state, ("dead", "constant")),
        "dead": np.isin(state, ("dead", "constant")),
        "dense": state == "dense",
        "flagged": state != "",
    }.get(keep.only, True)
    if keep.only in _FLAGS:
        kept &= table[keep.only].to_numpy(bool)
    if keep.network:
        kept &= (table["model"] == keep.network).to_numpy(bool)
    if keep.family:
        kept &= (table["family"] == keep.family).to_numpy(bool)
    if keep.of:
        kept &= (table["class"] == keep.of).to_numpy(bool)
    kept &= passes(table, keep.review)
    for name, (low, high) in keep.where:
        values = table[name].to_numpy()
        kept &= ~np.isnan(values)
        if low is not None:
            kept &= values >= np.float32(low)
        if high is not None:
            kept &= values <= np.float32(high)
    rows = table[kept]
    name = keep.sort.removeprefix("-")
    name = _BY.get(name, name)
    if name:
        is_up = not keep.sort.startswith("-")
        is_text = name in ("label", "family", "others", "truth", "column", "moves")
        key = (lambda s: s.str.casefold()) if is_text else None
        rows = rows.sort_values(name, ascending=is_up, kind="stable", na_position="last", key=key)
    return rows
