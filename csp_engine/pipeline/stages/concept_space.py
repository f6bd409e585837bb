"""What lies over all layers: search index and flat map of one method's concept vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.methods import METHODS
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Of, Stage
from csp_engine.search import build_index, projection


def _searched(run: Run) -> list[Of]:
    """The methods that have concept vectors."""
    return [(m,) for m in run.recipe.methods if METHODS[m].stores.vectors != "none"]


def _needs(run: Run, method: str) -> list[str]:
    return [kinds.SCORES.name(model, layer, method) for model, layer in run.layers]


def _make_index(run: Run, method: str) -> Made:
    rows, vector_ud = concept_rows(run, method)
    built = build_index(vector_ud, text_td=np.asarray(run.bundle.label_vectors()))
    return Made(files={"index.faiss": built.write}, tables={"rows": rows}, facts=built.facts())


def _settings(run: Run) -> dict[str, Any]:
    return {"n_neighbors": 15, "min_dist": 0.1, "seed": run.recipe.seed}


def _map_params(run: Run, method: str) -> dict[str, Any]:
    fewest = projection.FEWEST_FOR_UMAP
    return {"metric": "cosine", "fewest_for_umap": fewest, **_settings(run)}


def _begin_map(run: Run, method: str) -> None:
    run.maps[method] = run.lay_out(concept_rows(run, method)[1], **_settings(run))


def _make_map(run: Run, method: str) -> Made:
    rows, _ = concept_rows(run, method)
    run.progress("map", 0, len(rows))
    laid = run.maps.pop(method)()
    run.progress("map", len(rows), len(rows))
    facts: dict[str, Any] = {"kind": laid.kind, "n_distinct": laid.n_distinct}
    if np.isfinite(laid.neighbour_recall):
        facts["neighbour_recall"] = laid.neighbour_recall
    return Made(arrays={"xy": laid.xy_u2}, tables={"rows": rows}, facts=facts)


def concept_rows(run: Run, method: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Model, layer and unit of every neuron of the build, and their concept vectors ``(u, d)``."""
    rows, vectors = [], []
    for model, layer in run.layers:
        vector_ud = run.bundle.scores(model, layer, method).vector_ud
        rows.append(
            pd.DataFrame(
                {
                    "model": pd.array([model] * len(vector_ud), "string"),
                    "layer": pd.array([layer] * len(vector_ud), "string"),
                    "unit": np.arange(len(vector_ud), dtype=np.int32),
                }
            )
        )
        vectors.append(np.asarray(vector_ud))
    return pd.concat(rows, ignore_index=True), np.concatenate(vectors)


INDEX = Stage(
    kind=kinds.INDEX,
    params=lambda run, method: {"kind": "auto"},
    needs=_needs,
    places=_searched,
    make=_make_index,
)
PROJECTION = Stage(
    kind=kinds.PROJECTION,
    params=_map_params,
    needs=_needs,
    places=lambda run: _searched(run)[:1],
    begin=_begin_map,
    make=_make_map,
)
