"""A text search over the neurons of a bundle, from what was typed to what a page shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.search import (
    NullLevel,
    allowed_rows,
    combine,
    prompts,
    rank,
    rank_like,
    row_of,
    stored_label,
)
from csp_engine.types import NeuronRef
from pages.ui import store
from pages.ui.neurons import best_label
from pages.ui.state import View, split_texts


@dataclass(frozen=True, slots=True)
class Hit:
    """One neuron found; ``percentile`` is None where the method has no null."""

    neuron: NeuronRef
    score: float
    percentile: float | None
    is_above_chance: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a query."""

    hits: tuple[Hit, ...]
    n_searched: int
    n_draws: int
    bar: float | None
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]

    @property
    def n_above_chance(self) -> int:
        """Hits that beat the best that as many random image sets would reach."""
        return sum(hit.is_above_chance for hit in self.hits)


def texts_of(bundle: Bundle, query: str) -> list[str]:
    """The concepts in a query: one if the whole is a label, else split at commas."""
    whole = query.strip()
    if not whole:
        return []
    return [whole] if stored_label(bundle, whole) is not None else split_texts(whole)


def find(bundle: Bundle, view: View) -> Found:
    """Rank the neurons of a bundle by ``view.q`` minus ``view.but_not``.

    Raises:
        InputError: if there is nothing to search for.
        CspError: what loading an index or an encoder can raise.
    """
    positive, negative = texts_of(bundle, view.q), texts_of(bundle, view.but_not)
    if not positive:
        raise InputError("Type what to look for; “but not” alone describes nothing.")
    index, rows = store.index_of(bundle, view.method)
    query_d = combine(
        np.stack([store.vector_of(bundle, text) for text in positive]),
        np.stack([store.vector_of(bundle, text) for text in negative]) if negative else None,
    )
    allowed = None
    if not view.is_all_layers:
        allowed = allowed_rows(rows, model=view.model, layers=[view.layer])
    ranking = rank(index, query_d, view.k, allowed_u=allowed)
    n_searched = index.ntotal if allowed is None else int(allowed.sum())

    levels: dict[tuple[str, str], NullLevel | None] = {}
    hits = []
    bars = []
    for row, score in zip(ranking.row_m.tolist(), ranking.score_m.tolist(), strict=True):
        model, layer, unit = rows.iloc[row][["model", "layer", "unit"]]
        if (model, layer) not in levels:
            null_rd = store.null_of(bundle, model, layer, view.method)
            levels[model, layer] = None if null_rd is None else NullLevel.of(null_rd, query_d)
        level = levels[model, layer]
        percentile, is_above = None, True
        if level is not None:
            bar = level.best_of(n_searched)
            bars.append(bar)
            percentile = float(level.percentile(np.array([score], np.float32))[0])
            is_above = score > bar
        hits.append(Hit(NeuronRef(model, layer, int(unit)), score, percentile, is_above))
    drawn = [len(level.score_r) for level in levels.values() if level is not None]
    return Found(
        tuple(hits),
        n_searched,
        max(drawn, default=0),
        max(bars, default=None),
        tuple(p for text in positive for p in prompts(bundle, text)),
        tuple(p for text in negative for p in prompts(bundle, text)),
    )


def nearest(bundle: Bundle, view: View, n: int = 6) -> list[tuple[NeuronRef, float]]:
    """The neurons whose concept vectors lie closest to this one's, over all layers."""
    if view.method not in store.searchable_methods(bundle):
        return []
    index, rows = store.index_of(bundle, view.method)
    row = row_of(rows, NeuronRef(view.model, view.layer, view.unit))
    ranking = rank_like(index, row, n)
    found = []
    for at, score in zip(ranking.row_m.tolist(), ranking.score_m.tolist(), strict=True):
        model, layer, unit = rows.iloc[at][["model", "layer", "unit"]]
        found.append((NeuronRef(model, layer, int(unit)), score))
    return found


def example_queries(bundle: Bundle, method: str, n: int = 8) -> list[str]:
    """Labels that some neuron carries reliably, strongest first, each once."""
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
    return sorted(best, key=lambda text: (-best[text], text))[:n]


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
