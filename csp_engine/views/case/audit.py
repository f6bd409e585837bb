"""Which neurons of a classifier matter for an output, and which concepts they align with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.audits.alignment import KINDS, best_alignment, chance_bar, influential, kinds
from csp_engine.bundle import Bundle
from csp_engine.bundle.names import told_apart
from csp_engine.reading.tables import singular_key
from csp_engine.search import stored_label
from csp_engine.stats.intervals import Share, share_of
from csp_engine.types import NeuronRef
from csp_engine.views.audit.associations import tags_of
from csp_engine.views.memo import Memo
from csp_engine.views.random_sets import null_of, sizes
from csp_engine.views.table.rows import neuron_table
from csp_engine.words.concepts import SHIPPED, ConceptGroup, ConceptSet, Tag, read_concept_set

SHARE = 0.5
"""Neurons count as influential that together carry this share of their layer's influence."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One classifier under audit by a set of concepts.

    ``texts`` are the texts of the vocabulary that stand for the concepts of each tag, ``bars`` the
    alignments to them that 95 % of random image sets stay below. ``rows`` has one row per neuron:
    ``place`` (see ``table.places``), ``model``, ``layer``, ``unit``, ``share`` (its influence on
    the output as a signed share of the sum of absolute influences of its layer),
    ``is_influential``, an alignment for each tag (``valid``) with the nearest text
    (``valid_text``), ``kind``, ``label`` with ``reliable``, and, where the bundle knows the truth,
    ``truth``, ``truth_kind``, ``auroc``, ``auroc_low``, ``auroc_high``.
    """

    concepts: ConceptSet
    model: str
    output: str
    layers: tuple[str, ...]
    texts: Mapping[Tag, tuple[str, ...]]
    bars: Mapping[Tag, float]
    has_empty: bool
    n_images: int
    is_predicted: bool
    rows: pd.DataFrame

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that a neuron can be by these concepts."""
        return tuple(kind for kind in KINDS if kind == "unexpected" or kind in self.texts)

    @property
    def influential(self) -> pd.DataFrame:
        """The neurons that matter, those of most influence first."""
        kept = self.rows[self.rows["is_influential"]]
        return kept.iloc[np.argsort(-kept["share"].abs().to_numpy(), kind="stable")]

    def of_kind(self, kind: str) -> pd.DataFrame:
        """The influential neurons of a kind, those of most influence first."""
        return self.influential[self.influential["kind"] == kind]

    def influence_by_kind(self) -> dict[str, float]:
        """Share of all influence that neurons of each kind carry, averaged over the layers."""
        total = self.rows["share"].abs().groupby(self.rows["kind"]).sum()
        return {kind: float(total.get(kind, 0.0)) / len(self.layers) for kind in self.kinds}

    def true_share(self, rows: pd.DataFrame, tag: Tag) -> Share:
        """How many of some neurons truly answer to a concept of a tag."""
        return share_of(int(self.is_of(rows["truth"], tag).sum()), len(rows))

    def is_of(self, names: pd.Series, tag: Tag) -> pd.Series:
        """Which names the set gives a concept of a tag, whichever of them the vocabulary has."""
        tags = tags_of(self.concepts)
        return names.map(lambda name: tags.get(singular_key(name)) == tag)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which concepts of a group the vocabulary names, by the text it names them with."""

    group: ConceptGroup
    held: tuple[str, ...]
    lacking: tuple[str, ...]


def coverage(case: Case) -> tuple[Coverage, ...]:
    """What of each group of concepts takes part in a case; the others by their usual name."""
    used = {text for texts in case.texts.values() for text in texts}
    found = []
    for group in case.concepts.groups:
        held = [next((n for n in names if n in used), None) for names in group.concepts]
        lacking = (names[0] for names, n in zip(group.concepts, held, strict=True) if n is None)
        found.append(Coverage(group, tuple(name for name in held if name), tuple(lacking)))
    return tuple(found)


def melanoma(memo: Memo) -> ConceptSet:
    """The concepts of the melanoma case, read once."""
    path = SHIPPED["melanoma"]
    return memo.once(("concepts", path.stat().st_mtime_ns), lambda: read_concept_set(path))


def methods_of(bundle: Bundle, memo: Memo, model: str) -> list[str]:
    """Label methods whose concept vectors can be compared with texts and with chance."""
    layers = bundle.layers(model)
    return [
        method
        for method in bundle.methods(model, layers[0])
        if null_of(bundle, memo, model, layers[0], method) is not None
    ]


def layers_of(bundle: Bundle, concepts: ConceptSet, model: str) -> tuple[str, ...]:
    """Layers of a model whose influence on the output is known."""
    return tuple(
        layer
        for layer in bundle.layers(model)
        if (found := bundle.influence(model, layer)) is not None
        and (at := concepts.output_of(told_apart(found.output_names))) is not None
        and int(found.n_image_c[at])
    )


def examine(
    bundle: Bundle,
    memo: Memo,
    concepts: ConceptSet,
    model: str,
    layers: tuple[str, ...],
    method: str,
) -> Case | str:
    """The case of a classifier, or the sentence that says what its bundle lacks."""
    key = ("case", bundle.digest, concepts.sha256, model, layers, method)
    return memo.once(key, lambda: _examine(bundle, memo, concepts, model, layers, method))


def _examine(
    bundle: Bundle,
    memo: Memo,
    concepts: ConceptSet,
    model: str,
    layers: tuple[str, ...],
    method: str,
) -> Case | str:
    known = layers_of(bundle, concepts, model)
    layers = tuple(layer for layer in layers if layer in known)
    if not layers:
        return _no_output(bundle, concepts, model)
    null_rd = null_of(bundle, memo, model, layers[0], method)
    if method not in bundle.methods(model, layers[0]) or null_rd is None:
        return f"The labels of {model} have no concept vectors to compare with texts and chance."
    row_t = {tag: concepts.texts(tag, lambda t: stored_label(bundle, t)) for tag in concepts.tags}
    for tag in ("valid", "spurious"):
        if not row_t.get(tag):
            return (
                f"The vocabulary of {bundle.name} names no {tag} concept of “{concepts.title}”; "
                "build it with one that does, such as --vocabulary dermoscopy for melanoma."
            )
    row_t = {tag: rows for tag, rows in row_t.items() if rows}
    vectors = np.asarray(bundle.label_vectors())
    text_td = {tag: vectors[list(rows.values())] for tag, rows in row_t.items()}
    # Where every label had the empty text taken away already, it must not go twice.
    is_taken = bool(bundle.stage("vocabulary").params.get("subtract_empty"))
    empty_d = None if is_taken else bundle.empty_text_vector()
    bars = {
        tag: chance_bar(best_alignment(null_rd, each_td, empty_d).value_u)
        for tag, each_td in text_td.items()
    }
    whole = neuron_table(bundle, memo, method)
    parts = []
    for layer in layers:
        effect_u = _effect(bundle, concepts, model, layer)
        rows = whole[(whole["model"] == model) & (whole["layer"] == layer)]
        part = rows[["place", "model", "layer", "unit", "label", "reliable"]].copy()
        part["share"] = effect_u / (np.abs(effect_u).sum() or 1.0)
        part["is_influential"] = influential(effect_u, SHARE)
        vector_ud = np.asarray(bundle.scores(model, layer, method).vector_ud)
        for tag, each_td in text_td.items():
            found = best_alignment(vector_ud, each_td, empty_d)
            names = np.array(list(row_t[tag]), object)
            part[tag] = found.value_u
            part[f"{tag}_text"] = np.where(np.isnan(found.value_u), "", names[found.text_u])
            part[f"{tag}_bar"] = _bars(bundle, memo, model, layer, method, each_td, empty_d)
        kind_u = kinds(
            part["valid"].to_numpy(),
            part["spurious"].to_numpy(),
            part["valid_bar"].to_numpy(),
            part["spurious_bar"].to_numpy(),
            neutral_u=part["neutral"].to_numpy() if "neutral" in part else None,
            neutral_bar=part["neutral_bar"].to_numpy() if "neutral" in part else 0.0,
        )
        part["kind"] = np.array(KINDS, object)[kind_u]
        parts.append(_with_truth(bundle, model, layer, part))
    stored = bundle.influence(model, layers[0])
    assert stored is not None
    at = concepts.output_of(told_apart(stored.output_names))
    assert at is not None
    return Case(
        concepts,
        model,
        stored.output_names[at],
        layers,
        {tag: tuple(rows) for tag, rows in row_t.items()},
        bars,
        is_taken or empty_d is not None,
        int(stored.n_image_c[at]),
        stored.is_predicted_class,
        pd.concat(parts, ignore_index=True),
    )


def _bars(
    bundle: Bundle,
    memo: Memo,
    model: str,
    layer: str,
    method: str,
    text_td: np.ndarray,
    empty_d: np.ndarray | None,
) -> np.ndarray:
    """For each neuron what 95 % of random image sets of its own size stay below."""
    size_u = sizes(bundle, memo, model, layer, method)
    bar_u = np.full(len(size_u), np.nan)
    for size in np.unique(size_u).tolist():
        null_rd = null_of(bundle, memo, model, layer, method, size)
        if null_rd is not None:
            bar_u[size_u == size] = chance_bar(best_alignment(null_rd, text_td, empty_d).value_u)
    return bar_u


def _effect(bundle: Bundle, concepts: ConceptSet, model: str, layer: str) -> np.ndarray:
    stored = bundle.influence(model, layer)
    assert stored is not None
    at = concepts.output_of(told_apart(stored.output_names))
    return np.asarray(stored.gradient_activation_cu[at], np.float64)


def _no_output(bundle: Bundle, concepts: ConceptSet, model: str) -> str:
    stored = [bundle.influence(model, layer) for layer in bundle.layers(model)]
    outputs = next((told_apart(each.output_names) for each in stored if each is not None), None)
    if outputs is None:
        return f"Bundle {bundle.name} does not say which outputs the neurons of {model} drive."
    called = next(iter(concepts.outputs), concepts.title)
    if concepts.output_of(outputs) is None:
        shown = ", ".join(outputs[:5]) + (", …" if len(outputs) > 5 else "")
        return f"{model} has no output called {called}; its outputs are {shown}."
    return f"No probe image counts as {called}, so no influence of {model} was measured on it."


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


def neuron_of(row: pd.Series) -> NeuronRef:
    """The neuron of a row."""
    return NeuronRef(str(row["model"]), str(row["layer"]), int(row["unit"]))


def with_interval(share: Share) -> str:
    """A share in words: ``31 of 40 (78 %, 62 % to 88 %)``."""
    counts = f"{numbers.count(share.n_hits)} of {numbers.count(share.n)}"
    if not share.n:
        return counts
    ends = numbers.share_range(share.low, share.high)
    return f"{counts} ({numbers.share(share.share)}, {ends})"


def signed_share(value: float) -> str:
    """Influence as a signed percentage."""
    return f"{'−' if value < 0 else '+'}{numbers.share(abs(value))}"
