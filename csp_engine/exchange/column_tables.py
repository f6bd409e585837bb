"""How neurons go with the concept columns of the probe set, as a table for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.bundle.names import chosen_layers
from csp_engine.errors import InputError
from csp_engine.exchange.label_tables import write_rows


def column_rows(
    bundle: Bundle, *, model: str | None = None, layers: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row for each neuron and concept column; a figure that is not defined is missing.

    Columns: ``model``, ``layer``, ``unit``, ``column``, ``auroc``, ``pearson``, ``auprc``,
    ``n_positive``, ``n_known``.

    Raises:
        InputError: if a name is not in the bundle, or no neuron was compared with a column.
    """
    parts = []
    for name, layer in chosen_layers(bundle, model, layers):
        held = bundle.columns(name, layer)
        if held is None:
            continue
        n_units, n_columns = held.auroc_uc.shape
        parts.append(
            pd.DataFrame(
                {
                    "model": name,
                    "layer": layer,
                    "unit": np.repeat(np.arange(n_units), n_columns),
                    "column": np.tile(held.columns["name"].to_numpy(object), n_units),
                    "auroc": np.asarray(held.auroc_uc).ravel(),
                    "pearson": np.asarray(held.pearson_uc).ravel(),
                    "auprc": np.asarray(held.auprc_uc).ravel(),
                    "n_positive": np.tile(held.columns["n_positive"].to_numpy(), n_units),
                    "n_known": np.tile(held.columns["n_known"].to_numpy(), n_units),
                }
            )
        )
    if not parts:
        raise InputError(
            f"The neurons of {bundle.name} were compared with no concept column; build from a "
            "table with columns of 0 and 1, or complete an older bundle with 'csp build'."
        )
    return pd.concat(parts, ignore_index=True)


def export_columns(
    bundle: Bundle,
    out_path: Path,
    *,
    file_format: str | None = None,
    model: str | None = None,
    layers: Sequence[str] | None = None,
) -> int:
    """Write ``column_rows`` to a file and return how many rows it has.

    Raises:
        InputError: as ``column_rows`` and ``write_rows``.
    """
    return write_rows(column_rows(bundle, model=model, layers=layers), out_path, file_format)
