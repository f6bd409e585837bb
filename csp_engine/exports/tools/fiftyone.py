"""A folder that FiftyOne imports as a ``FiftyOneImageClassificationDataset``.

A sample is a probe image. Its labels are the neurons that it is an exemplar or a contrast image of,
each with rank, activation and what the neuron is called as attributes.
"""

from __future__ import annotations

import json
from typing import Any

from csp_engine.exports.folders import Files
from csp_engine.exports.tools.chosen import Chosen, float32, records
from csp_engine.types import Progress

OF_LABEL = ("description", "score", "percentile", "reliable", "method")
"""Columns of a neuron's best label, of the first method that is asked for."""


def files_for_fiftyone(chosen: Chosen, progress: Progress) -> Files:
    """The files of the folder."""
    first = chosen.labels[chosen.labels["rank"] == 1].drop_duplicates("neuron")
    called = {row["neuron"]: row for row in records(first)}
    names = chosen.files
    found: dict[int, list[dict[str, Any]]] = {}
    for done, neuron in enumerate(chosen.neurons):
        progress("neurons", done, len(chosen.neurons))
        row = called.get(str(neuron), {})
        said = {name: row[name] for name in OF_LABEL if name in row}
        for pair in chosen.pairs(neuron):
            for role, shown in (("exemplar", pair.exemplar), ("contrast", pair.contrast)):
                if shown is None:
                    continue
                value = float32(shown.activation)
                about = {"role": role, "rank": pair.rank, "activation": value, **said}
                if role == "contrast":
                    about["similarity"] = float32(pair.similarity)
                about["file"] = str(names[shown.image])
                label = {"label": str(neuron), "attributes": about}
                found.setdefault(shown.image, []).append(label)
    progress("neurons", len(chosen.neurons), len(chosen.neurons))
    whole = {
        "classes": [str(neuron) for neuron in chosen.neurons],
        "labels": {str(image): found[image] for image in sorted(found)},
    }
    yield "labels.json", json.dumps(whole, ensure_ascii=False, allow_nan=False).encode()
    for image in sorted(found):
        yield f"data/{image}.webp", chosen.bundle.thumbnail(image)
