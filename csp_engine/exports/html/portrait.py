"""Everything the static page of one neuron says: the views of the page Neuron, put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from csp_engine.bundle import Bundle, kinds
from csp_engine.search import open_index, rank_like
from csp_engine.types import NeuronRef
from csp_engine.views.images.facts import brief, known_facts
from csp_engine.views.images.pairs import Pair, exemplar_images, images_in_pairs, pairs_of
from csp_engine.views.images.tiles import Facts
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import CandidateLabels, stored
from csp_engine.views.neuron.influence import DrivenOutput, driven_outputs
from csp_engine.views.neuron.label import BestLabel, Heading, best_label, heading_of
from csp_engine.views.neuron.shared import Shared, shared
from csp_engine.views.neuron.statistics import Histogram, NeuronFact, histogram_of, statistics

N_PAIRS = 12
N_NEAREST = 6


@dataclass(frozen=True, slots=True)
class Portrait:
    """One neuron. ``nearest`` are neurons, their best labels and the cosines."""

    neuron: NeuronRef
    heading: Heading
    truth: str
    pairs: tuple[Pair, ...]
    n_exemplars: int
    methods: tuple[CandidateLabels, ...]
    histogram: Histogram | None
    statistics: tuple[NeuronFact, ...]
    shared: Shared
    driven: tuple[DrivenOutput, ...]
    nearest: tuple[tuple[NeuronRef, BestLabel, float], ...]

    @property
    def images(self) -> set[int]:
        """The probe images that the page shows."""
        return {shown.image for pair in self.pairs for shown in pair.tile.images}


class Portrayer:
    """Reads portraits of a bundle; what they have in common is read once."""

    def __init__(self, bundle: Bundle, memo: Memo, method: str) -> None:
        self.bundle = bundle
        self.memo = memo
        self.method = method
        self._index: Any = None
        self._row_of: dict[NeuronRef, int] = {}
        self._neurons: list[NeuronRef] = []
        if bundle.has(kinds.INDEX.name(method)):
            self._index, rows = open_index(bundle, method)
            places = zip(rows["model"], rows["layer"], rows["unit"], strict=True)
            self._neurons = [NeuronRef(str(m), str(layer), int(u)) for m, layer, u in places]
            self._row_of = {neuron: row for row, neuron in enumerate(self._neurons)}

    def portrait(self, neuron: NeuronRef) -> Portrait:
        """Everything about one neuron.

        Raises:
            BundleError: if a file that is needed is missing or damaged.
        """
        bundle, layer = self.bundle, (neuron.model, neuron.layer)
        truth = bundle.truth(*layer)
        concept = pd.NA if truth is None else truth.units["true_concept"].iloc[neuron.unit]
        return Portrait(
            neuron=neuron,
            heading=heading_of(bundle, neuron, self.method),
            truth="" if pd.isna(concept) else str(concept),
            pairs=self.pairs(neuron),
            n_exemplars=len(exemplar_images(bundle, neuron)),
            methods=tuple(stored(bundle, neuron, name) for name in bundle.methods(*layer)),
            histogram=histogram_of(bundle, neuron),
            statistics=statistics(bundle, neuron),
            shared=shared(bundle, self.memo, neuron),
            driven=driven_outputs(bundle, neuron),
            nearest=self._nearest(neuron),
        )

    def pairs(self, neuron: NeuronRef, limit: int = N_PAIRS) -> tuple[Pair, ...]:
        """The first pairs, with what is known about each image in brief."""
        known = known_facts(self.bundle, self.memo, images_in_pairs(self.bundle, neuron, limit))

        def facts_of(image: int, _: float) -> Facts:
            return brief(known[image])

        return pairs_of(self.bundle, neuron, limit, facts_of)

    def _nearest(self, neuron: NeuronRef) -> tuple[tuple[NeuronRef, BestLabel, float], ...]:
        row = self._row_of.get(neuron)
        if row is None:
            return ()
        ranking = rank_like(self._index, row, N_NEAREST)
        others = [self._neurons[at] for at in ranking.row_m.tolist()]
        labels = [best_label(self.bundle, other, self.method) for other in others]
        return tuple(zip(others, labels, ranking.score_m.tolist(), strict=True))
