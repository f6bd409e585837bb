"""The stage that compares each unit with the concept columns: ``columns:MODEL/LAYER``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.evaluation.column_fit import column_fit
from csp_engine.pipeline.given import concept_columns, what_lacks
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Of, Stage


def _places(run: Run) -> Iterator[Of]:
    """Layers of a probe set with concept columns; a slim copy keeps what it holds."""
    for of in run.layers:
        if not what_lacks(run, ("columns", "activations"), *of):
            yield of


def _make(run: Run, model: str, layer: str) -> Made:
    columns = concept_columns(run.bundle)
    figures = column_fit(
        run.bundle.streamed(kinds.ACTIVATIONS.name(model, layer), "activation"),
        columns.value_nc,
        progress=lambda _, done, total: run.progress(f"columns of {layer}", done, total),
    )
    named = pd.DataFrame(
        {
            "name": list(columns.names),
            "n_known": (~np.isnan(columns.value_nc)).sum(axis=0),
            "n_positive": (columns.value_nc == 1).sum(axis=0),
        }
    )
    return Made(
        arrays={name: getattr(figures, name) for name in ("pearson_uc", "auroc_uc", "auprc_uc")},
        tables={
            "columns": named.astype({"name": "string", "n_known": "int32", "n_positive": "int32"})
        },
        facts={"n_units": len(figures.auroc_uc), "n_columns": len(columns.names)},
    )


STAGE = Stage(
    kind=kinds.COLUMNS,
    params=lambda run, model, layer: {},
    needs=lambda run, model, layer: [
        kinds.ACTIVATIONS.name(model, layer),
        kinds.PROBE.name(),
    ],
    places=_places,
    make=_make,
)
