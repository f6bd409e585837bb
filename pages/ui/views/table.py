"""Neurons as rows: one table for a bundle and a method, and what a view keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.search.query import NullLevel
from csp_engine.stats.enrichment import main_class
from csp_engine.types import NeuronRef
from csp_engine.views import random_sets
from csp_engine.views.address import REVIEWS, Narrowing, View
from pages.ui.parts import words
from pages.ui.parts.cards import base_url
from pages.ui.shell import store
from pages.ui.views import query as finding
from pages.ui.views.agreement import disagreement, label_distance
from pages.ui.views.neuron import method_title


@dataclass(frozen=True, slots=True)
class Column:
    """How a page shows one column.

    ``kind`` is text, number, figure (three digits, whatever its size), count, share (0 to 1) or
    flag; ``term`` the word of the glossary that tells more.
    """

    title: str
    kind: str
    meaning: str
    term: str

    @property
    def help(self) -> str:
        """The meaning and a way to the glossary, as Markdown for a tooltip."""
        return words.tooltip(self.meaning, self.term)


COLUMNS = {
    "label": Column(
        "Best label", "text", "The label that the chosen method scores highest.", "label"
    ),
    "others": Column(
        "Other methods", "text", "What the other methods call it, where they are reliable.",
        "method",
    ),
    "disagreement": Column(
        "Disagreement", "number",
        "How far apart to the encoder two reliable labels by different methods lie at most, from 0 "
        f"to 2; {1 - finding.SAME_AT:g} and less counts as the same in other words.",
        "disagreement",
    ),
    "review": Column(
        "Review", "text", "What reviewers say of it, or that they disagree.", "verdict"
    ),
    "model": Column("Model", "text", "The network under study.", "target model"),
    "layer": Column(
        "Layer", "text", "Where in the network, and how its maps become one number.", "layer"
    ),
    "unit": Column("Unit", "count", "Number of the neuron within its layer.", "unit"),
    "match": Column(
        "Match", "number", "Cosine of the query and the neuron's concept vector.", "concept vector"
    ),
    "match_null": Column(
        "Match null", "share", "Share of random image sets that match the query less.", "null"
    ),
    "score": Column(
        "Score", "number", "Score of the best label; not on one scale across methods.", "score"
    ),
    "margin": Column(
        "Margin", "number", "How far the best label is ahead of the second.", "margin"
    ),
    "percentile": Column(
        "Percentile", "share", "Share of random image sets whose best label scores lower.",
        "percentile",
    ),
    "reliable": Column(
        "Reliable", "flag", "The best label beats those of 95 % of random image sets.",
        "reliable label",
    ),
    "clarity": Column(
        "Clarity", "number", "Mean cosine between exemplars: high means that they look alike.",
        "clarity",
    ),
    "polysemanticity": Column(
        "Polysemanticity", "number",
        "How far apart the two halves of the exemplars lie, from 0 to 2.", "polysemanticity",
    ),
    "density": Column(
        "Density", "share", "Share of probe images on which the neuron is active.", "density"
    ),
    "max": Column("Strongest", "figure", "Largest activation on the probe set.", "activation"),
    "state": Column(
        "State", "text", "Dead, dense, constant or never positive on the probe set.", "dead"
    ),
    "class": Column(
        "Class", "text",
        "The class that most exemplars show, if they show it more often than the probe set does.",
        "exemplar",
    ),
    "truth": Column(
        "Truth", "text",
        "The concept that the neuron really answers to, measured on images with known concepts.",
        "true concept",
    ),
}  # fmt: skip
RANGED = ("match", "score", "margin", "percentile", "clarity", "polysemanticity", "density")
_STATES = (
    ("is_constant", "constant"),
    ("is_dead", "dead"),
    ("is_dense", "dense"),
    ("never_positive", "never positive"),
)


def places(bundle: Bundle) -> list[tuple[str, str]]:
    """All layers of a bundle, in its own order; routes count layers by their place here."""
    return [(model, layer) for model in bundle.model_names for layer in bundle.layers(model)]


def neuron_table(bundle: Bundle, method: str) -> pd.DataFrame:
    """Every neuron of a bundle in the bundle's order, with its best label by a method.

    ``place`` is the number of its layer in ``places``; ``score``, ``margin`` and ``percentile`` are
    NaN and ``label`` is empty where the method had nothing to go by. ``others`` names the labels of
    the other methods; ``disagreement`` and ``disagree`` say how far apart reliable ones lie.
    """

    def make() -> pd.DataFrame:
        whole = pd.concat(
            [
                _layer_rows(bundle, place, model, layer, method)
                for place, (model, layer) in enumerate(places(bundle))
            ],
            ignore_index=True,
        )
        for name in ("model", "layer", "state", "class"):
            if name in whole:
                whole[name] = whole[name].astype("category")
        return whole

    return store.MEMO.once(("table", bundle.digest, method), make)


def _layer_rows(bundle: Bundle, place: int, model: str, layer: str, method: str) -> pd.DataFrame:
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
        "percentile": nothing,
        "reliable": False,
    }
    methods = bundle.methods(model, layer)
    said = {name: _best_texts(bundle, model, layer, name) for name in methods}
    if method in methods:
        scores = bundle.scores(model, layer, method)
        count_u = np.asarray(scores.count_u)
        has_u = count_u > 0
        columns["label"] = said[method]
        columns["score"] = np.where(has_u, scores.score_uk[:, 0], np.nan).astype(np.float32)
        if scores.score_uk.shape[1] > 1:
            ahead_u = np.asarray(scores.score_uk[:, 0]) - np.asarray(scores.score_uk[:, 1])
            columns["margin"] = np.where(count_u > 1, ahead_u, np.nan).astype(np.float32)
        columns["percentile"] = np.where(has_u, scores.best_percentile_u, np.nan).astype(np.float32)
        columns["reliable"] = np.asarray(scores.reliable_u) & has_u
    reliable = {m: np.asarray(bundle.scores(model, layer, m).reliable_u) for m in methods}
    columns["others"] = other_methods(method, said, reliable) if method in methods else ""
    columns |= {"disagreement": nothing, "disagree": False}
    columns |= disagreement(said, reliable, label_distance(bundle)) if methods else {}
    for name in ("clarity", "polysemanticity", "density", "max"):
        columns[name] = units[name].to_numpy(np.float32) if name in units else nothing
    state = np.full(n_units, "", object)
    for flag, word in reversed(_STATES):
        if flag in units:
            state = np.where(units[flag].to_numpy(bool), word, state)
    columns["state"] = state
    classes = _main_classes(bundle, model, layer)
    if classes is not None:
        columns["class"] = classes
    truth = bundle.truth(model, layer)
    columns["truth"] = pd.NA if truth is None else truth.units["true_concept"].to_numpy(object)
    return pd.DataFrame(columns, index=range(n_units))


def _best_texts(bundle: Bundle, model: str, layer: str, method: str) -> np.ndarray:
    """The best label of every unit, empty where there is none."""
    scores = bundle.scores(model, layer, method)
    texts = bundle.method_labels(model, layer, method)["text"].to_numpy(object)
    has_u = np.asarray(scores.count_u) > 0
    if not len(texts):
        return np.full(len(has_u), "", object)
    first_u = np.where(has_u, np.asarray(scores.label_uk[:, 0]), 0)
    return np.where(has_u, texts[first_u], "")


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
    count_uc = np.zeros((bundle.n_units(model, layer), len(classes)), np.int32)
    count_uc[counts["unit"].to_numpy(), counts["class"].to_numpy()] = counts["count"].to_numpy()
    class_u, has_u = main_class(count_uc, classes["n_images"].to_numpy())
    return np.where(has_u, classes["name"].to_numpy(object)[class_u], "")


def classes_of(rows: pd.DataFrame) -> list[str]:
    """The classes that some neuron of the bundle shows, by name."""
    return [name for name in rows["class"].cat.categories if name] if "class" in rows else []


def matches(bundle: Bundle, view: View) -> pd.DataFrame:
    """``match`` and ``match_null`` of every neuron for the query, in the order of the table.

    A neuron is no match of itself.

    Raises:
        CspError: as a search would.
    """
    query = finding.query_of(bundle, view)
    query_d = query.vector_d
    parts = []
    for model, layer in places(bundle):
        n_units = bundle.n_units(model, layer)
        match_u = share_u = np.full(n_units, np.nan, np.float32)
        if view.method in bundle.methods(model, layer):
            scores = bundle.scores(model, layer, view.method)
            match_u = np.asarray(scores.vector_ud) @ query_d
            match_u[np.asarray(scores.count_u) == 0] = np.nan
            if view.like.startswith(f"{model}/{layer}/"):
                match_u[NeuronRef.parse(view.like).unit] = np.nan
            null_rd = random_sets.null_of(bundle, store.MEMO, model, layer, view.method)
            if null_rd is not None:
                level = NullLevel.of(null_rd, query_d)
                finest = 1 - 1 / max(1, len(level.score_r))  # no finer than the draws allow
                share_u = np.minimum(level.percentile(match_u), np.float32(finest))
                share_u[np.isnan(match_u)] = np.nan
        parts.append(pd.DataFrame({"match": match_u, "match_null": share_u}))
    return pd.concat(parts, ignore_index=True)


def passes(table: pd.DataFrame, review: str) -> np.ndarray:
    """Which rows have the state of review that a URL asks for."""
    if review == REVIEWS[0]:
        return np.ones(len(table), bool)
    if "review" not in table:  # nobody has said anything yet
        return np.full(len(table), review == "unreviewed")
    if review in ("reviewed", "unreviewed"):
        return (table["review"].notna() == (review == "reviewed")).to_numpy(bool)
    return (table["review"] == review).to_numpy(bool)


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
    if keep.only == "disagree":
        kept &= table["disagree"].to_numpy(bool)
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
    if name:
        is_up = not keep.sort.startswith("-")
        key = (lambda s: s.str.casefold()) if name in ("label", "others", "truth") else None
        rows = rows.sort_values(name, ascending=is_up, kind="stable", na_position="last", key=key)
    return rows


def strip_urls(view: View, bundle: Bundle, rows: pd.DataFrame) -> pd.Series:
    """Where the picture of each row's strongest exemplars is served."""
    root = base_url(f"csp/strip/{quote(view.bundle, safe='')}/{bundle.digest[:16]}/")
    neuron = rows["place"].astype("string") + "-" + rows["unit"].astype("string")
    return (root + neuron).astype("string")


def neuron_ids(rows: pd.DataFrame) -> list[str]:
    """``model/layer/unit`` of every row."""
    return [
        str(NeuronRef(model, layer, int(unit)))
        for model, layer, unit in zip(rows["model"], rows["layer"], rows["unit"], strict=True)
    ]


def csv_bytes(rows: pd.DataFrame, shown: list[str]) -> bytes:
    """The rows as a page shows them, as a CSV file: the neuron's id first, nothing rounded."""
    named = rows[shown].copy()
    named.insert(0, "neuron", neuron_ids(rows))
    return named.to_csv(index=False, lineterminator="\n").encode()
