"""Labels and whole results in and out, in forms that other tools read and write.

Names are imported when they are first used: what only reads a bundle needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csp_engine.exchange.column_tables import column_rows, export_columns
    from csp_engine.exchange.label_import import import_labels
    from csp_engine.exchange.label_reading import read_label_table
    from csp_engine.exchange.label_tables import export_labels, label_rows
    from csp_engine.exchange.neurolens import NeuroLensOutput, read_neurolens
    from csp_engine.exchange.neurolens_import import import_neurolens

_HOMES = {
    "NeuroLensOutput": "neurolens",
    "column_rows": "column_tables",
    "export_columns": "column_tables",
    "export_labels": "label_tables",
    "import_labels": "label_import",
    "import_neurolens": "neurolens_import",
    "label_rows": "label_tables",
    "read_label_table": "label_reading",
    "read_neurolens": "neurolens",
}

__all__ = [
    "NeuroLensOutput",
    "column_rows",
    "export_columns",
    "export_labels",
    "import_labels",
    "import_neurolens",
    "label_rows",
    "read_label_table",
    "read_neurolens",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'csp_engine.exchange' has no attribute {name!r}")
    return getattr(importlib.import_module(f"csp_engine.exchange.{_HOMES[name]}"), name)
