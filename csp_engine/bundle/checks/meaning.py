"""Whether arrays and tables can mean what they are read as: ids that exist, numbers that are.

Looked at once, when a file is first read. Of large arrays a sample of rows is; ``verify`` looks at
all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.checks.associated import fault_of_asked, fault_of_found
from csp_engine.bundle.checks.effects import (
    fault_of_artefacts,
    fault_of_effects,
    fault_of_gates,
)
from csp_engine.bundle.checks.held import (
    fault_of_cuts,
    fault_of_decisions,
    fault_of_photographs,
    fault_of_runs,
)
from csp_engine.bundle.checks.pointing import FIGURES as MAP_FIGURES
from csp_engine.bundle.checks.pointing import fault_of_maps
from csp_engine.bundle.checks.truths import fault_of_concepts, fault_of_truths
from csp_engine.pasting.pairs import VERSIONS

LOOKED_AT = 1 << 20
SAMPLED = 1 << 18
"""Up to the first number of values all are looked at, of larger arrays about the second: a
millisecond's work."""

_IMAGE_IDS = ("exemplar_image", "contrast_image", "stratified_image", "random_image")
_AXIS_BOUND = {
    "exemplar_count": "exemplar_image",
    "n_partner": "contrast_image",
    "count_u": "label_uk",
}
"""Counts of how much of a row means anything, and the array whose last axis bounds them."""

_NEVER_NEGATIVE = frozenset(
    {"pool", "pool_u", "n_exemplar_u", "histogram", "stratum", "n_image", "null_size"}
)
_FINITE = frozenset(
    {
        "image",
        "text",
        "empty",
        "name",
        "activation",
        "exemplar_activation",
        "stratified_activation",
        "random_activation",
        "vector_ud",
        "anchor",
        "projection",
        "null_anchor",
        "null_projection",
        "null_vector",
        "gradient_activation",
        "direct_weight",
    }
)
_PERCENTILES = frozenset({"percentile_uk", "best_percentile_u"})
_SCORES = _PERCENTILES | {"score_uk", "raw_uk"}
_UNIT_ROWS = frozenset({"image", "null_vector", "vector_ud"})
_SHARES = _PERCENTILES | {"reuse_u"}


@runtime_checkable
class Files(Protocol):
    """What is asked of the files of a bundle (``StageFiles``)."""

    manifest: Any

    def has(self, stage: str) -> bool:
        """Whether a stage is committed."""
        ...

    def stage(self, name: str) -> Any:
        """Its record in the manifest."""
        ...

    def fact(self, stage: str, name: str) -> Any:
        """One of the small results of a stage."""
        ...

    def table(self, stage: str, name: str) -> pd.DataFrame:
        """One of its tables."""
        ...


def fault_of_array(
    files: Files, stage: str, name: str, values: np.ndarray, *, whole: bool = False
) -> str:
    """What is wrong with an array, as the end of "NAME.npy of STAGE …"; empty if nothing is.

    Raises:
        BundleError: if another file that it must fit is itself damaged.
    """
    kind = kinds.stage_kind(stage)
    if kind not in kinds.KINDS or not values.size:
        return ""
    part = np.asarray(values) if whole else _sample(values)
    own = _ARRAYS.get((kind, name)) or _ARRAYS.get(("", name))
    if own is not None:
        return own(files, stage, np.asarray(values))
    if name in _IMAGE_IDS or name == "label_uk":
        bound = _n_images(files) if name != "label_uk" else _n_labels(files, stage)
        what = "image" if name != "label_uk" else "label"
        if bound is not None and (part.min() < 0 or part.max() >= bound):
            wrong = part[(part < 0) | (part >= bound)].flat[0]
            return f"names {what} {wrong}, but there are {bound}"
    bound_by = files.stage(stage).files.get(f"{_AXIS_BOUND.get(name, '')}.npy")
    n_places = bound_by.shape[-1] if bound_by is not None and bound_by.shape else None
    if n_places is not None and (part.min() < 0 or part.max() > n_places):
        return f"counts {part.min()} to {part.max()} where {n_places} have place"
    if name in _NEVER_NEGATIVE and part.min() < 0:
        return f"counts {part.min()}"
    if name == "histogram" and kind == kinds.NEURONS.prefix and part.ndim == 2:
        n_images = files.fact(stage, "n_images")
        counted = part.sum(axis=1, dtype=np.int64)
        if (counted != n_images).any():
            return f"counts {counted[counted != n_images][0]} of {n_images} images"
    if part.dtype.kind != "f":
        return ""
    must_be = name in _FINITE or (name in _SCORES and not files.stage(stage).params.get("imported"))
    if name in _PERCENTILES and np.isnan(part).all():
        return ""  # of a method whose scores no random image sets judge
    if must_be and not np.isfinite(part).all():
        return "holds values that are not numbers"
    if name in _SHARES and ((part < -1e-6) | (part > 1 + 1e-6)).any():
        return "holds shares outside of 0 to 1"
    if name in _UNIT_ROWS and part.ndim == 2:
        length = np.linalg.norm(part, axis=1)
        if (np.abs(length - 1) > 1e-2)[(length > 1e-6) | (name == "image")].any():
            return "holds vectors that are not of length 1"
    return ""


