"""The melanoma case as numbers: which neurons matter, what they align with, what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.audits.alignment import (
    KINDS,
    best_alignment,
    best_match,
    chance_bar,
    influential,
    kinds,
)
from csp_engine.bundle import Bundle
from csp_engine.search import stored_label
from csp_engine.stats.intervals import Share, difference_of_shares, share_of
from csp_engine.views import random_sets
from csp_engine.views.address import View
from csp_engine.views.table.rows import neuron_table
from csp_engine.words.concepts import SHIPPED, Expected, read_expected
from pages.ui.shell import store

SHARE = 0.5
"""Neurons count as influential that together carry this share of their layer's influence."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One classifier under audit.

    ``rows`` has one row per neuron: ``place`` (see ``places``), ``model``, ``layer``,
    ``unit``, ``share`` (its influence on the output as a signed share of the sum of absolute
    influences of its layer), ``is_influential``, ``valid`` and ``spurious`` (alignments) with
    ``valid_text`` and ``spurious_text``, ``kind``, ``label`` with ``reliable``, and, where the
    bundle knows the truth, ``truth``, ``truth_kind``, ``auroc``, ``auroc_low``, ``auroc_high``.
    ``bars`` are the alignments that 95 % of random image sets stay below.
    """

    model: str
    output: str
    layers: tuple[str, ...]
    valid_texts: tuple[str, ...]
    spurious_texts: tuple[str, ...]
    bars: tuple[float, float]
    has_empty: bool
    n_images: int
    is_predicted: bool
    rows: pd.DataFrame

    @property
    def influential(self) -> pd.DataFrame:
        """The neurons that matter, those of most influence first."""
        kept = self.rows[self.rows["is_influential"]]
        return kept.iloc[np.argsort(-kept["share"].abs().to_numpy(), kind="stable")]

    def of_kind(self, kind: str) -> pd.DataFrame:
        """The influential neurons of a kind, those of most influence first."""
        return self.influential[self.influential["kind"] == kind]


def expected() -> Expected:
    """The concepts of the case, read once."""
    path = SHIPPED["melanoma"]
    return store.MEMO.once(("concepts", path.stat().st_mtime_ns), lambda: read_expected(path))


def methods_of(bundle: Bundle, model: str) -> list[str]:
    """Label methods whose concept vectors can be compared with texts and with chance."""
    layers = bundle.layers(model)
    return [
        method
        for method in bundle.methods(model, layers[0])
        if random_sets.null_of(bundle, store.MEMO, model, layers[0], method) is not None
    ]


def layers_of(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Layers of a model whose influence on the output is known."""
    return tuple(
        layer
        for layer in bundle.layers(model)
        if (found := bundle.influence(model, layer)) is not None
        and (at := expected().output_of(found.output_names)) is not None
        and int(found.n_image_c[at])
    )


def examine(bundle: Bundle, model: str, layers: tuple[str, ...], method: str) -> Case | str:
    """The case of a classifier, or the sentence that says what its bundle lacks."""
    key = ("case", bundle.digest, model, layers, method)
    return store.MEMO.once(key, lambda: _examine(bundle, model, layers, method))


def _examine(bundle: Bundle, model: str, layers: tuple[str, ...], method: str) -> Case | str:
    case = expected()
    layers = tuple(layer for layer in layers if layer in layers_of(bundle, model))
    if not layers:
        return _no_output(bundle, model, case)
    if method not in methods_of(bundle, model):
        return f"The labels of {model} have no concept vectors to compare with texts and chance."
    texts = {valid: case.texts(valid, lambda t: stored_label(bundle, t)) for valid in (True, False)}
    if not texts[True] or not texts[False]:
        lacking = "clinical criterion" if not texts[True] else "artefact"
        return (
            f"The vocabulary of {bundle.name} names no {lacking} that this page knows; build it "
            "with one that does, such as --vocabulary dermoscopy."
        )
    vectors = np.asarray(bundle.label_vectors())
    text_td = {valid: vectors[list(rows.values())] for valid, rows in texts.items()}
    # Where every label had the empty text taken away already, it must not go twice.
    is_taken = bool(bundle.stage("vocabulary").params.get("subtract_empty"))
    empty_d = None if is_taken else bundle.empty_text_vector()
    null_rd = random_sets.null_of(bundle, store.MEMO, model, layers[0], method)
    assert null_rd is not None
    bars = tuple(
        chance_bar(best_alignment(null_rd, text_td[valid], empty_d).value_u)
        for valid in (True, False)
    )
    names = {valid: np.array(list(rows), object) for valid, rows in texts.items()}
    whole = neuron_table(bundle, store.MEMO, method)
    parts = []
    for layer in layers:
        stored = bundle.influence(model, layer)
        assert stored is not None
        at = case.output_of(stored.output_names)
        effect_u = np.asarray(stored.gradient_activation_cu[at], np.float64)
        rows = whole[(whole["model"] == model) & (whole["layer"] == layer)]
        part = rows[["place", "model", "layer", "unit", "label", "reliable"]].copy()
        part["share"] = effect_u / (np.abs(effect_u).sum() or 1.0)
        part["is_influential"] = influential(effect_u, SHARE)
        vector_ud = np.asarray(bundle.scores(model, layer, method).vector_ud)
        for valid, name in ((True, "valid"), (False, "spurious")):
            found = best_alignment(vector_ud, text_td[valid], empty_d)
            part[name] = found.value_u
            part[f"{name}_text"] = np.where(np.isnan(found.value_u), "", names[valid][found.text_u])
        kind_u = kinds(part["valid"].to_numpy(), part["spurious"].to_numpy(), *bars)
        part["kind"] = np.array(KINDS, object)[kind_u]
        parts.append(_with_truth(bundle, model, layer, part))
    stored = bundle.influence(model, layers[0])
    assert stored is not None
    at = case.output_of(stored.output_names)
    assert at is not None
    return Case(
        model,
        stored.output_names[at],
        layers,
        tuple(texts[True]),
        tuple(texts[False]),
        (bars[0], bars[1]),
        is_taken or empty_d is not None,
        int(stored.n_image_c[at]),
        stored.is_predicted_class,
        pd.concat(parts, ignore_index=True),
    )


