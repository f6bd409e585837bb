"""The neurons of one classifier that are nearest to a text, judged as the page Search judges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.search import NullLevel, allowed_rows, rank
from csp_engine.types import NeuronRef
from csp_engine.views.finding.index import index_of
from csp_engine.views.finding.query import Query
from csp_engine.views.finding.standing import judged
from csp_engine.views.lists import found_neurons
from csp_engine.views.memo import Memo
from csp_engine.views.random_sets import null_of, sizes


@dataclass(frozen=True, slots=True)
class FoundNeuron:
    """A neuron, its cosine with the query, and how that stands to chance.

    ``percentile`` is None where there are no random image sets; ``standing`` as in ``judged``.
    """

    neuron: NeuronRef
    score: float
    percentile: float | None
    n_draws: int
    standing: str


def nearest_of(
    bundle: Bundle, memo: Memo, query: Query, model: str, method: str, n: int
) -> tuple[FoundNeuron, ...]:
    """The first neurons of a model for a query, judged among those of the whole bundle."""
    index, rows = index_of(bundle, memo, method)
    whole = found_neurons(bundle, memo, method, query)
    verdict = judged(bundle, memo, query, method, whole)
    standing = {} if verdict is None else verdict.standing
    named = whole.loc[list(standing), ["model", "layer", "unit"]].itertuples(index=False, name=None)
    stands = {
        NeuronRef(str(m), str(layer), int(unit)): said
        for (m, layer, unit), said in zip(named, standing.values(), strict=True)
    }
    ranking = rank(index, query.vector_d, n, allowed_u=allowed_rows(rows, model=model))
    found = []
    for row, score in zip(ranking.row_m.tolist(), ranking.score_m.tolist(), strict=True):
        _, layer, unit = rows.iloc[row][["model", "layer", "unit"]]
        neuron = NeuronRef(model, str(layer), int(unit))
        size = int(sizes(bundle, memo, model, neuron.layer, method)[neuron.unit])
        null_rd = null_of(bundle, memo, model, neuron.layer, method, size)
        percentile, n_draws = None, 0
        if null_rd is not None:
            level = NullLevel.of(null_rd, query.vector_d)
            percentile = float(level.percentile(np.array([score], np.float32))[0])
            n_draws = len(level.score_r)
        found.append(FoundNeuron(neuron, score, percentile, n_draws, stands.get(neuron, "none")))
    return tuple(found)
