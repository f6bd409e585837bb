"""Everything the static page of one neuron says: the views of the page Neuron, put together."""

from __future__ import annotations

from dataclasses import dataclass

from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.benchmark.faithfulness import about
from csp_engine.views.conclusion.claims import Claim, conclusion_of
from csp_engine.views.conclusion.echoes import beside_one_another
from csp_engine.views.confidence import Trust, trust_of, uncalibrated
from csp_engine.views.finding.examples import nearest
from csp_engine.views.images.facts import brief, known_facts
from csp_engine.views.images.pairs import Pair, exemplar_images, images_in_pairs, pairs_of
from csp_engine.views.images.tiles import Facts
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.candidates import CandidateLabels, stored
from csp_engine.views.neuron.columns import ColumnFit, column_fits
from csp_engine.views.neuron.influence import DrivenOutput, driven_outputs
from csp_engine.views.neuron.label import BestLabel, Heading, best_label, heading_of
from csp_engine.views.neuron.proposals import Proposal, proposals
from csp_engine.views.neuron.shared import Shared, shared
from csp_engine.views.neuron.statistics import Histogram, NeuronFact, histogram_of, statistics

N_PAIRS = 12


@dataclass(frozen=True, slots=True)
class Portrait:
    """One neuron. ``nearest`` are neurons, their best labels and the cosines.

    ``trusted`` says how far the best label of each of ``methods`` may be trusted, and ``trust``
    that of the method that names the neuron; None where it did not label the layer.
    ``uncalibrated`` is a sentence where it is not known how likely any of them is right.
    ``predicted_by`` says who predicts neurons from labels, and is empty where nobody does.
    """

    neuron: NeuronRef
    heading: Heading
    conclusion: tuple[Claim, ...]
    pairs: tuple[Pair, ...]
    n_exemplars: int
    methods: tuple[CandidateLabels, ...]
    trusted: tuple[Trust, ...]
    uncalibrated: str
    trust: Trust | None
    proposals: tuple[Proposal, ...]
    histogram: Histogram | None
    statistics: tuple[NeuronFact, ...]
    shared: Shared
    columns: tuple[ColumnFit, ...]
    driven: tuple[DrivenOutput, ...]
    nearest: tuple[tuple[NeuronRef, BestLabel, float], ...]
    predicted_by: str

    @property
    def images(self) -> set[int]:
        """The probe images that the page shows."""
        return {shown.image for pair in self.pairs for shown in pair.tile.images}


def portrait_of(bundle: Bundle, memo: Memo, neuron: NeuronRef, method: str) -> Portrait:
    """Everything about one neuron, called as a method calls it.

    Raises:
        BundleError: if a file that is needed is missing or damaged.
    """
    methods = bundle.methods(neuron.model, neuron.layer)
    found = tuple(stored(bundle, neuron, name) for name in methods)
    trusted = tuple(trust_of(bundle, memo, neuron, each) for each in found)
    return Portrait(
        neuron=neuron,
        heading=heading_of(bundle, neuron, method),
        conclusion=conclusion_of(bundle, memo, neuron, method),
        pairs=pairs_in_brief(bundle, memo, neuron),
        n_exemplars=len(exemplar_images(bundle, neuron)),
        methods=found,
        trusted=tuple(beside_one_another(bundle, memo, found, trusted)),
        uncalibrated=uncalibrated(trusted),
        trust=dict(zip(methods, trusted, strict=True)).get(method),
        proposals=proposals(bundle, memo, neuron),
        histogram=histogram_of(bundle, neuron),
        statistics=statistics(bundle, neuron),
        shared=shared(bundle, memo, neuron),
        columns=column_fits(bundle, neuron),
        driven=driven_outputs(bundle, neuron),
        nearest=tuple(
            (other, best_label(bundle, other, method), score)
            for other, score in nearest(bundle, memo, neuron, method)
        ),
        predicted_by=about(bundle),
    )


def pairs_in_brief(
    bundle: Bundle, memo: Memo, neuron: NeuronRef, limit: int = N_PAIRS
) -> tuple[Pair, ...]:
    """The first pairs, with what matters most of what is known about each image."""
    known = known_facts(bundle, memo, images_in_pairs(bundle, neuron, limit))

    def facts_of(image: int, _: float) -> Facts:
        return brief(known[image])

    return pairs_of(bundle, neuron, limit, facts_of)
