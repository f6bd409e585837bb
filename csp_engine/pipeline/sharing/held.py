"""What a bundle holds of what label methods declare to need, loaded when it is first read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from csp_engine.bundle import Bundle, kinds, read_contrast
from csp_engine.evidence.evidence import ConceptColumns, Evidence, Source, Units
from csp_engine.methods.scoring.random_sets import noise_activations
from csp_engine.words.hierarchy import kinds_of
from csp_engine.words.vocabularies import parents_in

HELD = frozenset(
    {"exemplars", "contrast", "activations", "layer", "columns", "texts", "kinds", "copies"}
)
"""Needs that a bundle alone can meet, whoever reads it."""


def held_evidence(
    bundle: Bundle,
    model: str,
    layer: str,
    asker: str,
    needs: Sequence[str],
    more: Mapping[str, Source],
) -> Evidence:
    """A layer's units with what an asker needs.

    Args:
        bundle: in which exemplars and contrast images of the layer are.
        model: of the layer.
        layer: its id.
        asker: who needs it, in words.
        needs: names from ``NEEDS``.
        more: sources of what no bundle holds.
    """
    sources = {**_same_for_all(bundle), **more}
    sources["activations"] = lambda units: _rows(bundle.activations(model, layer), units)
    sources["layer"] = lambda _: np.asanyarray(bundle.activations(model, layer))
    sources["candidates"] = lambda units: _candidates(bundle, model, layer, units)
    evidence = Evidence(
        bundle.exemplars(model, layer), bundle.contrast(model, layer), bundle.image_vectors()
    )
    return evidence.asked_by(asker, needs, sources)


def held_null(
    bundle: Bundle, asker: str, needs: Sequence[str], more: Mapping[str, Source]
) -> Evidence:
    """Random image sets with what an asker needs; their activations are the noise itself.

    The arguments are as for ``held_evidence``.
    """
    image_nd = bundle.image_vectors()
    seed = int(bundle.stage(kinds.NULL.name()).params["seed"])
    sources = {**_same_for_all(bundle), **more}
    sources["activations"] = lambda units: np.concatenate(
        [noise_activations(len(image_nd), int(unit), 1, seed) for unit in units]
    )
    drawn, contrast = bundle.random_sets(), read_contrast(bundle, kinds.NULL.name())
    return Evidence(drawn, contrast, image_nd).asked_by(asker, needs, sources)


def _same_for_all(bundle: Bundle) -> dict[str, Source]:
    """Where to find what is the same for all units."""
    return {
        "columns": lambda _: concept_columns(bundle),
        "texts": lambda _: bundle.labels()["text"].tolist(),
        "kinds": lambda _: kinds_among(bundle),
        "copies": lambda _: bundle.first_copies(),
    }


def kinds_among(bundle: Bundle) -> dict[int, tuple[int, ...]]:
    """Which labels of a bundle's vocabulary are kinds of which."""
    labels = bundle.labels()
    return kinds_of(labels["text"].tolist(), parents_in(labels))


def concept_columns(bundle: Bundle) -> ConceptColumns:
    """The concept columns of a bundle's probe set."""
    names = tuple(bundle.manifest.inputs["probe"]["concepts"])
    table = bundle.table("probe", "probe")
    return ConceptColumns(names, table[list(names)].to_numpy(np.float32))


def _rows(array_un: Any, units: Units) -> np.ndarray:
    """Some rows; of a run of units a view, which copies nothing from the disk."""
    if len(units) and len(units) == units[-1] - units[0] + 1 and (np.diff(units) == 1).all():
        return array_un[units[0] : units[-1] + 1]
    return array_un[units]


def _candidates(
    bundle: Bundle, model: str, layer: str, units: Units
) -> tuple[tuple[dict[str, Any], ...], ...]:
    table = bundle.candidates(model, layer)
    assert table is not None, "require_given came first"
    own = table[table["unit"].isin(units)]
    rows: dict[int, list[dict[str, Any]]] = {int(unit): [] for unit in units}
    for row in own.sort_values(["unit", "pmi", "rank"], ascending=[True, False, True]).to_dict(
        "records"
    ):
        rows[int(row["unit"])].append({str(key): value for key, value in row.items()})
    return tuple(tuple(rows[int(unit)]) for unit in units)
