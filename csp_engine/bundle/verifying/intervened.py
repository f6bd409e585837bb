"""Effects of interventions, again from the scores of every pair that are kept beside them."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.checks.factored import N_SHOWN, N_TRIED, called_in_turn, leading
from csp_engine.bundle.checks.held import RANDOM
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.stored import StoredCurves
from csp_engine.bundle.verifying.sampling import Found
from csp_engine.evaluation.paired_effects import evenly, mean_effect, mean_gap
from csp_engine.pasting.gate import least_of
from csp_engine.pasting.pairs import VERSIONS
from csp_engine.stats.intervals import auroc_interval
from csp_engine.words.word_kinds import units_by_label

NEAR = 1e-4
"""How far an effect may lie off: scores are kept in single precision."""


def intervention(bundle: Bundle, model: str) -> Found:
    """Effects, flips and counts of every artefact; and that no group lies in both halves."""
    stage = kinds.INTERVENTION.name(model)
    record = bundle.stage(stage)
    effects, pairs = bundle.table(stage, "effects"), bundle.table(stage, "pairs")
    sets = bundle.table(stage, "sets")
    seed = int(record.params.get("seed", 0))
    if record.facts.get("n_pairs") != len(pairs):
        yield stage, f"n_pairs of {stage} is not what its table says."
    for row in effects.to_dict("records"):
        own = pairs[pairs["artefact"] == row["artefact"]]
        name = f"{row['artefact']!r:.60} of {stage}"
        if row["n_pairs"] != len(own) or row["n_groups"] != own["group"].nunique():
            yield stage, f"n_pairs or n_groups of {name} is not what its pairs say."
        if own.groupby("group")["is_choosing"].nunique().max() > 1:
            yield stage, f"A group of {name} lies in both halves."
        for figure, over, under in (
            ("change", "with", "without"),
            ("neutral", "neutral", "without"),
            ("effect", "with", row["foil"]),
        ):
            change_n = (own[f"score_{over}"] - own[f"score_{under}"]).to_numpy(np.float64)
            fresh = mean_effect(change_n, own["group"].to_numpy(), seed)
            stored = [row[f"{figure}{end}"] for end in ("", "_low", "_high")]
            told = [fresh.value, fresh.low, fresh.high]
            if not np.allclose(stored, told, atol=NEAR, equal_nan=True):
                yield stage, f"{figure} of {name} is not that of its pairs."
        before = own[f"is_called_{row['foil']}"].to_numpy(bool)
        after = own["is_called_with"].to_numpy(bool)
        counted = (before.sum(), (before & ~after).sum(), (~before & after).sum())
        if counted != (row["n_called"], row["n_lost"], row["n_gained"]):
            yield stage, f"Decisions of {name} are not those of its pairs."
        yield from _shown(bundle, stage, row, pairs)
    yield from _sets(stage, sets)
    if "given.parquet" in record.files:
        given = bundle.table(stage, "given")
        yield from _sets(stage, given)
        yield from _given(record.params, stage, given, sets)
    if "gates.parquet" in record.files:
        yield from _gates(stage, bundle.table(stage, "gates"), effects)
    yield from _swapped(record.params, stage, bundle.table(stage, "units"), sets)
    if record.facts.get("output") != record.params.get("output", record.facts.get("output")):
        yield stage, f"output of {stage} is not the one that it was measured of."


def _shown(bundle: Bundle, stage: str, row: dict[Any, Any], pairs: pd.DataFrame) -> Found:
    """Pictures are kept of pairs at equal steps of the effect, in all their versions."""
    held = bundle.table(stage, "shown")
    own_n = np.flatnonzero(pairs["artefact"] == row["artefact"])
    net_n = pairs["score_with"].to_numpy(float) - pairs[f"score_{row['foil']}"].to_numpy(float)
    held = held[np.isin(held["pair"], own_n)]
    groups = [(int(str(at)), rows["version"].tolist()) for at, rows in
              held.groupby("pair", sort=False)]  # fmt: skip
    kept = [at for at, _ in groups]
    steps = own_n[evenly(net_n[own_n], len(kept))]
    if not np.allclose(net_n[kept], net_n[steps], atol=NEAR):
        yield stage, f"Pictures of {row['artefact']!r:.60} of {stage} are not at equal steps."
    for at, versions in groups:
        has_neutral = bool(np.isfinite(pairs["score_neutral"].iat[at]))
        wanted = [each for each in VERSIONS if each != "neutral" or "neutral" in versions]
        if versions != wanted or (has_neutral and "neutral" not in versions):
            yield stage, f"Pictures of pair {at} of {stage} are not of its versions."
            return


def _swapped(params: Any, stage: str, units: pd.DataFrame, sets: pd.DataFrame) -> Found:
    """Units of every layer in order, and of each layer the sets that its size and recipe give."""
    size_of: dict[Any, int] = {}
    for named, rows in units.groupby(["artefact", "layer"], sort=False):
        place = cast("tuple[str, str]", named)
        size_of[place] = len(rows)
        if rows["unit"].tolist() != list(range(len(rows))) or (np.diff(rows.index) != 1).any():
            yield stage, f"Units of {place[1]} in {stage} are not all of its units in order."
            return
    for named, rows in sets.groupby(["artefact", "layer"], sort=False):
        place = cast("tuple[str, str]", named)
        n_units = size_of.get(place, 0)
        found = list(zip(rows["what"], rows["n_units"].tolist(), strict=True))
        wanted = [("strongest", size) for size in params.get("sizes", ()) if size < n_units]
        random = [each for each in found if each[0] == "random"]
        wanted += [each for each in [("direction", n_units)] if each in found] + random
        is_alike = len(set(random)) < 2 and len(random) <= params.get("n_random", 0)
        if found != wanted or not is_alike or (np.diff(rows.index) != 1).any():
            yield stage, f"Sets of {place[1]} in {stage} are not those of its {n_units} units."
            return


def _sets(stage: str, sets: pd.DataFrame) -> Found:
    """That bounds enclose what they bound."""
    for figure in ("necessity", "sufficiency"):
        value, low, high = (sets[f"{figure}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        if ((value < low - NEAR) | (value > high + NEAR)).any():
            yield stage, f"A {figure} of {stage} lies outside of its bounds."


def _given(params: Any, stage: str, given: pd.DataFrame, sets: pd.DataFrame) -> Found:
    """That given parts are those of the recipe, for every artefact that was swapped at all."""
    wanted = sorted((each["name"], each["layer"]) for each in params.get("given", ()))
    of = {artefact: rows for artefact, rows in given.groupby("artefact", sort=False)}
    if set(of) != set(sets["artefact"]) or any(
        sorted(zip(rows["name"], rows["layer"], strict=True)) != wanted for rows in of.values()
    ):
        yield stage, f"Parts given to {stage} are not those of its recipe."


def _gates(stage: str, gates: pd.DataFrame, effects: pd.DataFrame) -> Found:
    """That what is asked is what this version asks, and bounds are those of area and counts."""
    n_groups = effects.set_index("artefact")["n_groups"]
    for row in gates[gates["why"] == ""].to_dict("records"):
        name = f"{row['artefact']!r:.60} of {stage}"
        if row["least"] != least_of(row["artefact"]):
            yield stage, f"The gate of {name} asks for {row['least']}, which is not what it should."
        n = int(n_groups[row["artefact"]])
        for figure in ("pasted", "neutral"):
            told = [row[f"{figure}_low"], row[f"{figure}_high"]]
            if not np.allclose(told, auroc_interval(np.asarray(row[figure]), n, n), atol=NEAR):
                yield stage, f"Bounds of {figure} in the gate of {name} are not those of its area."
        if not row["real_low"] - NEAR <= row["real"] <= row["real_high"] + NEAR:
            yield stage, f"real in the gate of {name} lies outside of its bounds."
        # Groups are counted, of which there are at most as many as photographs.
        counts = int(row["n_with"]), int(row["n_without"])
        low, high = map(float, auroc_interval(np.asarray(row["real"]), *counts))
        if row["real_low"] > low + NEAR or row["real_high"] < high - NEAR:
            yield stage, f"Bounds of real in the gate of {name} are closer than its photographs."


def fix(bundle: Bundle, model: str, name: str) -> Found:
    """Scores against decisions, values that are held, and counts.

    Log-odds above 0 are a probability above one half, so the output is decided for; where it is
    decided for among C, its probability is at least 1/C.
    """
    stage = kinds.FIX.name(model, name)
    held = bundle.fix(model, name)
    if bundle.fact(stage, "n_photographs") != len(held.photographs):
        yield stage, f"n_photographs of {stage} is not what its table says."
    if (held.runs["model"].iloc[:2] != model).any():
        yield stage, f"{stage} is of another model than its runs."
    if held.mode == "zero" and held.cuts["at"].any():
        yield stage, f"{stage} holds neurons at other values than 0, which it says."
    n_classes = len(held.classes)
    if held.output in held.classes and n_classes > 1:
        score_wi = np.asarray(held.score_wi, np.float64)
        called_mn = np.asarray(held.called_vi)[: len(score_wi)]
        is_called_mn = called_mn == held.classes.index(held.output)
        least = -math.log(n_classes - 1) if n_classes > 2 else 0.0
        if ((score_wi > NEAR) & ~is_called_mn).any() or (
            (score_wi < least - NEAR) & is_called_mn
        ).any():
            yield stage, f"Decisions of {stage} are not those of its scores."
    told = held.cuts.groupby(["layer", "unit"])["at"].nunique()
    if (told > 1).any():
        yield stage, f"{stage} holds one neuron at several values."


def curves(bundle: Bundle, model: str, layer: str) -> Found:
    """Counts, and runs that held the same neurons, which decide alike."""
    stage = kinds.CURVES.name(model, layer)
    held = bundle.curves(model, layer)
    assert held is not None
    if bundle.fact(stage, "n_photographs") != len(held.photographs):
        yield stage, f"n_photographs of {stage} is not what its table says."
    if bool(held.words) != (held.orders["order"] == "words").any():
        yield stage, f"Words of {stage} are not those of its orders."
    orders = {
        key: own["unit"].tolist()
        for key, own in held.orders.groupby(["order", "repeat"], sort=False)
    }
    if fault := fault_of_named(bundle, model, layer, held):
        yield stage, f"{stage} {fault}."
    seen: dict[frozenset[int], np.ndarray] = {}
    for at, (order, repeat, n_units) in enumerate(
        held.runs[["order", "repeat", "n_units"]].itertuples(index=False)
    ):
        own = frozenset(orders.get((order, repeat), [])[:n_units])
        called_i = np.asarray(held.called_vi[at])
        if (seen.setdefault(own, called_i) != called_i).any():
            yield stage, f"Two runs of {stage} hold the same neurons and decide otherwise."
            return


def fault_of_named(bundle: Bundle, model: str, layer: str, held: StoredCurves) -> str:
    """Which order of curves is not of the neurons that their labels name, after "curves:…"."""
    first = held.orders[held.orders["repeat"] == 0]
    own = {str(name): set(rows["unit"]) for name, rows in first.groupby("order")}
    if not own.keys() - {RANDOM, "influence"}:
        return ""
    named = units_by_label(bundle.best_texts(model, layer, held.method), held.words)
    for name, units in own.items():
        if name in named and units != set(named[name]):
            return f"has an order {name!r} of other neurons than labels by {held.method!r:.80} say"
    return ""


def factors(bundle: Bundle, model: str, layer: str) -> Found:
    """Gaps, rank and calls again from the pushes; decisions against those of the photographs."""
    stage = kinds.FACTORS.name(model, layer)
    held = bundle.factors(model, layer)
    assert held is not None
    seed = int(bundle.stage(stage).params.get("seed", 0))
    shots, rows = held.photographs, held.factors
    if bundle.fact(stage, "n_photographs") != len(shots):
        yield stage, f"n_photographs of {stage} is not what its table says."
    if held.n_tried != min(N_TRIED, len(rows)):
        yield stage, f"n_tried of {stage} is not how many of its factors are projected out."
    if held.direction_uk.shape[0] != bundle.n_units(model, layer):
        yield stage, f"Directions of {stage} are not of the layer's units."
    push_nk, is_wrong_n, told_n = np.asarray(held.push_nk), held.is_wrong_n, held.is_reported_n
    for half_n in (told_n, ~told_n):
        if is_wrong_n[half_n].all() or not is_wrong_n[half_n].any():
            yield stage, f"A half of the photographs of {stage} has no wrong or no right decision."
            return
    order, chosen_k = leading(push_nk[~told_n], is_wrong_n[~told_n])
    if not np.allclose(chosen_k[np.argsort(order)], rows["chosen"], atol=NEAR):
        yield stage, f"Factors of {stage} are not ranked by their pushes."
    group_n = shots["group"].to_numpy(np.int64)[told_n]
    for k, row in enumerate(rows.to_dict("records")):
        push_n = push_nk[told_n, k]
        gap = mean_gap(push_n, is_wrong_n[told_n], group_n, seed)
        fresh = [
            gap.value, gap.low, gap.high,
            *(push_n[each].mean(dtype=float) for each in (is_wrong_n[told_n], ~is_wrong_n[told_n])),
        ]  # fmt: skip
        stored = [row[name] for name in ("gap", "gap_low", "gap_high", "wrong", "right")]
        if not np.allclose(fresh, stored, atol=NEAR):
            yield stage, f"The gap of factor {k} of {stage} is not that of its pushes."
    if (called_in_turn(rows["gap_low"].to_numpy()) != rows["is_called"]).any():
        yield stage, f"{stage} calls other factors than its gaps do."
    decided = [held.classes[i] for i in np.asarray(held.called_vi)[0]]
    if decided != shots["decided"][told_n].tolist():
        yield stage, f"Decisions of {stage} are not those of its photographs."
    wanted = [(k, row) for k in held.pictured for row in held.most_pushed(k, N_SHOWN)]
    if list(held.shown[["factor", "row"]].itertuples(index=False, name=None)) != wanted:
        yield stage, f"Pictures of {stage} are not of the decisions that are pushed most."
