"""Neurons as rows: one table for a bundle and a method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.cells import csv_text
from csp_engine.methods import method_title
from csp_engine.stats.enrichment import main_class
from csp_engine.types import NeuronRef
from csp_engine.views.address import FIRST
from csp_engine.views.benchmark.faithfulness import of_layer
from csp_engine.views.confidence import leads, probabilities
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.influence import moved_most
from csp_engine.views.neuron.label import flags_of
from csp_engine.views.neuron.unsaid import unsaid
from csp_engine.views.places import places
from csp_engine.views.table.agreement import disagreement, label_distance
from csp_engine.views.table.columns import TRUTH_METRICS, UNIT_STATISTICS
from csp_engine.views.table.concept_columns import best_of_layer
from csp_engine.views.table.families import family_of
from csp_engine.views.table.first import places_of

_STATES = (
    ("is_constant", "constant"),
    ("is_dead", "dead"),
    ("is_dense", "dense"),
    ("never_positive", "never positive"),
)


def neuron_table(bundle: Bundle, memo: Memo, method: str) -> pd.DataFrame:
    """Every neuron of a bundle in the bundle's order, with its best label by a method.

    ``place`` is the number of its layer in ``places``; ``score``, ``margin``, ``lead`` and
    ``percentile`` are NaN and ``label`` is empty where the method had nothing to go by. ``others``
    names the labels of the other methods; ``disagreement`` and ``disagree`` say how far apart
    reliable ones lie.
    ``family`` is that of ``families.family_of``, and ``first`` that of ``first.places_of``.
    """

    def make() -> pd.DataFrame:
        whole = pd.concat(
            [
                _layer_rows(bundle, memo, place, model, layer, method)
                for place, (model, layer) in enumerate(places(bundle))
            ],
            ignore_index=True,
        )
        whole["family"] = family_of(bundle, memo, whole["label"], whole["reliable"])
        whole[FIRST] = places_of(whole)
        for name in ("model", "layer", "state", "class"):
            if name in whole:
                whole[name] = whole[name].astype("category")
        return whole

    return memo.once(("table", bundle.digest, method), make)


def _layer_rows(
    bundle: Bundle, memo: Memo, place: int, model: str, layer: str, method: str
) -> pd.DataFrame:
    units = bundle.units(model, layer)
    n_units = len(units)
    nothing = np.full(n_units, np.nan, np.float32)
    columns: dict[str, object] = {
        "place": np.full(n_units, place, np.int32),
        "model": model,
        "layer": layer,
        "unit": np.arange(n_units, dtype=np.int32),
        "label": "",
        "score": nothing,
        "margin": nothing,
        "lead": nothing,
        "percentile": nothing,
        "reliable": False,
        "confidence": nothing,
        "unsaid": False,
    }
    methods = bundle.methods(model, layer)
    said = {name: bundle.best_texts(model, layer, name) for name in methods}
    if method in methods:
        scores = bundle.scores(model, layer, method)
        count_u = np.asarray(scores.count_u)
        has_u = count_u > 0
        columns["label"] = said[method]
        columns["score"] = np.where(has_u, scores.score_uk[:, 0], np.nan).astype(np.float32)
        if scores.score_uk.shape[1] > 1:
            ahead_u = np.asarray(scores.score_uk[:, 0]) - np.asarray(scores.score_uk[:, 1])
            columns["margin"] = np.where(count_u > 1, ahead_u, np.nan).astype(np.float32)
        lead_u = leads(bundle, memo, model, layer, method)
        columns["lead"] = lead_u.astype(np.float32)
        columns["percentile"] = np.where(has_u, scores.best_percentile_u, np.nan).astype(np.float32)
        columns["reliable"] = np.asarray(scores.reliable_u) & has_u
        unsaid_u = unsaid(bundle, model, layer, method)
        columns["unsaid"] = False if unsaid_u is None else unsaid_u
        p_u = probabilities(bundle, memo, model, layer, method)
        columns["confidence"] = nothing if p_u is None else p_u.astype(np.float32)
    columns |= of_layer(bundle, model, layer, method)
    reliable = {m: np.asarray(bundle.scores(model, layer, m).reliable_u) for m in methods}
    columns["others"] = other_methods(method, said, reliable) if method in methods else ""
    columns |= {"disagreement": nothing, "disagree": False}
    columns |= disagreement(said, reliable, label_distance(bundle, memo)) if methods else {}
    for name in UNIT_STATISTICS:
        columns[name] = units[name].to_numpy(np.float32) if name in units else nothing
    state = np.full(n_units, "", object)
    flags = flags_of(units)
    for flag, word in reversed(_STATES):
        state = np.where(flags[flag], word, state)
    columns["state"] = state
    moved = moved_most(bundle, memo, model, layer)
    columns["moves"] = pd.NA
    columns["moves_rank"] = nothing
    if moved is not None:
        columns["moves"] = moved.told()
        columns["moves_rank"] = np.where(moved.rank_u > 0, moved.rank_u, np.nan).astype(np.float32)
    classes = _main_classes(bundle, model, layer)
    if classes is not None:
        columns["class"] = classes
    truth = bundle.truth(model, layer)
    columns["truth"] = pd.NA if truth is None else truth.units["true_concept"].to_numpy(object)
    for name in TRUTH_METRICS:
        has_it = truth is not None and name in truth.units
        columns[name] = truth.units[name].to_numpy(np.float32) if has_it else nothing
    columns |= best_of_layer(bundle, model, layer)
    return pd.DataFrame(columns, index=range(n_units))


def other_methods(
    method: str, said: Mapping[str, np.ndarray], reliable: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What the other methods reliably call each unit, in one line.

    Args:
        method: the one whose labels stand in a column of their own.
        said: best label of every unit by every method, empty where there is none.
        reliable: whether it is reliable.
    """
    n_units = len(said[method])
    others_u = np.full(n_units, "", object)
    for name, text_u in said.items():
        if name != method:
            told_u = f"{method_title(name)}: " + text_u
            joined_u = np.where(others_u == "", told_u, others_u + " · " + told_u)
            others_u = np.where(reliable[name] & (text_u != ""), joined_u, others_u)
    return others_u


