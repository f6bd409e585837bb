"""Labels and whole results in and out, in forms that other tools read and write."""

from csp_engine.exchange.column_tables import column_rows, export_columns
from csp_engine.exchange.label_import import import_labels
from csp_engine.exchange.label_reading import read_label_table
from csp_engine.exchange.label_tables import export_labels, label_rows
from csp_engine.exchange.neurolens import NeuroLensOutput, read_neurolens
from csp_engine.exchange.neurolens_import import import_neurolens

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
