"""The search indices of a bundle, opened once."""

from __future__ import annotations

from typing import Any

import pandas as pd

from csp_engine.bundle import Bundle, kinds
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
