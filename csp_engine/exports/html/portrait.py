"""Everything the static page of one neuron says, read from a bundle; no HTML here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, KeptScores
from csp_engine.search import open_index, rank_like
from csp_engine.stats.enrichment import Enrichment
from csp_engine.types import NeuronRef
from csp_engine.views.image_facts import Properties, image_facts, properties_of, shared_properties
from csp_engine.views.neuron_facts import (
    BestLabel,
    Histogram,
    best_label,
    flags,
    histogram_of,
    influence_rows,
    method_title,
    n_null,
    statistics,
)
from csp_engine.words.vocabularies import is_proposed

N_PAIRS = 12
N_LABELS = 10
N_NEAREST = 6
N_SHARED = 8
FIRST_FACTS = ("class", "group", "split", "shows", "file")
N_OTHER_FACTS = 2
CHANCE = 0.05
"""What is at least as likely by chance is shown in grey."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One image with its activation; ``facts`` is what is known about it."""

    image: int
    activation: str
    alt: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """An exemplar beside its nearest contrast image, where there is one."""

    rank: int
    exemplar: Shot
    contrast: Shot | None
    similarity: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate label; numbers are written as pages write them, shares are in [0, 1]."""

    text: str
    score: str
    raw: str
    margin: str
    percentile: str
    share: float
    raw_share: float
    is_proposed: bool


@dataclass(frozen=True, slots=True)
class MethodLabels:
    """The candidate labels of one method, best first, and how far the first can be trusted."""

    title: str
    verdict: str
    best_percentile: str
    is_reliable: bool
    has_raw: bool
    rows: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Portrait:
    """One neuron."""

    neuron: NeuronRef
    label: BestLabel
    method: str
    states: tuple[tuple[str, str], ...]
    truth: str
    pairs: tuple[Pair, ...]
    n_exemplars: int
    methods: tuple[MethodLabels, ...]
    histogram: Histogram | None
    statistics: tuple[tuple[str, str], ...]
    shared: tuple[Enrichment, ...]
    driven: tuple[tuple[str, float, list[str]], ...]
    nearest: tuple[tuple[NeuronRef, BestLabel, str], ...]

    @property
    def images(self) -> set[int]:
        """The probe images that the page shows."""
        shots = [shot for pair in self.pairs for shot in (pair.exemplar, pair.contrast) if shot]
        return {shot.image for shot in shots}


class Portrayer:
    """Reads portraits of a bundle; what they have in common is read once."""

    def __init__(self, bundle: Bundle, method: str) -> None:
        self.bundle = bundle
        self.method = method
        self.known: Properties = properties_of(bundle.images())
        self._index: Any = None
        self._row_of: dict[tuple[str, str, int], int] = {}
        self._neurons: list[NeuronRef] = []
        if bundle.has(f"index:{method}"):
            self._index, rows = open_index(bundle, method)
            places = zip(rows["model"], rows["layer"], rows["unit"], strict=True)
            self._neurons = [NeuronRef(str(m), str(layer), int(u)) for m, layer, u in places]
            self._row_of = {
                (each.model, each.layer, each.unit): row for row, each in enumerate(self._neurons)
            }
        self._facts: dict[int, tuple[tuple[str, str], ...]] = {}

    def portrait(self, neuron: NeuronRef) -> Portrait:
        """Everything about one neuron.

        Raises:
            BundleError: if a file that is needed is missing or damaged.
        """
        bundle, model, layer, unit = self.bundle, neuron.model, neuron.layer, neuron.unit
        row = bundle.units(model, layer).iloc[unit]
        exemplars = bundle.exemplars(model, layer)
        count = int(exemplars.count_u[unit])
        chosen = np.asarray(exemplars.image_uk[unit, :count])
        shared = shared_properties(bundle.images(), self.known, chosen)
        shared = sorted(shared, key=lambda each: each.q > CHANCE)[:N_SHARED]
        truth = bundle.truth(model, layer)
        concept = pd.NA if truth is None else truth.units["true_concept"].iloc[unit]
        return Portrait(
            neuron=neuron,
            label=best_label(bundle, model, layer, unit, self.method),
            method=method_title(self.method),
            states=tuple(flags(row)),
            truth="" if pd.isna(concept) else str(concept),
            pairs=self.pairs(neuron),
            n_exemplars=count,
            methods=tuple(
                labels_of(bundle, neuron, method) for method in bundle.methods(model, layer)
            ),
            histogram=None if bool(row["is_constant"]) else histogram_of(bundle, neuron),
            statistics=tuple(statistics(bundle, neuron)),
            shared=tuple(shared),
            driven=tuple(influence_rows(bundle, neuron) or ()),
            nearest=self._nearest(neuron),
        )

    def pairs(self, neuron: NeuronRef, limit: int = N_PAIRS) -> tuple[Pair, ...]:
        """Exemplars, strongest first, each beside its nearest contrast image."""
        exemplars = self.bundle.exemplars(neuron.model, neuron.layer)
        contrast = self.bundle.contrast(neuron.model, neuron.layer)
        unit = neuron.unit
        found = []
        for rank in range(min(limit, int(exemplars.count_u[unit]))):
            image = int(exemplars.image_uk[unit, rank])
            value = numbers.activation(exemplars.activation_uk[unit, rank])
            words = f"Exemplar {rank + 1}: image {image} of the probe set, activation {value}"
            exemplar = Shot(image, value, words, self._facts_of(image))
            other, alike = None, ""
            has_rank = rank < contrast.n_partner_uk.shape[1]
            if has_rank and int(contrast.n_partner_uk[unit, rank]):
                image = int(contrast.image_ukj[unit, rank, 0])
                low = numbers.activation(contrast.activation_ukj[unit, rank, 0])
                alike = numbers.score(contrast.similarity_ukj[unit, rank, 0])
                words = (
                    f"Contrast image of exemplar {rank + 1}: image {image}, activation {low}, "
                    f"similarity {alike}"
                )
                other = Shot(image, low, words, self._facts_of(image))
            found.append(Pair(rank + 1, exemplar, other, alike))
        return tuple(found)

    def _facts_of(self, image: int) -> tuple[tuple[str, str], ...]:
        if image not in self._facts:
            (every,) = image_facts(self.bundle.images(), self.known.flags, [image])
            first = [each for each in every if each[0] in FIRST_FACTS]
            others = [each for each in every if each[0] not in (*FIRST_FACTS, "size", "image")]
            self._facts[image] = (*first, *others[:N_OTHER_FACTS])
        return self._facts[image]

    def _nearest(self, neuron: NeuronRef) -> tuple[tuple[NeuronRef, BestLabel, str], ...]:
        row = self._row_of.get((neuron.model, neuron.layer, neuron.unit))
        if row is None:
            return ()
        ranking = rank_like(self._index, row, N_NEAREST)
        found = []
        for at, score in zip(ranking.row_m.tolist(), ranking.score_m.tolist(), strict=True):
            other = self._neurons[at]
            label = best_label(self.bundle, other.model, other.layer, other.unit, self.method)
            found.append((other, label, numbers.score(score)))
        return tuple(found)


def labels_of(bundle: Bundle, neuron: NeuronRef, method: str) -> MethodLabels:
    """What one method would call a neuron, as the build found it."""
    scores = bundle.scores(neuron.model, neuron.layer, method)
    n_draws, unit = n_null(bundle), neuron.unit
    count = min(N_LABELS, int(scores.count_u[unit]))
    labels = bundle.method_labels(neuron.model, neuron.layer, method)
    shown = labels[["text", "source"]].take(np.asarray(scores.label_uk[unit, :count]))
    texts, sources = shown["text"].tolist(), shown["source"].tolist()
    has_raw = KeptScores(bundle, neuron.model, neuron.layer, method).has_halves
    score_k, raw_k = (np.asarray(a[unit, :count], float) for a in (scores.score_uk, scores.raw_uk))
    every = [0.0, *score_k, *(raw_k if has_raw else ())]
    low = min(every)
    span = max(every) - low or 1.0
    rows = tuple(
        Candidate(
            text=str(texts[k]),
            score=numbers.score(score_k[k]),
            raw=numbers.score(raw_k[k]) if has_raw else "",
            margin=numbers.score(scores.margin_uk[unit, k]),
            percentile=numbers.percentile(float(scores.percentile_uk[unit, k]), n_draws)
            if n_draws
            else "–",
            share=float((score_k[k] - low) / span),
            raw_share=float((raw_k[k] - low) / span),
            is_proposed=is_proposed(sources[k]),
        )
        for k in range(count)
    )
    best = float(scores.best_percentile_u[unit])
    is_reliable = bool(scores.reliable_u[unit])
    since = f"From {numbers.count(scores.n_exemplar_u[unit])} exemplars"
    if not rows:
        verdict = "No label: there is nothing to score, or nothing left of it."
    elif not n_draws:
        verdict = f"{since}. No random image sets to compare with."
    else:
        word = "reliable" if is_reliable else "not reliable"
        verdict = (
            f"{since}: as the best of all labels the first is {numbers.beats(best, n_draws)}, "
            f"which is {word}."
        )
    above = numbers.percentile(best, n_draws) if n_draws and rows else "–"
    return MethodLabels(method_title(method), verdict, above, is_reliable, has_raw, rows)
