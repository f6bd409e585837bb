"""What is worth starting from: queries, labels in use, a neuron to show first, and neighbours."""

from __future__ import annotations

import numpy as np

from csp_engine.bundle import Bundle, kinds
from csp_engine.search import query_vector, rank, rank_like, row_of, stored_label
from csp_engine.types import NeuronRef
from csp_engine.views.audit.interventions import tried_artefacts
from csp_engine.views.conclusion.meaning import same_meaning
from csp_engine.views.controls import SAME_AT, own_labels
from csp_engine.views.finding.index import index_of
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.card import is_planted
from csp_engine.views.neuron.label import best_label
from csp_engine.views.places import places


def nearest(
    bundle: Bundle, memo: Memo, neuron: NeuronRef, method: str, n: int = 6
) -> list[tuple[NeuronRef, float]]:
    """The neurons whose concept vectors lie closest to this one's, over all layers.

    Empty where the method has no search index, or has not labelled this layer.
    """
    is_indexed = bundle.has(kinds.INDEX.name(method))
    if not is_indexed or method not in bundle.methods(neuron.model, neuron.layer):
        return []
    index, rows = index_of(bundle, memo, method)
    ranking = rank_like(index, row_of(rows, neuron), n)
    near = (rows[name].array.take(ranking.row_m) for name in ("model", "layer", "unit"))
    found = zip(*near, strict=True)
    return [
        (NeuronRef(model, layer, int(unit)), score)
        for (model, layer, unit), score in zip(found, ranking.score_m.tolist(), strict=True)
    ]


def example_queries(bundle: Bundle, memo: Memo, method: str, n: int = 8) -> list[str]:
    """Labels that some neuron carries reliably, strongest first, and no two that say the same."""
    best: dict[str, float] = {}
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            if method not in bundle.methods(model, layer):
                continue
            scores = bundle.scores(model, layer, method)
            texts = bundle.method_labels(model, layer, method)["text"]
            good = np.flatnonzero(np.asarray(scores.reliable_u) & (np.asarray(scores.count_u) > 0))
            top = good[np.argsort(-np.asarray(scores.score_uk)[good, 0], kind="stable")[: 4 * n]]
            for unit in top:
                text = str(texts.iloc[int(scores.label_uk[unit, 0])])
                best[text] = max(best.get(text, -1.0), float(scores.score_uk[unit, 0]))
    return _different(bundle, memo, sorted(best, key=lambda text: (-best[text], text)), n)


def starting_points(bundle: Bundle, memo: Memo, method: str, n: int = 8) -> list[str]:
    """Words of the vocabulary worth searching for first, and no two that say the same.

    First what was added to photographs, the largest effect first; then the concept columns that
    some neuron follows most closely; then ``example_queries``.
    """

    def make() -> list[str]:
        texts = [*tried_artefacts(bundle), *_followed(bundle)]
        texts += example_queries(bundle, memo, method, n) if len(texts) < n else []
        return _different(bundle, memo, list(dict.fromkeys(texts)), n)

    return memo.once(("starting", bundle.digest, method, n), make)


ANSWERS = 12
"""Answers to a search that fill its first screen."""


def pictured(bundle: Bundle, memo: Memo, method: str, n: int = 8) -> list[tuple[str, NeuronRef]]:
    """``starting_points``, each with a neuron of the first answers to a search for it.

    The first of a network whose label means the same, else the first of all: planted units answer
    best, and are not what one looks for.
    """

    def make() -> list[tuple[str, NeuronRef]]:
        same = same_meaning(bundle, memo)

        def named(neuron: NeuronRef, text: str) -> bool:
            label = best_label(bundle, neuron, method)
            is_own = label.is_named and not is_planted(bundle, neuron)
            return is_own and same(label.text, text)

        index, rows = index_of(bundle, memo, method)
        names = [rows[name].array for name in ("model", "layer", "unit")]
        found = []
        for text in starting_points(bundle, memo, method, n):
            best = rank(index, query_vector(bundle, text), ANSWERS).row_m
            answers = zip(*(array.take(best) for array in names), strict=True)
            neurons = [NeuronRef(str(m), str(layer), int(unit)) for m, layer, unit in answers]
            own = (each for each in neurons if named(each, text))
            shown = next(own, next(iter(neurons), None))
            found += [] if shown is None else [(text, shown)]
        return found

    return memo.once(("pictured", bundle.digest, method, n), make)


def _followed(bundle: Bundle) -> list[str]:
    """Concept columns by the closest correlation of any neuron with them."""
    closest: dict[str, float] = {}
    for place in places(bundle):
        held = bundle.columns(*place)
        if held is None:
            continue
        best_c = np.nan_to_num(np.abs(np.asarray(held.pearson_uc, np.float64))).max(axis=0)
        for name, best in zip(held.columns["name"].tolist(), best_c.tolist(), strict=True):
            closest[str(name)] = max(closest.get(str(name), 0.0), best)
    return sorted(closest, key=lambda name: -closest[name])


def _different(bundle: Bundle, memo: Memo, texts: list[str], n: int) -> list[str]:
    """The first texts that differ from each other to the encoder, as far as it read them."""
    chosen: list[str] = []
    kept: list[np.ndarray] = []
    for text in texts:
        label = stored_label(bundle, text)
        if label is None:
            continue
        own_d = own_labels(bundle, memo, [label])[0]
        if all(float(own_d @ other_d) < SAME_AT for other_d in kept):
            chosen.append(text)
            kept.append(own_d)
        if len(chosen) == n:
            break
    return chosen


def labels_in_use(bundle: Bundle, method: str) -> list[str]:
    """Every label that is the best of some neuron, by name."""
    found: set[str] = set()
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            if method in bundle.methods(model, layer):
                found.update(bundle.best_texts(model, layer, method).tolist())
    return sorted(found - {""}, key=lambda text: (text.casefold(), text))


def showcase(bundle: Bundle, memo: Memo, method: str, n_best: int = 40) -> NeuronRef | None:
    """A neuron worth showing first: reliably labelled, methods agreeing, exemplars alike."""
    key = ("showcase", bundle.digest, method, n_best)
    return memo.once(key, lambda: _showcase(bundle, method, n_best))


def _showcase(bundle: Bundle, method: str, n_best: int) -> NeuronRef | None:
    found: list[tuple[int, float, float, NeuronRef]] = []
    for model, layer in places(bundle):
        methods = bundle.methods(model, layer)
        if method not in methods:
            continue
        scores = bundle.scores(model, layer, method)
        units = bundle.units(model, layer)
        good = np.flatnonzero(np.asarray(scores.reliable_u) & (np.asarray(scores.count_u) > 0))
        best = np.asarray(scores.score_uk)[good, 0]
        first = good[np.argsort(-best, kind="stable")[:n_best]]
        own = bundle.best_texts(model, layer, method)
        agreeing = sum(bundle.best_texts(model, layer, each) == own for each in methods)
        for unit in first.tolist():
            clarity = float(units["clarity"].iloc[unit]) if "clarity" in units else 0.0
            strength = float(scores.score_uk[unit, 0])
            found.append((int(agreeing[unit]), clarity, strength, NeuronRef(model, layer, unit)))
    return max(found, key=lambda each: each[:3])[3] if found else None
