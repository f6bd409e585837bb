"""The search indices of a bundle, opened once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.methods import method_title
from csp_engine.search import is_coded, open_index, rank
from csp_engine.vectors.coded import LISTED
from csp_engine.views.finding.query import Query
from csp_engine.views.memo import Memo
from csp_engine.views.places import places


def index_of(bundle: Bundle, memo: Memo, method: str) -> tuple[Any, pd.DataFrame]:
    """The search index of a method and its rows."""
    return memo.once(("index", bundle.digest, method), lambda: open_index(bundle, method))


def searchable_methods(bundle: Bundle) -> tuple[str, ...]:
    """Methods with a search index, those of the recipe first."""
    every: dict[str, None] = {}
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            every.update(dict.fromkeys(bundle.methods(model, layer)))
    return tuple(method for method in every if bundle.has(kinds.INDEX.name(method)))


def listed(
    bundle: Bundle,
    memo: Memo,
    method: str,
    query: Query,
    within: Sequence[int] | None = None,
) -> np.ndarray | None:
    """Rows of the table of neurons with the nearest to a query, in order of the table.

    None where the index is exact, and so every neuron is listed.

    Args:
        bundle: what is searched.
        memo: keeps the index.
        method: whose concept vectors are searched.
        query: what is searched for.
        within: numbers of the layers to look in, as in ``places``; all by default.
    """
    if not bundle.has(kinds.INDEX.name(method)) or not is_coded(bundle, method):
        return None
    index, rows = index_of(bundle, memo, method)

    def make() -> tuple[np.ndarray, np.ndarray]:
        every = places(bundle)
        starts = np.cumsum([0, *(bundle.n_units(*place) for place in every)])
        place_u = np.zeros(len(rows), np.int32)
        groups: dict[Any, Any] = rows.groupby(["model", "layer"], sort=False).indices
        for place, at_m in groups.items():
            place_u[at_m] = every.index(place)
        return place_u, starts[place_u] + rows["unit"].to_numpy()

    place_u, table_u = memo.once(("index in the table", bundle.digest, method), make)
    allowed_u = None if within is None else np.isin(place_u, list(within))
    # A neuron that is asked about is found first, and is no match of itself.
    n = LISTED + (query.neuron is not None)
    found = rank(index, query.vector_d, n, allowed_u=allowed_u)
    return np.sort(table_u[found.row_m])


def listing_note(bundle: Bundle, method: str) -> str:
    """What a list of matches leaves out, as a sentence; empty where it leaves out nothing."""
    if not bundle.has(kinds.INDEX.name(method)) or not is_coded(bundle, method):
        return ""
    return (
        f"Only the {LISTED} neurons that match best are listed; filters and sorting look among "
        "these."
    )


def search_sentences(bundle: Bundle) -> list[str]:
    """A sentence for each method whose search may miss some of the nearest neurons."""
    found = []
    for method in searchable_methods(bundle):
        facts = bundle.stage(kinds.INDEX.name(method)).facts
        if facts.get("kind") == "codes":
            found.append(
                f"{method_title(method)}: among {numbers.count(facts['n_vectors'])} concept "
                f"vectors, finds {_percent(facts['recall_at_20'])} of the 20 nearest and "
                f"{_percent(facts['recall_at_200'])} of the 200 nearest, measured with "
                f"{numbers.count(facts['n_asked'])} texts and as many vectors; scores are exact."
            )
    return found


def _percent(share: float) -> str:
    """Rounded down: 100 % is all of them."""
    return f"{int(share * 1000) / 10:g} %"
