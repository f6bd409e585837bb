"""Whether arrays can mean what they are read as: ids that exist, numbers that are.

Looked at once, when a file is first read. Of large arrays a sample of rows is; ``verify`` looks at
all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.checks.factored import fault_of_arrays
from csp_engine.bundle.checks.held import fault_of_called, fault_of_decisions

LOOKED_AT = 1 << 20
SAMPLED = 1 << 18
"""Up to the first number of values all are looked at, of larger arrays about the second: a
millisecond's work."""

_IMAGE_IDS = (
    "exemplar_image",
    "contrast_image",
    "stratified_image",
    "random_image",
    "nonzero_image",
)
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
        "nonzero_value",
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
        bound = n_images_of(files) if name != "label_uk" else _n_labels(files, stage)
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


def n_images_of(files: Files) -> int | None:
    """How many images the bundle has; None where it does not say so yet."""
    return files.fact(kinds.IMAGES.name(), "n_images") if files.has(kinds.IMAGES.name()) else None


def n_units_of(files: Files, stage: str) -> int | None:
    """How many units the layer of a stage has; None where its neurons are not there."""
    kind = kinds.KINDS[kinds.stage_kind(stage)]
    neurons = kinds.NEURONS.name(*kind.parts(stage)[:2])
    return files.fact(neurons, "n_units") if files.has(neurons) else None


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


def _fault_of_starts(files: Files, stage: str, start: np.ndarray) -> str:
    held = files.stage(stage).files
    entries = [held.get(f"nonzero_{name}.npy") for name in ("image", "value")]
    n_values = [None if entry is None else entry.shape for entry in entries]
    is_rising = start.ndim == 1 and start[0] == 0 and (np.diff(start) >= 0).all()
    if not is_rising or n_values != [(start[-1],)] * 2:
        return "does not divide nonzero_image.npy and nonzero_value.npy among the units"
    return ""


def _fault_of_decisions(name: str) -> Callable[[Files, str, np.ndarray], str]:
    def fault(files: Files, stage: str, values: np.ndarray) -> str:
        tables = (files.table(stage, each) for each in ("photographs", "runs"))
        return fault_of_decisions(name, values, *tables, len(files.fact(stage, "classes")))

    return fault


def _fault_of_factored(name: str) -> Callable[[Files, str, np.ndarray], str]:
    def fault(files: Files, stage: str, values: np.ndarray) -> str:
        photographs = files.table(stage, "photographs")
        return fault_of_arrays(name, values, photographs, n_factors_of(files, stage))

    return fault


def _fault_of_called(files: Files, stage: str, values: np.ndarray) -> str:
    """Decisions of every run of curves or factors."""
    if kinds.stage_kind(stage) == "curves":
        n_runs = len(files.table(stage, "runs"))
    else:
        n_runs = 1 + int(files.fact(stage, "n_tried")) + int(files.fact(stage, "n_random"))
    photographs = files.table(stage, "photographs")
    return fault_of_called(values, photographs, n_runs, len(files.fact(stage, "classes")))


def n_factors_of(files: Files, stage: str) -> int:
    """How many directions a stage of factors holds."""
    shape = files.stage(stage).files["direction.npy"].shape or ()
    return shape[1] if len(shape) == 2 else 0


_ARRAYS: dict[tuple[str, str], Callable[[Files, str, np.ndarray], str]] = {
    ("", "thumb_offset"): _fault_of_offsets,
    ("activations", "nonzero_start"): _fault_of_starts,
    **{("fix", name): _fault_of_decisions(name) for name in ("score", "called")},
    **{(kind, "called"): _fault_of_called for kind in ("curves", "factors")},
    **{("factors", name): _fault_of_factored(name) for name in ("direction", "push")},
}
"""Arrays that fit other files in a way of their own, by kind of stage, empty for any, and name."""
