"""Whether tables can mean what they are read as, and fit the other files of the bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.checks.arrays import Files, n_factors_of, n_images_of, n_units_of
from csp_engine.bundle.checks.associated import fault_of_asked, fault_of_found
from csp_engine.bundle.checks.columns import COLUMNS, IF_THERE, fault_of_column
from csp_engine.bundle.checks.effects import (
    fault_of_artefacts,
    fault_of_effects,
    fault_of_gates,
    fault_of_reach,
)
from csp_engine.bundle.checks.factored import fault_of_factors
from csp_engine.bundle.checks.held import (
    fault_of_cuts,
    fault_of_halves,
    fault_of_held,
    fault_of_orders,
    fault_of_output,
    fault_of_photographs,
    fault_of_runs,
)
from csp_engine.bundle.checks.pointing import fault_of_maps
from csp_engine.bundle.checks.truths import fault_of_concepts, fault_of_truths
from csp_engine.pasting.pairs import VERSIONS


def fault_of_table(files: Files, stage: str, name: str, rows: pd.DataFrame) -> str:
    """What is wrong with a table, as the end of "NAME.parquet of STAGE …"; empty if nothing is.

    Raises:
        BundleError: if another file that it must fit is itself damaged.
    """
    kind = kinds.stage_kind(stage)
    for column, what in COLUMNS.get((kind, name), {}).items():
        if column not in rows.columns:
            return f"has no column {column!r}"
        fault = fault_of_column(files, stage, rows[column], what)
        if fault:
            return f"has a column {column!r} that {fault}"
    for column, what in IF_THERE.get((kind, name), {}).items():
        fault = fault_of_column(files, stage, rows[column], what) if column in rows.columns else ""
        if fault:
            return f"has a column {column!r} that {fault}"
    if (kind, name) == (kinds.PROBE.prefix, "probe") and (fault := _fault_of_probe(files, rows)):
        return fault
    wanted = _n_rows(files, stage, kind, name)
    if wanted is not None and len(rows) != wanted:
        return f"has {len(rows)} rows instead of {wanted}"
    further = _FURTHER.get((kind, name))
    return "" if further is None else further(files, stage, rows)


def _fault_of_probe(files: Files, rows: pd.DataFrame) -> str:
    """Images have names of their own, and concept columns hold numbers."""
    if rows["file"].duplicated().any():
        return f"names {rows['file'][rows['file'].duplicated()].iloc[0]!r:.80} twice"
    for column in files.manifest.inputs.get("probe", {}).get("concepts", ()):
        if column not in rows.columns:
            return f"has no concept column {column!r:.80}"
        if rows[column].dtype.kind not in "fiub":
            return f"has a concept column {column!r:.80} that holds more than numbers"
    return ""


def _n_rows(files: Files, stage: str, kind: str, name: str) -> int | None:
    if (kind, name) in (("images", "images"), ("probe", "probe")):
        return n_images_of(files)
    if name == "units" and kind in ("neurons", "audit", "truth", "faithfulness"):
        return n_units_of(files, stage)
    of_array = {
        ("vocabulary", "labels"): ("text.npy", 0),
        ("influence", "outputs"): ("gradient_activation.npy", 0),
        ("truth", "concepts"): ("pearson_uc.npy", 1),
        ("columns", "columns"): ("auroc_uc.npy", 1),
        ("separation", "names"): ("name.npy", 0),
        ("projection", "rows"): ("xy.npy", 0),
    }.get((kind, name))
    entry = files.stage(stage).files.get(of_array[0]) if of_array else None
    return entry.shape[of_array[1]] if of_array and entry is not None and entry.shape else None


def _fault_of_rows(files: Files, rows: pd.DataFrame) -> str:
    """A table of neurons names those that there are, each once."""
    for place, group in rows.groupby(["model", "layer"], sort=False):
        model, layer = (str(part) for part in cast("tuple[Any, Any]", place))
        neurons = kinds.NEURONS.name(model, layer)
        if not files.has(neurons):
            return f"names the layer {model[:40]}/{layer[:40]}, which there is not"
        n_units = files.fact(neurons, "n_units")
        unit_m = group["unit"].to_numpy()
        if unit_m.max() >= n_units:
            return f"names unit {unit_m.max()} of {layer}, which has {n_units}"
        if len(np.unique(unit_m)) != len(unit_m):
            return f"names a unit of {layer} twice"
    return ""


def _fault_of_nodes(files: Files, stage: str, rows: pd.DataFrame) -> str:
    """The neurons of a circuit are neurons of its model, each once for an output."""
    n_outputs = len(files.table(stage, "outputs"))
    if len(rows) and rows["output"].max() >= n_outputs:
        return f"names output {rows['output'].max()}, but there are {n_outputs}"
    (model,) = kinds.CIRCUIT.parts(stage)
    for _, group in rows.groupby("output"):
        fault = _fault_of_rows(files, group.assign(model=model))
        if fault:
            return fault
    return ""


def _fault_of_edges(files: Files, stage: str, rows: pd.DataFrame) -> str:
    """What feeds what are neurons of one output, in two layers."""
    nodes = files.table(stage, "nodes")
    ends = rows[["source", "target"]].to_numpy()
    if ends.size and ends.max() >= len(nodes):
        return f"names node {ends.max()}, but there are {len(nodes)}"
    output_n, layer_n = nodes["output"].to_numpy(), nodes["layer"].to_numpy()
    if (output_n[ends[:, 0]] != output_n[ends[:, 1]]).any():
        return "joins neurons of two outputs"
    if (layer_n[ends[:, 0]] == layer_n[ends[:, 1]]).any():
        return "joins neurons of one layer"
    return ""


def _fault_of_units(files: Files, stage: str, rows: pd.DataFrame) -> str:
    """The neurons of an intervention are neurons of its model, each once for an artefact."""
    effects = files.table(stage, "effects")
    (model,) = kinds.INTERVENTION.parts(stage)
    for _, group in rows.groupby("artefact", sort=False):
        fault = _fault_of_rows(files, group.assign(model=model))
        if fault:
            return fault
    return fault_of_artefacts(rows, effects) or fault_of_reach(rows)


def _fault_of_shown(files: Files, stage: str, rows: pd.DataFrame) -> str:
    """Pictures are of pairs that there are, as many as there are pictures."""
    n_pairs = len(files.table(stage, "pairs"))
    if len(rows) and rows["pair"].max() >= n_pairs:
        return f"shows pair {rows['pair'].max()}, but there are {n_pairs}"
    if not (is_version := rows["version"].isin(VERSIONS)).all():
        return f"shows the version {rows['version'][~is_version].iloc[0]!r:.80}, which is none"
    offsets = files.stage(stage).files.get("thumb_offset.npy")
    n_pictures = offsets.shape[0] - 1 if offsets is not None and offsets.shape else len(rows)
    return "" if len(rows) == n_pictures else f"has {len(rows)} rows for {n_pictures} pictures"


def _fault_of_slices(_files: Files, _stage: str, rows: pd.DataFrame) -> str:
    """No slice has more correct answers than images, or fewer than none."""
    if "n_correct" not in rows:
        return ""
    is_off = (rows["n_correct"] < 0) | (rows["n_correct"] > rows["n"])
    return "has more correct answers than images, or fewer than none" if is_off.any() else ""


def _fault_of_cuts(files: Files, stage: str, rows: pd.DataFrame) -> str:
    """What is held still are neurons of layers of the model."""
    model, _ = kinds.FIX.parts(stage)
    for _, group in rows.groupby(["run", "piece"]):
        fault = _fault_of_rows(files, group.assign(model=model))
        if fault:
            return fault
    return fault_of_cuts(rows, files.table(stage, "runs"))


def _fault_of_curved(files: Files, stage: str, rows: pd.DataFrame) -> str:
    classes = list(files.fact(stage, "classes"))
    followed = str(files.fact(stage, "output"))
    return fault_of_output(classes, followed) or fault_of_halves(rows, classes)


def _fault_of_turned(files: Files, stage: str, rows: pd.DataFrame) -> str:
    """Pictures are of photographs that are reported on."""
    shots = files.table(stage, "photographs")
    if len(rows) and rows["row"].max() >= len(shots):
        return f"shows photograph {rows['row'].max()}, but there are {len(shots)}"
    if shots["is_choosing"].iloc[rows["row"]].any():
        return "shows a photograph that is not reported on"
    offsets = files.stage(stage).files.get("thumb_offset.npy")
    n_pictures = offsets.shape[0] - 1 if offsets is not None and offsets.shape else len(rows)
    return "" if len(rows) == n_pictures else f"has {len(rows)} rows for {n_pictures} pictures"


def _fault_of_pushed(files: Files, stage: str, rows: pd.DataFrame) -> str:
    """Pictures are of reported photographs and of factors that are projected out."""
    n_tried = int(files.fact(stage, "n_tried"))
    if len(rows) and rows["factor"].max() >= n_tried:
        return f"shows factor {rows['factor'].max()}, but {n_tried} are projected out"
    return _fault_of_turned(files, stage, rows)


Further = Callable[[Files, str, pd.DataFrame], str]
_FURTHER: dict[tuple[str, str], Further] = {
    ("index", "rows"): lambda files, _, rows: _fault_of_rows(files, rows),
    ("projection", "rows"): lambda files, _, rows: _fault_of_rows(files, rows),
    ("circuit", "nodes"): _fault_of_nodes,
    ("circuit", "edges"): _fault_of_edges,
    ("performance", "slices"): _fault_of_slices,
    ("truth", "concepts"): lambda _files, _stage, rows: fault_of_concepts(rows),
    ("truth", "units"): lambda files, stage, rows: fault_of_truths(
        rows, set(files.table(stage, "concepts")["name"])
    ),
    ("association", "columns"): lambda _files, _stage, rows: fault_of_asked(rows),
    ("association", "found"): lambda files, stage, rows: fault_of_found(
        rows, files.table(stage, "columns")
    ),
    ("intervention", "effects"): lambda _files, _stage, rows: fault_of_effects(rows),
    ("intervention", "pairs"): lambda files, stage, rows: fault_of_artefacts(
        rows, files.table(stage, "effects")
    ),
    ("intervention", "units"): _fault_of_units,
    ("intervention", "sets"): lambda files, stage, rows: fault_of_artefacts(
        rows, files.table(stage, "effects")
    ),
    ("intervention", "given"): lambda files, stage, rows: fault_of_artefacts(
        rows, files.table(stage, "effects")
    ),
    ("intervention", "gates"): lambda files, stage, rows: fault_of_gates(
        rows, files.table(stage, "effects")
    ),
    ("intervention", "shown"): _fault_of_shown,
    ("fix", "photographs"): lambda files, stage, rows: fault_of_photographs(
        rows,
        list(files.fact(stage, "classes")),
        *(str(files.fact(stage, each)) for each in ("clean", "output")),
    ),
    ("fix", "runs"): lambda _files, _stage, rows: fault_of_runs(rows),
    ("fix", "cuts"): _fault_of_cuts,
    ("fix", "shown"): _fault_of_turned,
    ("curves", "photographs"): _fault_of_curved,
    ("curves", "orders"): lambda files, stage, rows: fault_of_orders(
        rows, n_units_of(files, stage)
    ),
    ("curves", "runs"): lambda files, stage, rows: fault_of_held(
        rows, files.table(stage, "orders")
    ),
    ("factors", "photographs"): lambda files, stage, rows: fault_of_halves(
        rows, list(files.fact(stage, "classes")), ("class", "decided")
    ),
    ("factors", "factors"): lambda files, stage, rows: fault_of_factors(
        rows, n_factors_of(files, stage)
    ),
    ("factors", "shown"): _fault_of_pushed,
    ("maps", "photographs"): lambda files, stage, rows: fault_of_maps(
        rows, set(files.table(stage, "units")["artefact"])
    ),
}
"""What else a table has to fulfil, once its columns do."""
