"""The search indices of a bundle, opened once."""

from __future__ import annotations

from typing import Any

import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.methods import method_title
from csp_engine.search import open_index
from csp_engine.views.memo import Memo


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
