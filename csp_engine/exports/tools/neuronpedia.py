"""JSON lines in the folders of Neuronpedia's exports, with images where that has tokens.

``MODEL/LAYER/`` holds ``features``, ``explanations`` and ``activations``. ``modelId``, ``layer``
and ``index`` say in each line which neuron it is of; what Neuronpedia has names for has those.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from csp_engine.exchange.label_tables import json_value
from csp_engine.exports.folders import Files
from csp_engine.exports.html.site import slug
from csp_engine.exports.tools.chosen import Chosen, float32, records
from csp_engine.types import NeuronRef, Progress
from csp_engine.views.images.tiles import ShownImage


def files_for_neuronpedia(chosen: Chosen, progress: Progress) -> Files:
    """The files of the folder."""
    names = chosen.files
    labels: dict[str, list[dict[str, Any]]] = {}
    for row in records(chosen.labels):
        labels.setdefault(row["neuron"], []).append(row)
    folders: dict[str, int] = {}
    done = 0
    for model, layer, neurons in chosen.by_layer():
        folder = f"{slug(model)}/{slug(layer)}"
        folders[folder] = folders.get(folder, 0) + 1
        if folders[folder] > 1:  # two names that differ in signs alone
            folder += f"-{folders[folder]}"
        units = chosen.bundle.units(model, layer)
        density_u, max_u = units["density"].to_numpy(), units["max"].to_numpy()
        features, explanations, activations = [], [], []
        for neuron in neurons:
            progress("neurons", done, len(chosen.neurons))
            done += 1
            features.append(
                {
                    **_of(neuron),
                    "frac_nonzero": json_value(density_u[neuron.unit]),
                    "maxActApprox": json_value(max_u[neuron.unit]),
                }
            )
            explanations += [
                {**_of(neuron), **_explanation(row)} for row in labels.get(str(neuron), ())
            ]
            for pair in chosen.pairs(neuron):
                value = float32(pair.exemplar.activation)
                line = {**_of(neuron), "rank": pair.rank, "maxValue": value}
                line |= _shown(pair.exemplar, names)
                if pair.contrast is not None:
                    line["contrast"] = {
                        "value": float32(pair.contrast.activation),
                        "similarity": float32(pair.similarity),
                        **_shown(pair.contrast, names),
                    }
                activations.append(line)
        for kind, lines in (
            ("features", features),
            ("explanations", explanations),
            ("activations", activations),
        ):
            yield f"{folder}/{kind}/batch-0.jsonl", _lines(lines)
    progress("neurons", done, len(chosen.neurons))
    for image in chosen.images():
        yield _path(image), chosen.bundle.thumbnail(image)


def _of(neuron: NeuronRef) -> dict[str, Any]:
    return {"modelId": neuron.model, "layer": neuron.layer, "index": neuron.unit}


def _explanation(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the exported table, with Neuronpedia's names for text and method."""
    kept = {k: v for k, v in row.items() if k not in ("model", "layer", "unit", "pooling")}
    return {"description": kept.pop("description"), "typeName": kept.pop("method"), **kept}


def _shown(shown: ShownImage, names: Any) -> dict[str, Any]:
    return {"image": _path(shown.image), "file": str(names[shown.image])}


def _path(image: int) -> str:
    return f"images/{image}.webp"


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(
        json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows
    ).encode()
