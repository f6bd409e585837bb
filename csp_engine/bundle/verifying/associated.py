"""Associations again: columns from the probe set, figures from activations or other stages."""

from __future__ import annotations

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import LOSS, Found, is_here, is_same, sampled
from csp_engine.evaluation.associations.asking import ColumnsAsked, columns_asked
from csp_engine.evaluation.associations.measuring import Rule, counts_of, one

N_ROWS = 8
"""Rows that are measured again."""


def association(bundle: Bundle, model: str, layer: str) -> Found:
    """Columns and counts again, figures of a few rows, and that suspects fulfil the rule."""
    stage = kinds.ASSOCIATION.name(model, layer)
    columns, found = bundle.table(stage, "columns"), bundle.table(stage, "found")
    params = bundle.stage(stage).params
    rule = Rule(**params)
    described = bundle.manifest.inputs["probe"]
    masks = tuple(described.get("masks") or ())
    asked = columns_asked(bundle.images(), described["concepts"], masks)
    if list(zip(columns["name"], columns["kind"], strict=True)) != list(
        zip(asked.names, asked.kinds, strict=True)
    ):
        yield stage, f"The columns of {stage} are not those of the probe set."
        return
    yield from _counts(stage, columns, asked, rule)
    is_suspect = found["is_suspect"].to_numpy(bool)
    suspects = found[is_suspect]
    below = (suspects["q_suspect"] > rule.q) | (suspects["pearson"] < rule.pearson_min)
    if (below | (suspects["auroc"] <= rule.auroc_min)).any():
        yield stage, f"A suspect of {stage} does not fulfil its rule."
    held = bundle.columns(model, layer)
    if held is not None:
        own = found[found["column"] < len(held.columns)]
        at = own["unit"].to_numpy(), own["column"].to_numpy()
        for figure, kept_uc in (("auroc", held.auroc_uc), ("pearson", held.pearson_uc)):
            if not is_same(own[figure].to_numpy(), np.asarray(kept_uc)[at]):
                yield stage, f"{figure} of {stage} is not that of its concept columns."
    activations = kinds.ACTIVATIONS.name(model, layer)
    if not is_here(bundle, activations):
        return
    activation_un = bundle.activations(model, layer)
    for row in found.iloc[sampled(len(found), N_ROWS)].to_dict("records"):
        fresh = one(np.asarray(activation_un[row["unit"]]), asked.asked, int(row["column"]), rule)
        stored = {name: float(row[name]) for name in fresh}
        if not np.allclose(list(stored.values()), list(fresh.values()), atol=LOSS, equal_nan=True):
            yield stage, f"Unit {row['unit']} of {stage} is not what follows from its activations."


def _counts(stage: str, columns: pd.DataFrame, asked: ColumnsAsked, rule: Rule) -> Found:
    value_nc = asked.asked.value_nc
    counts_c2 = counts_of(asked.asked)
    fresh = {
        "n_known": (~np.isnan(value_nc)).sum(axis=0),
        "n_positive": (value_nc == 1).sum(axis=0),
        "n_with": counts_c2[:, 0],
        "n_without": counts_c2[:, 1],
        "is_tried": counts_c2.min(axis=1) >= rule.min_positive,
    }
    for name, counted_c in fresh.items():
        if not np.array_equal(columns[name], counted_c):
            yield stage, f"{name} of {stage} is not what the probe set says."
    beside = ["" if each is None else each.name for each in asked.beside]
    v_c = np.array([np.nan if each is None else each.v for each in asked.beside], float)
    is_off = not np.allclose(columns["beside_v"].to_numpy(float), v_c, atol=LOSS, equal_nan=True)
    if columns["beside"].tolist() != beside or is_off:
        yield stage, f"What goes with the columns of {stage} is not what the probe set says."