def _main_classes(bundle: Bundle, model: str, layer: str) -> np.ndarray | None:
    """Each unit's class, empty where it has none; None where the probe set has no classes."""
    classes = bundle.classes()
    if classes.empty:
        return None
    counts = bundle.class_counts(model, layer)
    held = (counts[name].to_numpy() for name in ("unit", "class", "count"))
    n_all_c = classes["n_images"].to_numpy()
    class_u, has_u = main_class(*held, n_all_c, bundle.n_units(model, layer))
    return np.where(has_u, classes["name"].to_numpy(object)[class_u], "")


def classes_of(rows: pd.DataFrame) -> list[str]:
    """The classes that some neuron of the bundle shows, by name."""
    return [name for name in rows["class"].cat.categories if name] if "class" in rows else []


def models_of(rows: pd.DataFrame) -> list[str]:
    """The target models that rows come from, in the bundle's order."""
    return [str(name) for name in rows["model"].unique()]


def neuron_ids(rows: pd.DataFrame) -> list[str]:
    """``model/layer/unit`` of every row."""
    code_r, pairs = pd.factorize(pd.MultiIndex.from_frame(rows[["model", "layer"]]))
    start_p = [str(NeuronRef(model, layer, 0)).removesuffix("0") for model, layer in pairs]
    return [f"{start_p[code]}{unit}" for code, unit in zip(code_r, rows["unit"], strict=True)]


def csv_bytes(rows: pd.DataFrame, shown: list[str]) -> bytes:
    """The rows as a page shows them, as a CSV file: the neuron's id first, nothing rounded."""
    named = rows[shown].copy()
    named.insert(0, "neuron", neuron_ids(rows))
    return csv_text(named).encode()
