"""How well every neuron of a bundle matches a query."""

from __future__ import annotations

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.search import NullLevel
from csp_engine.views.finding.query import Query
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.random_sets import null_of


def matches(bundle: Bundle, memo: Memo, query: Query, method: str) -> pd.DataFrame:
    """``match`` and ``match_null`` of every neuron for the query, in the order of the table.

    A neuron is no match of itself.
    """
    itself = query.neuron
    parts = []
    for model, layer in places(bundle):
        n_units = bundle.n_units(model, layer)
        match_u = share_u = np.full(n_units, np.nan, np.float32)
        if method in bundle.methods(model, layer):
            scores = bundle.scores(model, layer, method)
            match_u = np.asarray(scores.vector_ud) @ query.vector_d
            match_u[np.asarray(scores.count_u) == 0] = np.nan
            if itself is not None and (itself.model, itself.layer) == (model, layer):
                match_u[itself.unit] = np.nan
            null_rd = null_of(bundle, memo, model, layer, method)
            if null_rd is not None:
                level = NullLevel.of(null_rd, query.vector_d)
                finest = 1 - 1 / max(1, len(level.score_r))  # no finer than the draws allow
                share_u = np.minimum(level.percentile(match_u), np.float32(finest))
                share_u[np.isnan(match_u)] = np.nan
        parts.append(pd.DataFrame({"match": match_u, "match_null": share_u}))
    return pd.concat(parts, ignore_index=True)
