"""Associations again: columns from the probe set, figures from activations or other stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import LOSS, Found, is_here, is_same, sampled
from csp_engine.evaluation.associations.asking import ColumnsAsked, columns_asked
from csp_engine.evaluation.associations.measuring import (
    Associations,
    Rule,
    associate,
    counts_of,
    one,
)

MOST_EXCHANGED = 1 << 24
"""Activations of a layer with which groups are exchanged again: some ten seconds."""
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
    if columns["beside"].tolist() != _beside(asked):
        before = columns_asked(bundle.images(), described["concepts"], masks, as_before=True)
        asked = before if columns["beside"].tolist() == _beside(before) else asked
    if list(zip(columns["name"], columns["kind"], strict=True)) != list(
        zip(asked.names, asked.kinds, strict=True)
    ):
        yield stage, f"The columns of {stage} are not those of the probe set."
        return
    yield from _counts(stage, columns, asked, rule)
    yield from _tests(bundle, stage, asked, bundle.units(model, layer), columns)
    n_below_m = found["p_family"].to_numpy(float) * (rule.n_permutations + 1)
    n_below_m = n_below_m[np.isfinite(n_below_m)]
    if (np.abs(n_below_m - np.round(n_below_m)) > 3e-4).any() or (n_below_m < 0.5).any():
        yield stage, f"p_family of {stage} cannot be counted from {rule.n_permutations} exchanges."
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
    is_small = activation_un.size <= MOST_EXCHANGED
    used = rule if is_small else replace(rule, n_permutations=99, n_resamples=100)
    fresh = associate(activation_un, asked.asked, used)
    yield from _family(stage, columns, found, fresh)
    if is_small and not np.array_equal(columns["n_associated"], fresh.n_associated_c):
        yield stage, f"n_associated of {stage} is not what its exchanges of groups say."
    p_family_k = found["p_family"].to_numpy(float)
    is_comparable = is_small and len(found) == len(fresh.kept.p_family_k)
    if is_comparable and not is_same(p_family_k, fresh.kept.p_family_k):
        yield stage, f"p_family of {stage} is not what its exchanges of groups say."


def _family(stage: str, columns: pd.DataFrame, found: pd.DataFrame, fresh: Associations) -> Found:
    """Which pairs are kept, and what depends on all units and columns."""
    kept = fresh.kept
    pairs = list(zip(found["unit"].tolist(), found["column"].tolist(), strict=True))
    if pairs != list(zip(kept.unit_k.tolist(), kept.column_k.tolist(), strict=True)):
        yield stage, f"The rows of {stage} are not the suspects and best units of its columns."
        return
    if not np.array_equal(found["is_suspect"], kept.is_suspect_k):
        yield stage, f"is_suspect of {stage} is not what its rule says."
    for name in ("q_bh", "q_by", "q_suspect"):
        kept_k, fresh_k = found[name].to_numpy(np.float64), getattr(kept, f"{name}_k")
        if not np.allclose(kept_k, fresh_k, rtol=0.02, atol=1e-9, equal_nan=True):
            yield stage, f"{name} of {stage} is not that of all units and columns."
    if not is_same(columns["least"].to_numpy(np.float32), fresh.least_c):
        yield stage, f"least of {stage} is not what its rule would have found."
    suspects = kept.column_k[kept.is_suspect_k]
    if not np.array_equal(columns["n_suspects"], np.bincount(suspects, minlength=len(columns))):
        yield stage, f"n_suspects of {stage} is not what its rows count."


def _tests(
    bundle: Bundle, stage: str, asked: ColumnsAsked, units: pd.DataFrame, columns: pd.DataFrame
) -> Found:
    """How many pairs of unit and column were tried, and of what."""
    facts, is_tried_c = bundle.stage(stage).facts, columns["is_tried"].to_numpy(bool)
    # A constant unit is compared too, and never called.
    if facts["n_tests"] != len(units) * int(is_tried_c.sum()):
        yield stage, f"n_tests of {stage} is not the pairs that were tried."
    group_n = asked.asked.group_n
    n_groups = bundle.n_images if group_n is None else len(np.unique(group_n))
    counted = {"n_units": len(units), "n_images": bundle.n_images, "n_groups": n_groups}
    for name, count in counted.items():
        if facts[name] != count:
            yield stage, f"{name} of {stage} is not that of the layer."


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
    v_c = np.array([np.nan if each is None else each.v for each in asked.beside], float)
    is_off = not np.allclose(columns["beside_v"].to_numpy(float), v_c, atol=LOSS, equal_nan=True)
    if columns["beside"].tolist() != _beside(asked) or is_off:
        yield stage, f"What goes with the columns of {stage} is not what the probe set says."


def _beside(asked: ColumnsAsked) -> list[str]:
    return ["" if each is None else each.name for each in asked.beside]
