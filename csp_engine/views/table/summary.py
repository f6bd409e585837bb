"""All labels of a bundle: how sure one can be, what layers know, where methods differ."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.methods.depths.columns import grouped
from csp_engine.types import NeuronRef
from csp_engine.views.confidence import LIKELY, PLAUSIBLE, probabilities
from csp_engine.views.controls import SAME_AT, own_labels
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.table.rows import neuron_table


@dataclass(frozen=True, slots=True)
class LayerConfidence:
    """How sure one can be of a layer's labels by one method.

    ``n_likely`` labels are at least ``LIKELY`` to be right, ``n_plausible`` further ones at least
    ``PLAUSIBLE``; of the likely ones the share ``expected_wrong`` is expected to be wrong (the mean
    of 1 - p: an estimate of the false discovery rate), NaN where there are none.
    """

    model: str
    layer: str
    n_units: int
    n_likely: int
    n_plausible: int
    expected_wrong: float


def by_layer(bundle: Bundle, memo: Memo, method: str) -> list[LayerConfidence]:
    """Every layer that the method labelled, where its labels have probabilities."""
    rows = []
    for model, layer in places(bundle):
        if method not in bundle.methods(model, layer):
            continue
        p_u = probabilities(bundle, memo, model, layer, method)
        if p_u is not None:
            likely_u = p_u >= LIKELY
            n_plausible = int(((p_u >= PLAUSIBLE) & ~likely_u).sum())
            wrong = float(1 - p_u[likely_u].mean()) if likely_u.any() else float("nan")
            n_likely = int(likely_u.sum())
            rows.append(LayerConfidence(model, layer, len(p_u), n_likely, n_plausible, wrong))
    return rows


@dataclass(frozen=True, slots=True)
class Meaning:
    """Labels that mean the same, under the most frequent of them, and the neurons they name."""

    label: str
    others: tuple[str, ...]
    n_neurons: int


def meanings(rows: pd.DataFrame, bundle: Bundle, memo: Memo) -> list[Meaning]:
    """What the reliably labelled of these neurons are about, the most frequent first.

    Labels are alike if their vectors, less what all labels share, have a cosine of ``SAME_AT`` or
    more with that of the most frequent label of the meaning.
    """
    counts = rows.loc[rows["reliable"], "label"].value_counts()
    ids = bundle.label_ids
    known = [text for text in counts.index if text in ids]
    own_md = own_labels(bundle, memo, [ids[text] for text in known])
    found = []
    for group in grouped(own_md, SAME_AT):
        text, *others = texts = [known[at] for at in group]
        found.append(Meaning(text, tuple(others), int(counts[texts].sum())))
    found += [Meaning(text, (), int(n)) for text, n in counts.items() if text not in ids]
    return sorted(found, key=lambda each: -each.n_neurons)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A neuron of which methods reliably say different things, and how far apart these are."""

    neuron: NeuronRef
    said: dict[str, str]
    distance: float


def disagreements(
    bundle: Bundle, memo: Memo, method: str, limit: int = 10
) -> tuple[list[Disagreement], int]:
    """Neurons whose reliable labels mean different things, furthest apart first; how many."""
    rows = neuron_table(bundle, memo, method)
    apart = rows[rows["disagree"]].sort_values("disagreement", ascending=False, kind="stable")
    found = []
    for row in apart.head(limit).itertuples():
        said = {}
        for name in bundle.methods(row.model, row.layer):
            scores = bundle.scores(row.model, row.layer, name)
            if scores.count_u[row.unit] and scores.reliable_u[row.unit]:
                labels = bundle.method_labels(row.model, row.layer, name)["text"]
                said[name] = str(labels.iloc[int(scores.label_uk[row.unit, 0])])
        neuron = NeuronRef(row.model, row.layer, int(row.unit))
        found.append(Disagreement(neuron, said, float(row.disagreement)))
    return found, len(apart)