def _no_output(bundle: Bundle, model: str, case: Expected) -> str:
    stored = [bundle.influence(model, layer) for layer in bundle.layers(model)]
    outputs = next((found.output_names for found in stored if found is not None), None)
    if outputs is None:
        return f"Bundle {bundle.name} does not know which outputs the neurons of {model} drive."
    if case.output_of(outputs) is None:
        shown = ", ".join(outputs[:5]) + (", …" if len(outputs) > 5 else "")
        return f"{model} has no output called {case.title}; its outputs are {shown}."
    return f"No probe image counts as {case.title}, so no influence of {model} was measured on it."


def _with_truth(bundle: Bundle, model: str, layer: str, part: pd.DataFrame) -> pd.DataFrame:
    truth = bundle.truth(model, layer)
    if truth is None:
        return part
    kind_of = dict(zip(truth.concepts["name"], truth.concepts["kind"], strict=True))
    true_u = truth.units["true_concept"].astype(object).where(truth.units["true_concept"].notna())
    part["truth"] = ["" if pd.isna(name) else str(name) for name in true_u]
    part["truth_kind"] = [str(kind_of.get(name, "")) for name in part["truth"]]
    for column in ("auroc", "auroc_low", "auroc_high"):
        part[column] = truth.units[column].to_numpy()
    return part


def other_model(bundle: Bundle, model: str) -> str | None:
    """Another classifier of the bundle with a layer of the same name and the same output."""
    mine = set(layers_of(bundle, model))
    others = (other for other in bundle.model_names if other != model)
    return next((other for other in others if mine & set(layers_of(bundle, other))), None)


@dataclass(frozen=True, slots=True, eq=False)
class Fate:
    """What became of the influential neurons of a case in another classifier.

    ``rows`` are those of the case with ``match`` (the unit of the same layer whose concept vector
    is nearest), ``cosine``, ``match_share``, ``match_label``, ``match_place`` and ``is_smaller``
    (the match carries a smaller share of its layer's influence). ``smaller`` counts them by kind.
    """

    other: Case
    rows: pd.DataFrame
    smaller: Mapping[str, Share]

    @property
    def gap(self) -> tuple[float, float, float]:
        """Share of spurious neurons whose match is smaller, minus that of valid ones; bounds."""
        return difference_of_shares(self.smaller["spurious"], self.smaller["valid"])


def fate(bundle: Bundle, case: Case, other: Case, method: str) -> Fate:
    """Match every influential neuron with its nearest of the same layer of another classifier."""
    parts = []
    for layer in case.layers:
        theirs = other.rows[other.rows["layer"] == layer].reset_index(drop=True)
        mine = case.influential[case.influential["layer"] == layer]
        if theirs.empty or mine.empty:
            continue
        vector_ud = np.asarray(bundle.scores(case.model, layer, method).vector_ud)
        other_vd = np.asarray(bundle.scores(other.model, layer, method).vector_ud)
        match_u, cosine_u = best_match(vector_ud[mine["unit"].to_numpy()], other_vd)
        matched = theirs.iloc[match_u].reset_index(drop=True)
        part = mine.reset_index(drop=True)
        part["match"], part["cosine"] = match_u, cosine_u
        for name in ("share", "label", "reliable", "place"):
            part[f"match_{name}"] = matched[name]
        part["is_smaller"] = part["match_share"].abs() < part["share"].abs()
        parts.append(part[part["cosine"].notna()])
    whole = pd.concat(parts, ignore_index=True)
    whole = whole.iloc[np.argsort(-whole["share"].abs().to_numpy(), kind="stable")]
    smaller = {
        kind: share_of(int(mine["is_smaller"].sum()), len(mine))
        for kind in KINDS
        for mine in [whole[whole["kind"] == kind]]
    }
    return Fate(other, whole.reset_index(drop=True), smaller)


def influence_by_kind(case: Case) -> dict[str, float]:
    """Share of all influence that neurons of each kind carry, averaged over the layers."""
    total = case.rows["share"].abs().groupby(case.rows["kind"]).sum()
    return {kind: float(total.get(kind, 0.0)) / len(case.layers) for kind in KINDS}


def true_share(case: Case, rows: pd.DataFrame, is_valid: bool) -> Share:
    """How many of some neurons truly answer to one of the valid, or spurious, concepts."""
    texts = case.valid_texts if is_valid else case.spurious_texts
    return share_of(int(rows["truth"].isin(texts).sum()), len(rows))


def with_interval(share: Share) -> str:
    """A share in words: ``31 of 40 (78 %, 62 % to 88 %)``."""
    counts = f"{numbers.count(share.n_hits)} of {numbers.count(share.n)}"
    if not share.n:
        return counts
    ends = f"{numbers.share(share.low)} to {numbers.share(share.high)}"
    return f"{counts} ({numbers.share(share.share)}, {ends})"


def signed_share(value: float) -> str:
    """Influence as a signed percentage."""
    return f"{'−' if value < 0 else '+'}{numbers.share(abs(value))}"


def here(view: View, row: pd.Series, unit: str = "unit", model: str | None = None) -> View:
    """The view of a row's neuron."""
    name = str(row["model"]) if model is None else model
    return View(view.bundle, name, str(row["layer"]), int(row[unit]), view.method)
