"""What a page searches for, from its URL to a vector; and neurons worth starting from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rapidfuzz import fuzz, process

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.search.query import combine, prompts, query_vector, rank_like, row_of, stored_label
from csp_engine.types import NeuronRef
from csp_engine.views import controls
from csp_engine.views.address import View, split_texts, vectors
from csp_engine.views.finding.index import index_of, searchable_methods
from pages.ui.shell import store
from pages.ui.views.neuron import best_label

CLOSE_AT = 75
"""How alike two spellings are, of 100, for one to be offered in place of the other."""

SAME_AT = 0.7
"""Two labels say the same if their vectors, less what all labels share, are this much alike."""


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What neurons or images are compared with: a vector, and in words where it comes from.

    ``kind`` is ``text``, ``neuron`` or ``image``. The prompts are exactly what the encoder saw.
    """

    kind: str
    title: str
    vector_d: np.ndarray
    prompts: tuple[str, ...] = ()
    negative_prompts: tuple[str, ...] = ()


def vector_of(bundle: Bundle, text: str) -> np.ndarray:
    """The query vector of a text; loads the encoder only if the text is no label."""

    def make() -> np.ndarray:
        if stored_label(bundle, text) is not None:
            return query_vector(bundle, text)
        return store.ENCODERS.text_vector(bundle, text)

    return store.MEMO.once(("query", bundle.digest, text), make)


def is_quick(bundle: Bundle, texts: list[str]) -> bool:
    """Whether these texts need no encoder to be loaded now."""
    return store.ENCODERS.has_loaded(bundle) or all(
        ("query", bundle.digest, text) in store.MEMO or stored_label(bundle, text) is not None
        for text in texts
    )


def texts_of(bundle: Bundle, query: str) -> list[str]:
    """The concepts in a query: one if the whole is a label, else split at commas."""
    whole = query.strip()
    if not whole:
        return []
    return [whole] if stored_label(bundle, whole) is not None else split_texts(whole)


def texts_in(bundle: Bundle, view: View) -> list[str]:
    """All the texts that a query would have the encoder read."""
    return texts_of(bundle, view.q) + texts_of(bundle, view.but_not)


def spelt_like(bundle: Bundle, view: View, n: int = 3) -> list[str]:
    """Labels spelt nearly like a text of the query that is no label itself."""
    odd = [text for text in texts_of(bundle, view.q) if stored_label(bundle, text) is None]
    found: dict[str, None] = {}
    for text in odd:
        near = process.extract(
            text, bundle.label_ids.keys(), scorer=fuzz.ratio, score_cutoff=CLOSE_AT, limit=n
        )
        found.update(dict.fromkeys(label for label, *_ in near))
    return list(found)[:n]


def title_of(view: View) -> str:
    """A query in words, for the middle of a sentence."""
    if view.q:
        title = f"“{view.q}”"
    elif view.like:
        title = f"likeness to {view.like}"
    else:
        title = "your image" if view.image is None else f"probe image {view.image}"
    return f"{title} but not “{view.but_not}”" if view.but_not else title


def query_of(bundle: Bundle, view: View) -> Query:
    """The query of a view: texts, a neuron or an image, minus the texts to stay away from.

    Raises:
        InputError: if there is nothing to search for, or the neuron asked for has no vector.
        CspError: what loading an encoder can raise.
    """
    texts = texts_of(bundle, view.q)
    positive_qd, kind = _positive(bundle, view, texts)
    negative = texts_of(bundle, view.but_not)
    negative_rd = np.stack([vector_of(bundle, t) for t in negative]) if negative else None
    return Query(
        kind,
        title_of(view),
        combine(positive_qd, negative_rd),
        tuple(p for text in texts for p in prompts(bundle, text)),
        tuple(p for text in negative for p in prompts(bundle, text)),
    )


def _positive(bundle: Bundle, view: View, texts: list[str]) -> tuple[np.ndarray, str]:
    if texts:
        rows = np.stack([vector_of(bundle, text) for text in texts])
        return rows, "text"
    if view.like:
        neuron = NeuronRef.parse(view.like)
        if view.method not in bundle.methods(neuron.model, neuron.layer):
            raise InputError(f"Neuron {neuron} was not labelled by the method {view.method}.")
        scores = bundle.scores(neuron.model, neuron.layer, view.method)
        vector_d = np.asarray(scores.vector_ud[neuron.unit], np.float32)
        if not vector_d.any():
            raise InputError(f"Neuron {neuron} has no evidence, so nothing can be like it.")
        return vector_d[None], "neuron"
    if view.image is not None:
        vector_d = np.asarray(bundle.image_vectors()[view.image], np.float32)
        return vector_d[None], "image"
    vector_d = vectors.decode(view.vec, bundle) if view.vec else None
    if vector_d is None:
        raise InputError("Type what to look for; “but not” alone describes nothing.")
    return vector_d[None], "image"


def nearest(bundle: Bundle, view: View, n: int = 6) -> list[tuple[NeuronRef, float]]:
    """The neurons whose concept vectors lie closest to this one's, over all layers."""
    if view.method not in searchable_methods(bundle):
        return []
    index, rows = index_of(bundle, store.MEMO, view.method)
    row = row_of(rows, NeuronRef(view.model, view.layer, view.unit))
    ranking = rank_like(index, row, n)
    near = rows[["model", "layer", "unit"]].take(ranking.row_m)
    places = zip(near["model"], near["layer"], near["unit"], strict=True)
    return [
        (NeuronRef(model, layer, int(unit)), score)
        for (model, layer, unit), score in zip(places, ranking.score_m.tolist(), strict=True)
    ]


def example_queries(bundle: Bundle, method: str, n: int = 8) -> list[str]:
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
    return _different(bundle, sorted(best, key=lambda text: (-best[text], text)), n)


def _different(bundle: Bundle, texts: list[str], n: int) -> list[str]:
    """The first texts that differ from each other to the encoder, as far as it read them."""
    chosen: list[str] = []
    kept: list[np.ndarray] = []
    for text in texts:
        label = stored_label(bundle, text)
        if label is None:
            continue
        own_d = controls.own_labels(bundle, store.MEMO, [label])[0]
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
                scores = bundle.scores(model, layer, method)
                texts = bundle.method_labels(model, layer, method)["text"].to_numpy(object)
                has_u = np.asarray(scores.count_u) > 0
                found.update(texts[np.asarray(scores.label_uk[:, 0])[has_u]].tolist())
    return sorted(found, key=lambda text: (text.casefold(), text))


def showcase(bundle: Bundle, method: str, n_best: int = 40) -> NeuronRef | None:
    """A neuron worth showing first: reliably labelled, methods agreeing, exemplars alike."""
    found: list[tuple[int, float, float, NeuronRef]] = []
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            if method not in bundle.methods(model, layer):
                continue
            scores = bundle.scores(model, layer, method)
            units = bundle.units(model, layer)
            good = np.flatnonzero(np.asarray(scores.reliable_u) & (np.asarray(scores.count_u) > 0))
            best = np.asarray(scores.score_uk)[good, 0]
            for unit in good[np.argsort(-best, kind="stable")[:n_best]].tolist():
                n_agreeing = sum(
                    best_label(bundle, model, layer, unit, other).text
                    == best_label(bundle, model, layer, unit, method).text
                    for other in bundle.methods(model, layer)
                )
                clarity = float(units["clarity"].iloc[unit]) if "clarity" in units else 0.0
                strength = float(scores.score_uk[unit, 0])
                found.append((n_agreeing, clarity, strength, NeuronRef(model, layer, unit)))
    return max(found, key=lambda each: each[:3])[3] if found else None
