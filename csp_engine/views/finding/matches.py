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


def matches(
    bundle: Bundle, memo: Memo, query: Query, method: str, rows: pd.DataFrame | None = None
) -> pd.DataFrame:
    """``match`` and ``match_null`` of every neuron for the query, in the order of the table.

    A neuron is no match of itself.

    Args:
        bundle: what is searched.
        memo: keeps random image sets.
        query: what is searched for.
        method: whose concept vectors are compared.
        rows: the rows of the table to look at, in its order; all by default.
    """
    itself = query.neuron
    parts = []
    for place, (model, layer) in enumerate(places(bundle)):
        unit_m = np.arange(bundle.n_units(model, layer))
        if rows is not None:
            unit_m = rows["unit"].to_numpy()[rows["place"].to_numpy() == place]
        match_m = share_m = np.full(len(unit_m), np.nan, np.float32)
        if method in bundle.methods(model, layer) and len(unit_m):
            scores = bundle.scores(model, layer, method)
            vector_md = np.asarray(scores.vector_ud if rows is None else scores.vector_ud[unit_m])
            match_m = vector_md @ query.vector_d
            match_m[np.asarray(scores.count_u)[unit_m] == 0] = np.nan
            if itself is not None and (itself.model, itself.layer) == (model, layer):
                match_m[unit_m == itself.unit] = np.nan
            size_m = sizes(bundle, memo, model, layer, method)[unit_m]
            share_m = share_m.copy()
            for size in np.unique(size_m).tolist():
                null_rd = null_of(bundle, memo, model, layer, method, size)
                if null_rd is None:
                    continue
                at = np.flatnonzero((size_m == size) & ~np.isnan(match_m))
                level = NullLevel.of(null_rd, query.vector_d)
                finest = 1 - 1 / max(1, len(level.score_r))  # no finer than the draws allow
                share_m[at] = np.minimum(level.percentile(match_m[at]), np.float32(finest))
        parts.append(pd.DataFrame({"match": match_m, "match_null": share_m}))
    found = pd.concat(parts, ignore_index=True)
    return found if rows is None else found.set_axis(rows.index, axis=0)
