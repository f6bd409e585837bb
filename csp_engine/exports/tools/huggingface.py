"""A folder that ``datasets.load_dataset`` reads: the labels, and the pairs with their images.

``labels`` has the rows and columns of the exported table, ``pairs`` a row for each neuron and
exemplar; columns of one name hold the same in both. Both are Parquet, with images inside as the
library keeps them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from csp_engine.bundle.names import layer_path
from csp_engine.exports.folders import Files
from csp_engine.exports.tools.chosen import Chosen
from csp_engine.types import LayerId, NeuronRef, Progress
from csp_engine.views.images.tiles import ShownImage

PER_FILE = 200
"""Neurons whose pairs share a file; they bound the memory."""

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PAIR_COLUMNS = {
    "neuron": pa.string(),
    "model": pa.string(),
    "layer": pa.string(),
    "pooling": pa.string(),
    "unit": pa.int32(),
    "rank": pa.int32(),
    "exemplar": _IMAGE,
    "exemplar_file": pa.string(),
    "exemplar_activation": pa.float32(),
    "contrast": _IMAGE,
    "contrast_file": pa.string(),
    "contrast_activation": pa.float32(),
    "similarity": pa.float32(),
}
"""Columns of ``pairs``. Those of a contrast image are null where an exemplar has none."""


def files_for_datasets(chosen: Chosen, progress: Progress) -> Files:
    """The files of the folder."""
    labels = pa.Table.from_pandas(chosen.labels, preserve_index=False)
    yield "labels/labels-00000.parquet", _parquet(_typed(labels))
    schema = _pair_schema()
    names = chosen.files
    starts = range(0, len(chosen.neurons), PER_FILE)
    for number, start in enumerate(starts):
        progress("pairs", start, len(chosen.neurons))
        some = chosen.neurons[start : start + PER_FILE]
        rows = [row for neuron in some for row in _pair_rows(chosen, neuron, names)]
        table = pa.Table.from_pylist(rows, schema)
        yield f"pairs/pairs-{number:05d}.parquet", _parquet(table)
    progress("pairs", len(chosen.neurons), len(chosen.neurons))
    yield "README.md", _card().encode()


def _typed(labels: pa.Table) -> pa.Table:
    """Labels without metadata; figures that no label of these has are of a figure's type, too."""
    kinds = [pa.float32() if pa.types.is_null(each.type) else each.type for each in labels.schema]
    return labels.cast(pa.schema(list(zip(labels.column_names, kinds, strict=True))))


def _pair_rows(chosen: Chosen, neuron: NeuronRef, names: Any) -> Iterator[dict[str, Any]]:
    pooling = LayerId.parse(neuron.layer).pooling
    for pair in chosen.pairs(neuron):
        row: dict[str, Any] = {
            "neuron": str(neuron),
            "model": neuron.model,
            "layer": layer_path(neuron.layer),
            "pooling": pooling,
            "unit": neuron.unit,
            "rank": pair.rank,
            "similarity": pair.similarity,
        }
        for role, shown in (("exemplar", pair.exemplar), ("contrast", pair.contrast)):
            if shown is not None:
                row[role] = _image(chosen, shown)
                row[f"{role}_file"] = str(names[shown.image])
                row[f"{role}_activation"] = shown.activation
        yield row


def _image(chosen: Chosen, shown: ShownImage) -> dict[str, Any]:
    return {"bytes": chosen.bundle.thumbnail(shown.image), "path": f"{shown.image}.webp"}


def _pair_schema() -> pa.Schema:
    """With what the library needs to show images as images."""
    dtypes = {pa.string(): "string", pa.int32(): "int32", pa.float32(): "float32"}
    features = {
        name: {"_type": "Image"} if kind == _IMAGE else {"dtype": dtypes[kind], "_type": "Value"}
        for name, kind in PAIR_COLUMNS.items()
    }
    said = json.dumps({"info": {"features": features}})
    return pa.schema(list(PAIR_COLUMNS.items()), metadata={"huggingface": said})


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _card() -> str:
    """The card of the data set; nothing of a bundle is in it, so nothing has to be escaped."""
    return """---
configs:
- config_name: labels
  data_files: labels/*.parquet
  default: true
- config_name: pairs
  data_files: pairs/*.parquet
---

# Neurons: labels and pairs of images

`load_dataset(FOLDER, "labels")` gives a row for each neuron, label method and rank;
`load_dataset(FOLDER, "pairs")` the strongest exemplars of each neuron, each with its nearest
contrast image: one that looks alike and leaves the neuron quiet. Images are thumbnails. `neuron` is
the same in both. Labels say what exemplars have in common, not what a neuron causes.
"""
