"""What the start page of a bundle shows, worked out before anybody asks for it."""

from __future__ import annotations

from csp_engine.bundle import Bundle
from csp_engine.views.case.audit import layers_of, melanoma
from csp_engine.views.finding.examples import showcase, starting_points
from csp_engine.views.finding.index import searchable_methods
from csp_engine.views.images.pairs import pair_tiles
from csp_engine.views.memo import Memo
from csp_engine.views.overview.layers import layer_states
from csp_engine.views.overview.provenance import provenance
from csp_engine.views.overview.story import story_of
from csp_engine.views.overview.summary import summary_of


def rehearse(bundle: Bundle, memo: Memo) -> None:
    """Read and keep what the start page needs, while the first visitor's browser still loads it.

    Raises:
        CspError: if the bundle is damaged; the page says the same then.
    """
    concepts = melanoma(memo)
    for model in bundle.model_names:
        layers_of(bundle, concepts, model)
    for method in searchable_methods(bundle)[:1]:
        if story_of(bundle, memo, method) is None:
            summary_of(bundle, memo, method)
        starting_points(bundle, memo, method)
        neuron = showcase(bundle, memo, method)
        if neuron is not None:
            pair_tiles(bundle, memo, neuron, 4)
    layer_states(bundle)
    provenance(bundle)
