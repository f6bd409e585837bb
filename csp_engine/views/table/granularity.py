"""How finely each method tells neurons apart, and how much of what could be said it says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.evaluation.faithfulness.granularity import (
    Specificity,
    Spread,
    Utility,
    specificity,
    spread,
    utility,
)
from csp_engine.evaluation.label_accuracy import wording_key
from csp_engine.vectors import normalise_rows
from csp_engine.views.memo import Memo
from csp_engine.views.places import places, scoring_methods
from csp_engine.views.table.rows import neuron_table
from csp_engine.views.table.summary import meanings
from csp_engine.words.hierarchy import kinds_of, levels_of
from csp_engine.words.vocabularies import parents_in


@dataclass(frozen=True, slots=True)
class Grain:
    """One method.

    ``utility`` is None where nobody knows what images show, ``specificity`` where the vocabulary
    does not say which words are kinds of others.
    """

    method: str
    spread: Spread
    utility: Utility | None
    specificity: Specificity | None


def granularity(bundle: Bundle, memo: Memo) -> tuple[Grain, ...]:
    """Meanings among the best labels of each method, and their utility, reliable or not."""

    def make() -> tuple[Grain, ...]:
        return tuple(_of_method(bundle, memo, method) for method in scoring_methods(bundle))

    return memo.once(("granularity", bundle.digest), make)


def _of_method(bundle: Bundle, memo: Memo, method: str) -> Grain:
    rows = neuron_table(bundle, memo, method)
    labelled = rows[rows["label"] != ""].assign(reliable=True)
    found = meanings(labelled, bundle, memo)
    said = [at for at, each in enumerate(found) for _ in range(each.n_neurons)]
    return Grain(method, spread(said), _utility(bundle, method), _specificity(bundle, method))


def _specificity(bundle: Bundle, method: str) -> Specificity | None:
    """By the links of the vocabulary; a label that is none of its words has no place there."""
    words = bundle.labels()
    texts, parents = words["text"].tolist(), parents_in(words)
    level_of = levels_of(texts, parents)
    if not level_of:
        return None
    broader_of: dict[int, list[int]] = {}
    for broader, kinds in kinds_of(texts, parents).items():
        for kind in kinds:
            broader_of.setdefault(kind, []).append(broader)
    depths: list[int] = []
    margins: list[float] = []
    for model, layer in places(bundle):
        if method not in bundle.methods(model, layer):
            continue
        scores, exemplars = bundle.scores(model, layer, method), bundle.exemplars(model, layer)
        own = bundle.method_labels(model, layer, method)["text"].tolist()
        for unit in np.flatnonzero(np.asarray(scores.count_u) > 0):
            word = bundle.label_ids.get(own[int(scores.label_uk[unit, 0])])
            if word not in level_of:
                continue
            depths.append(level_of[word])
            shown = exemplars.image_uk[unit, : int(exemplars.count_u[unit])]
            if len(shown) and (broader := broader_of.get(word)):
                mean_d = np.asarray(bundle.image_vectors()[shown], np.float64).mean(axis=0)
                said = normalise_rows(np.asarray(bundle.label_vectors()[[word, *broader]]))
                cosines = said @ normalise_rows(mean_d[None])[0]
                margins.append(float(cosines[0] - cosines[1:].max()))
    return specificity(depths, margins)


def _utility(bundle: Bundle, method: str) -> Utility | None:
    """By ground truth where a layer has it, else by the concept columns of the probe set."""
    pearson: list[np.ndarray] = []
    columns: list[int | None] = []
    for model, layer in places(bundle):
        if method not in bundle.methods(model, layer):
            continue
        known = _known(bundle, model, layer)
        if known is None:
            continue
        pearson_uc, column_of = known
        scores = bundle.scores(model, layer, method)
        texts = bundle.method_labels(model, layer, method)["text"].tolist()
        pearson += list(np.asarray(pearson_uc, np.float64))
        columns += [
            column_of.get(wording_key(texts[label])) if has else None
            for label, has in zip(
                np.asarray(scores.label_uk)[:, 0], np.asarray(scores.count_u) > 0, strict=True
            )
        ]
    if not columns:
        return None
    # Layers may have been measured against different concepts.
    padded_uc = np.full((len(pearson), max(map(len, pearson))), np.nan)
    for at, row in enumerate(pearson):
        padded_uc[at, : len(row)] = row
    return utility(padded_uc, columns)


def _known(bundle: Bundle, model: str, layer: str) -> tuple[np.ndarray, dict[str, int]] | None:
    """Correlations of units and concepts, and which concept a text names."""
    truth = bundle.truth(model, layer)
    if truth is not None:
        wordings = truth.wordings()
        names = truth.concepts["name"].tolist()
        column_of = {
            wording_key(text): at
            for at, name in enumerate(names)
            for text in (name, *wordings[name])
        }
        return truth.pearson_uc, column_of
    held = bundle.columns(model, layer)
    if held is None or not len(held.columns):
        return None
    names = held.columns["name"].tolist()
    return held.pearson_uc, {wording_key(name): at for at, name in enumerate(names)}
