"""How well every neuron of a bundle matches a query."""

from __future__ import annotations

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.search import NullLevel
from csp_engine.views.finding.query import Query
from csp_engine.views.memo import Memo
from csp_engine.views.places import places
from csp_engine.views.random_sets import null_of, sizes


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
            size_u = sizes(bundle, memo, model, layer, method)
            share_u = share_u.copy()
            for size in np.unique(size_u).tolist():
                null_rd = null_of(bundle, memo, model, layer, method, size)
                if null_rd is None:
                    continue
                at = np.flatnonzero((size_u == size) & ~np.isnan(match_u))
                level = NullLevel.of(null_rd, query.vector_d)
                finest = 1 - 1 / max(1, len(level.score_r))  # no finer than the draws allow
                share_u[at] = np.minimum(level.percentile(match_u[at]), np.float32(finest))
        parts.append(pd.DataFrame({"match": match_u, "match_null": share_u}))
    return pd.concat(parts, ignore_index=True)