def _sample(values: np.ndarray) -> np.ndarray:
    """All of a small array, rows at equal distances of a large one."""
    if values.size <= LOOKED_AT:
        return np.asarray(values)
    return np.asarray(values[:: -(-values.size // SAMPLED)])


def _n_images(files: Files) -> int | None:
    return files.fact(kinds.IMAGES.name(), "n_images") if files.has(kinds.IMAGES.name()) else None


def _n_labels(files: Files, stage: str) -> int | None:
    if "labels.parquet" in files.stage(stage).files:
        return len(files.table(stage, "labels"))
    held = files.manifest.stages.get(kinds.VOCABULARY.name())
    entry = None if held is None else held.files.get("text.npy")
    return entry.shape[0] if entry is not None and entry.shape else None


def _fault_of_offsets(files: Files, stage: str, offset: np.ndarray) -> str:
    entry = files.stage(stage).files.get("thumbs.bin")
    if entry is None:
        return ""
    if offset[0] != 0 or offset[-1] != entry.bytes or (np.diff(offset) < 0).any():
        return "does not divide thumbs.bin"
    return ""


def _fault_of_decisions(name: str) -> Callable[[Files, str, np.ndarray], str]:
    def fault(files: Files, stage: str, values: np.ndarray) -> str:
        tables = (files.table(stage, each) for each in ("photographs", "runs"))
        return fault_of_decisions(name, values, *tables, len(files.fact(stage, "classes")))

    return fault


_ARRAYS: dict[tuple[str, str], Callable[[Files, str, np.ndarray], str]] = {
    ("", "thumb_offset"): _fault_of_offsets,
    **{("fix", name): _fault_of_decisions(name) for name in ("score", "called")},
}
"""Arrays that fit other files in a way of their own, by kind of stage, empty for any, and name."""


# ------------------------------------------------------------------ tables

_TEXT, _COUNT, _NUMBER, _FLAG = "text", "count", "number", "flag"
_KNOWN_NUMBER = "known number"

_ENDS = ("", "_low", "_high")
_MEASURES = tuple(f"{measure}{end}" for measure in ("pearson", "auroc", "auprc") for end in _ENDS)
_COLUMNS: dict[tuple[str, str], dict[str, str]] = {
    ("images", "images"): {
        "sha256": _TEXT,
        "width": _COUNT,
        "height": _COUNT,
        "duplicate_of": "image",
        "duplicate_group": "image",
    },
    ("probe", "probe"): {"file": _TEXT, "sha256": _TEXT},
    ("probe", "skipped"): {"file": _TEXT, "reason": _TEXT},
    ("probe", "classes"): {"name": _TEXT, "n_images": _COUNT},
    ("neurons", "units"): {
        "mean": _NUMBER,
        "std": _NUMBER,
        "min": _NUMBER,
        "max": _NUMBER,
        "density": _NUMBER,
        "is_dead": _FLAG,
        "is_dense": _FLAG,
        "is_constant": _FLAG,
        "never_positive": _FLAG,
        "n_exemplars": _COUNT,
    },
    ("neurons", "class_counts"): {"unit": "unit", "class": "class", "count": _COUNT},
    ("audit", "units"): {
        "clarity": _NUMBER,
        "polysemanticity": _NUMBER,
        "cluster_0": _COUNT,
        "cluster_1": _COUNT,
        "silhouette": _NUMBER,
        "nearest_unit": _NUMBER,
        "redundancy": _NUMBER,
    },
    ("candidates", "candidates"): {
        "unit": "unit",
        "mode": _TEXT,
        "rank": _COUNT,
        "text": _TEXT,
        "log_p": _NUMBER,
        "log_prior": _NUMBER,
        "pmi": _NUMBER,
    },
    ("candidates", "sets"): {"unit": "unit", "mode": _TEXT, "p_nothing": _NUMBER},
    ("candidates", "answers"): {
        "unit": "unit",
        "mode": _TEXT,
        "status": _TEXT,
        "note": _TEXT,
        "answer": _TEXT,
        "n_tokens_in": _COUNT,
        "n_tokens_out": _COUNT,
    },
    ("vocabulary", "labels"): {"text": _TEXT, "source": _TEXT},
    ("words", "words"): {"text": _TEXT, "source": _TEXT},
    ("scores", "labels"): {"text": _TEXT, "source": _TEXT},
    ("index", "rows"): {"model": _TEXT, "layer": _TEXT, "unit": _COUNT},
    ("projection", "rows"): {"model": _TEXT, "layer": _TEXT, "unit": _COUNT},
    ("influence", "outputs"): {"name": _TEXT},
    ("circuit", "outputs"): {"name": _TEXT, "n_images": _COUNT},
    ("circuit", "nodes"): {
        "output": _COUNT,
        "layer": _TEXT,
        "unit": _COUNT,
        "effect": _KNOWN_NUMBER,
    },
    ("circuit", "edges"): {"source": _COUNT, "target": _COUNT, "effect": _KNOWN_NUMBER},
    ("truth", "units"): {"n_positive": _NUMBER, **dict.fromkeys(_MEASURES, _NUMBER)},
    ("intervention", "effects"): {
        **dict.fromkeys(("artefact", "foil"), _TEXT),
        **dict.fromkeys(("n_pairs", "n_groups", "n_called", "n_lost", "n_gained"), _COUNT),
        **{f"{m}{end}": _KNOWN_NUMBER for m in ("change", "effect") for end in _ENDS},
        **{f"neutral{end}": _NUMBER for end in _ENDS},
    },
    ("intervention", "pairs"): {
        **dict.fromkeys(("artefact", "file"), _TEXT),
        "group": _COUNT,
        "is_choosing": _FLAG,
        **{f"is_called_{version}": _FLAG for version in ("without", "neutral", "with")},
        "score_without": _KNOWN_NUMBER,
        "score_neutral": _NUMBER,
        "score_with": _KNOWN_NUMBER,
    },
    ("intervention", "units"): {
        **dict.fromkeys(("artefact", "layer"), _TEXT),
        "unit": _COUNT,
        "attribution": _KNOWN_NUMBER,
        "change": _KNOWN_NUMBER,
    },
    ("intervention", "sets"): {
        **dict.fromkeys(("artefact", "layer", "what"), _TEXT),
        "n_units": _COUNT,
        **{f"necessity{end}": _KNOWN_NUMBER for end in _ENDS},
        **{f"sufficiency{end}": _NUMBER for end in _ENDS},
    },
    ("intervention", "gates"): {
        **dict.fromkeys(("artefact", "why"), _TEXT),
        **dict.fromkeys(("n_with", "n_without"), _COUNT),
        **{
            f"{m}{end}": _NUMBER for m in ("real", "pasted", "neutral", "observed") for end in _ENDS
        },
        "least": _NUMBER,
    },
    ("intervention", "shown"): {"pair": _COUNT, "version": _TEXT},
    ("fix", "photographs"): {
        **dict.fromkeys(("file", "class", "slice"), _TEXT),
        "group": _COUNT,
        "is_choosing": _FLAG,
    },
    ("fix", "runs"): dict.fromkeys(("what", "model"), _TEXT),
    ("fix", "cuts"): {
        **dict.fromkeys(("run", "piece", "unit"), _COUNT),
        "layer": _TEXT,
        "is_direction": _FLAG,
        **dict.fromkeys(("weight", "at"), _KNOWN_NUMBER),
    },
    ("fix", "shown"): {"row": _COUNT},
    ("maps", "photographs"): {
        **dict.fromkeys(("artefact", "map"), _TEXT),
        "group": _COUNT,
        **dict.fromkeys(MAP_FIGURES, _KNOWN_NUMBER),
    },
    ("maps", "units"): {"artefact": _TEXT, "unit": "unit", "answer": _KNOWN_NUMBER},
    ("truth", "concepts"): {"name": _TEXT, "wordings": _TEXT, "n_positive": _COUNT},
    ("separation", "names"): {"name": _TEXT, "kind": _TEXT, "auroc": _NUMBER, "shuffled": _NUMBER},
    ("columns", "columns"): {"name": _TEXT, "n_known": _COUNT, "n_positive": _COUNT},
    ("association", "columns"): {
        **dict.fromkeys(("name", "kind", "beside"), _TEXT),
        **dict.fromkeys(
            ("n_known", "n_positive", "n_with", "n_without", "n_associated", "n_suspects"), _COUNT
        ),
        **dict.fromkeys(("least", "beside_v"), _NUMBER),
        "is_tried": _FLAG,
    },
    ("association", "found"): {
        "unit": "unit",
        "column": _COUNT,
        "is_suspect": _FLAG,
        **{f"auroc{end}": _KNOWN_NUMBER for end in _ENDS},
        **{f"within{end}": _NUMBER for end in _ENDS},
        **dict.fromkeys(("difference", "pearson"), _NUMBER),
        **dict.fromkeys(("p", "q_bh", "q_by", "p_family", "q_suspect"), _KNOWN_NUMBER),
    },
    ("performance", "slices"): {"slice": _TEXT, "n": _COUNT, "accuracy": _NUMBER},
    ("images", "skipped"): {"listed": _COUNT, "reason": _TEXT},
    ("faithfulness", "units"): {
        **{f"{m}{end}": _NUMBER for m in ("pearson", "auprc") for end in _ENDS},
        "n_said": _NUMBER,
    },
    ("trust", "metrics"): {
        "metric": _TEXT,
        **{f"{m}_{n}": _NUMBER for m in ("missing", "extra") for n in ("falls", "by")},
        **dict.fromkeys(("auroc", "low", "high", "n_right", "n_wrong"), _NUMBER),
        "is_passed": _FLAG,
    },
}
_IF_THERE: dict[tuple[str, str], dict[str, str]] = {
    ("performance", "slices"): dict.fromkeys(("n_correct", "low", "high"), _NUMBER),
    ("candidates", "sets"): {"n_exemplar": _COUNT, "n_contrast": _COUNT},
    ("vocabulary", "labels"): {"parents": _TEXT},
    ("words", "words"): {"parents": _TEXT},
}
"""Columns that a table may do without."""

_SHARED = ("auroc", "auprc", "accuracy", "within", "p", "q", "least", "beside")
_RANGES = {"pearson": (-1, 1), **dict.fromkeys(_SHARED, (0, 1))}
"""Between which values figures lie, their bounds with them; by how the column's name begins."""


def fault_of_table(files: Files, stage: str, name: str, rows: pd.DataFrame) -> str:
    """What is wrong with a table, as the end of "NAME.parquet of STAGE …"; empty if nothing is.

    Raises:
        BundleError: if another file that it must fit is itself damaged.
    """
    kind = kinds.stage_kind(stage)
    for column, what in _COLUMNS.get((kind, name), {}).items():
        if column not in rows.columns:
            return f"has no column {column!r}"
        fault = _fault_of_column(files, stage, rows[column], what)
        if fault:
            return f"has a column {column!r} that {fault}"
    for column, what in _IF_THERE.get((kind, name), {}).items():
        fault = _fault_of_column(files, stage, rows[column], what) if column in rows.columns else ""
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
        if column in rows.columns and rows[column].dtype.kind not in "fiub":
            return f"has a concept column {column!r:.80} that holds more than numbers"
    return ""


def _fault_of_column(files: Files, stage: str, values: pd.Series, what: str) -> str:
    if not len(values):
        return ""
    if what == _TEXT:
        if isinstance(values.dtype, pd.StringDtype):
            return "holds nothing in places" if values.isna().any() else ""
        is_text = values.map(lambda value: isinstance(value, str)).all()
        return "" if is_text else "holds more than text"
    if what == _FLAG:
        return "" if values.dtype.kind == "b" else "holds more than yes and no"
    if what in (_NUMBER, _KNOWN_NUMBER):
        if values.dtype.kind not in "fiu":
            return "holds more than numbers"
        value_r = values.to_numpy(float)
        if what == _KNOWN_NUMBER and not np.isfinite(value_r).all():
            return "holds something that is not a number"
        low, high = _RANGES.get(str(values.name).partition("_")[0], (-np.inf, np.inf))
        outside_r = value_r[(value_r < low - 1e-6) | (value_r > high + 1e-6)]
        return f"holds {outside_r[0]:g}, outside of {low} to {high}" if len(outside_r) else ""
    if values.dtype.kind not in "iu" or values.min() < 0:
        return "holds more than whole numbers from 0"
    bound = {
        "image": lambda: _n_images(files),
        "unit": lambda: _n_units(files, stage),
        "class": lambda: len(files.table(kinds.PROBE.name(), "classes")),
    }.get(what, lambda: None)()
    if bound is not None and values.max() >= bound:
        return f"names {what} {values.max()}, but there are {bound}"
    return ""


def _n_units(files: Files, stage: str) -> int | None:
    kind = kinds.KINDS[kinds.stage_kind(stage)]
    neurons = kinds.NEURONS.name(*kind.parts(stage)[:2])
    return files.fact(neurons, "n_units") if files.has(neurons) else None


def _n_rows(files: Files, stage: str, kind: str, name: str) -> int | None:
    if (kind, name) in (("images", "images"), ("probe", "probe")):
        return _n_images(files)
    if name == "units" and kind in ("neurons", "audit", "truth", "faithfulness"):
        return _n_units(files, stage)
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
    return fault_of_artefacts(rows, effects)


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
    ("maps", "photographs"): lambda files, stage, rows: fault_of_maps(
        rows, set(files.table(stage, "units")["artefact"])
    ),
}
"""What else a table has to fulfil, once its columns do."""
