"""All labels of a bundle: how sure one can be, what layers know, where methods differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.accuracy import has_truth, kept_judged_labels
from csp_engine.views.confidence import LIKELY, PLAUSIBLE, probabilities
from csp_engine.views.controls import own_labels
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.table.agreement import label_distance
from csp_engine.views.table.families import founders
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
    n_of = rows.loc[rows["reliable"], "label"].value_counts().to_dict()
    ids = bundle.label_ids
    known = [text for text in n_of if text in ids]
    own_md = own_labels(bundle, memo, [ids[text] for text in known])
    members: dict[int, list[str]] = {}
    for text, founder in zip(known, founders(own_md).tolist(), strict=True):
        members.setdefault(founder, []).append(text)
    found = [
        Meaning(text, tuple(others), sum(n_of[each] for each in (text, *others)))
        for text, *others in members.values()
    ]
    found += [Meaning(text, (), n) for text, n in n_of.items() if text not in ids]
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What one method calls a neuron; ``is_right`` is None where nobody knows."""

    method: str
    text: str
    is_right: bool | None


@dataclass(frozen=True, slots=True)
class Telling:
    """A neuron that tells methods apart: what each calls it, and the true concept, or nothing."""

    neuron: NeuronRef
    answers: tuple[Answer, ...]
    truth: str


def telling(bundle: Bundle, memo: Memo, method: str) -> Telling | None:
    """A neuron that a method is right about and most others are not.

    Where no truth is known, one on which reliable labels differ most; None where there is none.
    """

    def make() -> Telling | None:
        if has_truth(bundle):
            return _telling(bundle, memo, method)
        found, _ = disagreements(bundle, memo, method, 1)
        if not found:
            return None
        said = found[0].said.items()
        answers = tuple(Answer(name, text, None) for name, text in said)
        return Telling(found[0].neuron, answers, "")

    return memo.once(("telling", bundle.digest, method), make)


def _telling(bundle: Bundle, memo: Memo, method: str) -> Telling | None:
    judged = {name: _by_neuron(own) for name, own in kept_judged_labels(bundle, memo).items()}
    if method not in judged or len(judged) < 2:
        return None
    own = judged[method]
    own = own[own["best"].to_numpy(bool) & (own["claims"] == True).to_numpy(bool)]  # noqa: E712
    own = own[(own["kind"] == "measured").to_numpy(bool)]
    if own.empty:
        return None
    said_u = _texts(bundle, own.index, method)
    distance = label_distance(bundle, memo)
    n_wrong_u, apart_u = np.zeros(len(own), int), np.zeros(len(own))
    every: list[list[str]] = [[text] for text in said_u]
    for name, each in judged.items():
        if name != method:
            # A label that names something else that goes with the neuron is not told to be wrong.
            off_u = (each["is_related"].reindex(own.index) == False).to_numpy()  # noqa: E712
            n_wrong_u += off_u
            wrong = _texts(bundle, own.index[off_u], name)
            apart_u[off_u] += np.nan_to_num(distance(said_u[off_u], wrong))
            for at, text in zip(np.flatnonzero(off_u), wrong, strict=True):
                every[at].append(text)
    if not n_wrong_u.max():
        return None
    n_said_u = np.array([len(set(texts)) for texts in every])
    at = own.index[np.lexsort((-apart_u, -n_said_u, -n_wrong_u))[0]]
    neuron = NeuronRef(str(at[0]), str(at[1]), int(at[2]))
    answers = [
        Answer(name, str(bundle.best_texts(*at[:2], name)[at[2]]), bool(each["best"].loc[at]))
        for name, each in judged.items()
        if at in each.index
    ]
    return Telling(neuron, tuple(answers), str(own["concepts"].loc[at][0]))


def _by_neuron(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.set_index(["model", "layer", "unit"])


def _texts(bundle: Bundle, neurons: pd.MultiIndex, method: str) -> np.ndarray:
    """What a method calls some neurons."""
    texts = {place: bundle.best_texts(*place, method) for place in {at[:2] for at in neurons}}
    return np.array([texts[at[:2]][at[2]] for at in neurons], object)
