"""A bundle, or some of its neurons, as a folder of plain HTML that opens from disk."""

from csp_engine.exports.html.selection import NeuronList, Selection, of_layers, of_neurons
from csp_engine.exports.html.site import size_text
from csp_engine.exports.html.writing import (
    Written,
    estimated_bytes,
    write_folder,
    write_zip,
    zip_name,
)

__all__ = [
    "NeuronList",
    "Selection",
    "Written",
    "estimated_bytes",
    "of_layers",
    "of_neurons",
    "size_text",
    "write_folder",
    "write_zip",
    "zip_name",
]
