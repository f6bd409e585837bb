"""Each unit against the concept columns: ``columns:…`` and ``association:…`` of MODEL/LAYER."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, kinds
from csp_engine.evaluation.associations.asking import ColumnsAsked, columns_asked
from csp_engine.evaluation.associations.measuring import Associations, Rule, associate
from csp_engine.evaluation.column_fit import column_fit
from csp_engine.pipeline.given import what_lacks
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.sharing.held import concept_columns
from csp_engine.pipeline.stage import Made, Of, Stage
from csp_engine.types import Progress, silent

RULE = Rule()
"""When a unit is a suspect."""


def _places(run: Run) -> Iterator[Of]:
    """Layers of a probe set with concept columns; a slim copy keeps what it holds."""
    for of in run.layers:
        if not what_lacks(run, ("columns", "activations"), *of):
            yield of


def _make(run: Run, model: str, layer: str) -> Made:
    columns = concept_columns(run.bundle)
    figures = column_fit(
        run.bundle.activations(model, layer, once=True),
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


def _associate(run: Run, model: str, layer: str) -> Made:
    activation_un = run.bundle.activations(model, layer, once=True)
    return association_of(
        run.bundle,
        activation_un,
        lambda _, done, total: run.progress(f"associations of {layer}", done, total),
    )


def association_of(bundle: Bundle, activation_un: Any, progress: Progress = silent) -> Made:
    """The stage of one layer, from its activations."""
    described = bundle.manifest.inputs["probe"]
    columns = columns_asked(
        bundle.images(), described["concepts"], tuple(described.get("masks") or ())
    )
    found = associate(activation_un, columns.asked, RULE, progress=progress)
    group_n = columns.asked.group_n
    return Made(
        tables={"columns": _asked(columns, found), "found": _found(found)},
        facts={
            "n_units": len(activation_un),
            "n_tests": found.n_tests,
            "n_images": len(columns.asked.value_nc),
            "n_groups": bundle.n_images if group_n is None else len(np.unique(group_n)),
        },
    )


def _asked(columns: ColumnsAsked, found: Associations) -> pd.DataFrame:
    value_nc = columns.asked.value_nc
    kept = found.kept
    table = pd.DataFrame(
        {
            "name": list(columns.names),
            "kind": list(columns.kinds),
            "n_known": (~np.isnan(value_nc)).sum(axis=0),
            "n_positive": (value_nc == 1).sum(axis=0),
            "n_with": found.n_with_c,
            "n_without": found.n_without_c,
            "is_tried": found.is_tried_c,
            "least": found.least_c,
            "n_associated": found.n_associated_c,
            "n_suspects": np.bincount(
                kept.column_k[kept.is_suspect_k], minlength=len(columns.names)
            ),
            "beside": ["" if each is None else each.name for each in columns.beside],
            "beside_v": [np.nan if each is None else each.v for each in columns.beside],
        }
    )
    counts = ("n_known", "n_positive", "n_with", "n_without", "n_associated", "n_suspects")
    return table.astype(
        dict.fromkeys(("name", "kind", "beside"), "string")
        | dict.fromkeys(counts, "int32")
        | dict.fromkeys(("least", "beside_v"), "float32")
    )


def _found(found: Associations) -> pd.DataFrame:
    kept = found.kept
    figures = {
        "difference": kept.difference_k,
        "pearson": kept.pearson_k,
        "p": kept.p_k,
        "q_bh": kept.q_bh_k,
        "q_by": kept.q_by_k,
        "p_family": kept.p_family_k,
        "q_suspect": kept.q_suspect_k,
    }
    for name, bounded_k3 in (("auroc", kept.auroc_k3), ("within", kept.within_k3)):
        ends = (f"{name}{end}" for end in ("", "_low", "_high"))
        figures.update(zip(ends, bounded_k3.T, strict=True))
    return pd.DataFrame(
        {
            "unit": kept.unit_k,
            "column": kept.column_k,
            "is_suspect": kept.is_suspect_k,
            **{name: values.astype(np.float32) for name, values in figures.items()},
        }
    )


COLUMNS = Stage(
    kind=kinds.COLUMNS,
    params=lambda run, model, layer: {},
    needs=lambda run, model, layer: [
        kinds.ACTIVATIONS.name(model, layer),
        kinds.PROBE.name(),
    ],
    places=_places,
    make=_make,
)

ASSOCIATION = Stage(
    kind=kinds.ASSOCIATION,
    params=lambda run, model, layer: asdict(RULE),
    needs=lambda run, model, layer: [
        kinds.ACTIVATIONS.name(model, layer),
        kinds.IMAGES.name(),
        kinds.PROBE.name(),
    ],
    places=_places,
    make=_associate,
)
