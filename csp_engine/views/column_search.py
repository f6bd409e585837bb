"""The neurons that go best with a concept column of the probe set."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.views.address import Narrowing
from csp_engine.views.lists import found_neurons
from csp_engine.views.memo import Memo
from csp_engine.views.places import concept_names, scoring_methods
from csp_engine.views.table.concept_columns import FIGURES
from csp_engine.views.table.narrowed import narrowed


def going_with(
    bundle: Bundle,
    column: str,
    method: str | None = None,
    *,
    model: str | None = None,
    layers: Collection[str] | None = None,
    n: int = 10,
) -> list[dict[str, Any]]:
    """The first neurons by the AUROC of a column, JSON-ready; None where one is not defined.

    Raises:
        InputError: if the neurons were not compared with it, or no layer is labelled so.
    """
    names, methods = concept_names(bundle), scoring_methods(bundle)
    if column not in names:
        what = f"it has {', '.join(names)}" if names else "its neurons were not compared with any"
        raise InputError(f"Bundle {bundle.name} has no concept column {column!r}; {what}.")
    if method is not None and method not in methods:
        raise InputError(f"No layer is labelled by {method!r}; there is {', '.join(methods)}.")
    rows = found_neurons(bundle, Memo(), method or next(iter(methods), ""), column=column)
    if model:
        rows = rows[rows["model"] == model]
    if layers:
        rows = rows[rows["layer"].isin(layers)]
    return [
        {
            "neuron": f"{row['model']}/{row['layer']}/{row['unit']}",
            **{
                name.removeprefix("column_"): None if np.isnan(row[name]) else float(row[name])
                for name in FIGURES
            },
            "label": row["label"] or None,
            "reliable": bool(row["reliable"]),
        }
        for row in narrowed(rows, Narrowing(sort="-column_auroc")).iloc[:n].to_dict("records")
    ]
