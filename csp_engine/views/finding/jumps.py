"""Where a few typed letters can lead: neurons, words and layers of a bundle."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.address import View
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import best_label
from csp_engine.views.places import places

MOST_TYPED = 200
N_NEURONS, N_WORDS, N_LAYERS = 5, 4, 4


@dataclass(frozen=True, slots=True)
class Jump:
    """One place to go: its ``kind`` (Neuron, Word or Layer), and the page and its parameters."""

    kind: str
    title: str
    note: str
    page: str
    params: Mapping[str, str]


def jumps(bundle: Bundle, memo: Memo, bundle_name: str, method: str, typed: str) -> list[Jump]:
    """Where the typed text may lead, the surest first.

    A neuron by its address or the end of it (``layer2@max/12``, ``12``), neurons by their label,
    words of the vocabulary by any part of them, those that begin with it first, and layers by
    parts of the names of model and layer.
    """
    asked = " ".join(typed[:MOST_TYPED].split()).casefold()
    if not asked:
        return []

    def neuron(ref: NeuronRef) -> Jump:
        label = best_label(bundle, ref, method)
        params = View(bundle_name, ref.model, ref.layer, ref.unit, method).params()
        return Jump("Neuron", str(ref), label.title, "neuron", params)

    by_address = [neuron(ref) for ref in _by_address(bundle, asked)]
    by_label = [neuron(ref) for ref in _by_label(bundle, memo, method, asked)]
    every = places(bundle)
    first = View(bundle_name, *every[0], 0, method) if every else None
    if first is None:
        return []
    words = [
        Jump("Word", text, "search for it", "search", first.search_params(text))
        for text in _like(list(bundle.label_ids), asked, N_WORDS)
    ]
    named = {f"{model} / {layer}": (model, layer) for model, layer in every}
    layers = [
        Jump(
            "Layer",
            name,
            f"{bundle.n_units(*named[name]):,} neurons",
            "layer",
            View(bundle_name, *named[name], 0, method, is_all_layers=False).params(unit=""),
        )
        for name in _like(_holding(list(named), asked), "", N_LAYERS)
    ]
    return [*by_address, *layers, *words, *by_label] if by_address else [*words, *by_label, *layers]


def _by_address(bundle: Bundle, asked: str) -> list[NeuronRef]:
    match = re.fullmatch(r"(?:(.*?)[\s/]+)?([0-9]{1,9})", asked)
    if match is None:
        return []
    where = re.sub(r"\s*/\s*", "/", match[1] or "")
    unit = int(match[2])
    return [
        NeuronRef(model, layer, unit)
        for model, layer in places(bundle)
        if unit < bundle.n_units(model, layer) and where in f"{model}/{layer}".casefold()
    ][:N_NEURONS]


def _by_label(bundle: Bundle, memo: Memo, method: str, asked: str) -> list[NeuronRef]:
    """Neurons whose reliable label holds the text, the highest scores first."""

    def make() -> list[tuple[float, str, NeuronRef]]:
        found = []
        for model, layer in places(bundle):
            if method not in bundle.methods(model, layer):
                continue
            scores = bundle.scores(model, layer, method)
            text_u = bundle.best_texts(model, layer, method)
            good_u = np.asarray(scores.reliable_u) & (np.asarray(scores.count_u) > 0)
            for unit in np.flatnonzero(good_u).tolist():
                text = str(text_u[unit]).casefold()
                score = float(scores.score_uk[unit, 0])
                found.append((score, text, NeuronRef(model, layer, unit)))
        return sorted(found, key=lambda row: -row[0])

    every = memo.once(("labelled", bundle.digest, method), make)
    holding = [(text.startswith(asked), ref) for _, text, ref in every if asked in text]
    return [ref for _, ref in sorted(holding, key=lambda row: not row[0])[:N_NEURONS]]


def _holding(names: list[str], asked: str) -> list[str]:
    """Names that hold each of the words of a text, however they are parted."""
    parts = asked.replace("/", " ").split()
    return [name for name in names if all(part in name.casefold() for part in parts)]


def _like(names: list[str], asked: str, n: int) -> list[str]:
    """Names that hold a text, whole ones first, then those that begin with it, then short ones."""
    holding = [name for name in names if asked in name.casefold()]
    return sorted(
        holding,
        key=lambda name: (
            name.casefold() != asked,
            not name.casefold().startswith(asked),
            len(name),
            name,
        ),
    )[:n]
