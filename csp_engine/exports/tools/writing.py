"""Writing neurons for another tool: one folder, in the form that it reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from csp_engine.exports.folders import KINDS, Files, record_of, write_in_folder
from csp_engine.exports.tools.chosen import Chosen
from csp_engine.exports.tools.fiftyone import files_for_fiftyone
from csp_engine.exports.tools.huggingface import files_for_datasets
from csp_engine.exports.tools.neuronpedia import files_for_neuronpedia
from csp_engine.types import Progress, silent

FORMATS: dict[str, Callable[[Chosen, Progress], Files]] = {
    "huggingface": files_for_datasets,
    "neuronpedia": files_for_neuronpedia,
    "fiftyone": files_for_fiftyone,
}


def write_for_tool(
    chosen: Chosen, tool: str, out: Path, progress: Progress = silent
) -> tuple[int, int]:
    """Write neurons, labels and pairs of images to a folder for one of ``FORMATS``.

    Texts are written exactly as the bundle holds them; none of these forms runs any.

    Args:
        chosen: what to write.
        tool: a key of ``FORMATS``.
        out: the folder; it may be missing, empty or an earlier export, which is replaced.
        progress: told of neurons.

    Returns:
        how many files were written, and how many bytes.

    Raises:
        InputError: if ``out`` holds anything else or cannot be written.
        BundleError: if a file of the bundle is missing or damaged.
    """
    record = record_of(chosen.bundle, f"{KINDS}{tool}", len(chosen.neurons))
    return write_in_folder(FORMATS[tool](chosen, progress), out, record)
