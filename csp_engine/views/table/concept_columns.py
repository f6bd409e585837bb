"""How neurons go with one concept column of the probe set: the one asked for, or their best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, StoredColumns
from csp_engine.views.places import places

FIGURES = ("column_auroc", "column_pearson", "column_auprc")
"""Columns of the table of neurons, in the order in which people read them."""


def figures_of(held: StoredColumns, column_u: np.ndarray) -> dict[str, np.ndarray]:
    """The three figures of every unit with the column whose number is given for it."""
    unit_u = np.arange(len(column_u))
    whole = (held.auroc_uc, held.pearson_uc, held.auprc_uc)
    return {
        name: np.asarray(figure_uc[unit_u, column_u], np.float32)
        for name, figure_uc in zip(FIGURES, whole, strict=True)
    }


def best_columns(held: StoredColumns) -> tuple[np.ndarray, np.ndarray]:
    """For each unit the column that correlates best, and whether any correlates at all.

    By Pearson, as for true concepts: AUROC favours columns of few images.
    """
    pearson_uc = np.asarray(held.pearson_uc)
    if not pearson_uc.shape[1]:
        nothing_u = np.zeros(len(pearson_uc), np.int64)
        return nothing_u, nothing_u.astype(bool)
    known_uc = np.nan_to_num(pearson_uc, nan=-np.inf, neginf=-np.inf)
    return known_uc.argmax(axis=1), known_uc.max(axis=1) > 0


def best_of_layer(bundle: Bundle, model: str, layer: str) -> Mapping[str, object]:
    """``column`` and its figures for every unit; missing where none correlates."""
    held = bundle.columns(model, layer)
    nothing = np.full(bundle.n_units(model, layer), np.nan, np.float32)
    if held is None or not len(held.columns):
        return {"column": pd.NA, **dict.fromkeys(FIGURES, nothing)}
    column_u, has_u = best_columns(held)
    name_u = np.where(has_u, held.columns["name"].to_numpy(object)[column_u], None)
    found = figures_of(held, column_u)
    return {
        "column": pd.array(name_u, dtype="string"),
        **{name: np.where(has_u, figure_u, np.float32(np.nan)) for name, figure_u in found.items()},
    }


def with_column(bundle: Bundle, rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table of all neurons with the figures of one column in place of each neuron's best."""
    parts = []
    for model, layer in places(bundle):
        held = bundle.columns(model, layer)
        names = [] if held is None else held.columns["name"].tolist()
        n_units = bundle.n_units(model, layer)
        if held is None or name not in names:
            nothing = np.full(n_units, np.nan, np.float32)
            parts.append(pd.DataFrame(dict.fromkeys(FIGURES, nothing)))
        else:
            column_u = np.full(n_units, names.index(name))
            parts.append(pd.DataFrame(figures_of(held, column_u)))
    whole = pd.concat(parts, ignore_index=True)
    return rows.assign(column=name, **{each: whole[each].to_numpy() for each in FIGURES})
