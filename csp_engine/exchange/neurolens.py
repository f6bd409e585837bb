"""The files of NeuroLens (the published CSP code), read as they are.

Its layout, under one root::

    data_precomp/target_models/TARGET/activations/SET_activations.zarr            (n, u)
    data_precomp/img_text_models/ENCODER/img_embds/SET_img_embds.zarr             (n, d)
    data_precomp/img_text_models/ENCODER/text_embds/TEXTS_TEMPLATE_text_embds.zarr  (t, d)
    data_results/TARGET/SET/ENCODER_positive_neuron_data.csv
    data_results/TARGET/SET/ENCODER_negative_neuron_data.csv

A row of the negative table is the contrast image of the positive row of equal neuron and rank.
NeuroLens takes an array as finished as soon as it exists with the right shape, so a run that was
stopped leaves rows of zeros; they are refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import zarr
from jaxtyping import Float32, Int32, Int64

from csp_engine.errors import InputError
from csp_engine.types import ContrastSet, Exemplars
from csp_engine.vectors import normalise_rows

CSV_COLUMNS = (
    "sample_type",
    "neuron_idx",
    "sample_rank",
    "img_idx",
    "activation_value",
    "similarity_value",
    "probe_dataset_overall_mean",
)
TOLERANCE = 1e-4
"""How far a number in a table may be from the same one in the arrays, relative to the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class NeuroLensOutput:
    """One target model on one image set, with contrast images from one encoder.

    NeuroLens ranks images for some units only: row ``m`` of ``exemplars`` and ``contrast`` belongs
    to unit ``unit_m[m]``, in rising order. Every exemplar has one contrast image, and the threshold
    is the mean activation over the image set. ``text_paths`` maps a text set to the array of each
    of its templates; the texts themselves are not among NeuroLens' files.
    """

    target: str
    image_set: str
    encoder: str
    activations_path: Path
    n_images: int
    n_units: int
    image_nd: Float32[np.ndarray, "n d"]
    unit_m: Int64[np.ndarray, " m"]
    exemplars: Exemplars
    contrast: ContrastSet
    text_paths: Mapping[str, Mapping[str, Path]]

    def activation_blocks(
        self, block_bytes: int = 1 << 27
    ) -> Iterator[Float32[np.ndarray, "rows u"]]:
        """The activations, ``(n, u)``, a run of images at a time.

        Raises:
            InputError: if rows were never written, or a value is not finite.
        """
        array = _open(self.activations_path)
        n_rows = array.chunks[0]
        n_rows *= max(1, block_bytes // max(1, 4 * n_rows * self.n_units))
        is_whole = array.nchunks_initialized == array.nchunks
        for first in range(0, self.n_images, n_rows):
            block = np.asarray(array[first : first + n_rows], np.float32)
            _check_rows(block, first, self.activations_path, may_be_zero=is_whole)
            yield block

    def text_vectors(self, text_set: str) -> Float32[np.ndarray, "t d"]:
        """Mean of a text set's vectors over its templates, not re-normalised, as NeuroLens does.

        Raises:
            InputError: if there is no such text set, or its arrays disagree in shape.
        """
        try:
            paths = self.text_paths[text_set]
        except KeyError:
            raise InputError(
                f"There are no vectors of a text set {text_set!r}; "
                f"NeuroLens left {', '.join(self.text_paths) or 'none'}."
            ) from None
        total = None
        for path in paths.values():
            vectors = _rows_of(path, self.image_nd.shape[1])
            if total is not None and total.shape != vectors.shape:
                raise InputError(
                    f"{path.name} has {len(vectors)} texts and another template of {text_set!r} "
                    f"has {len(total)}; run NeuroLens' text embedding again."
                )
            total = vectors if total is None else total + vectors
        assert total is not None
        return (total / np.float32(len(paths))).astype(np.float32)


def read_neurolens(
    folder: Path,
    *,
    target: str | None = None,
    image_set: str | None = None,
    encoder: str | None = None,
) -> NeuroLensOutput:
    """Read what a NeuroLens run left behind, and check that its parts belong together.

    Args:
        folder: the root that holds ``data_precomp`` and ``data_results``.
        target: identifier of the target model; needed only if there are several.
        image_set: identifier of the image set; likewise.
        encoder: identifier of the image-text model; likewise.

    Raises:
        InputError: if a part is missing, unfinished, or does not fit the others; the sentence names
            the file.
    """
    for part in ("data_precomp", "data_results"):
        if not (folder / part).is_dir():
            raise InputError(
                f"{folder} is not a NeuroLens folder: it has no {part}; give the root that holds "
                "data_precomp and data_results."
            )
    results = folder / "data_results"
    ending = "_positive_neuron_data.csv"
    runs = []
    for path in sorted(results.rglob(f"*{ending}")):
        run_target, slash, run_set = path.parent.relative_to(results).as_posix().rpartition("/")
        if slash:
            runs.append((run_target, run_set, path.name.removesuffix(ending)))
    wanted = {"target": target, "image_set": image_set, "encoder": encoder}
    fitting = [
        run
        for run in runs
        if all(want in (None, have) for want, have in zip(wanted.values(), run, strict=True))
    ]
    if len(fitting) != 1:
        have = "; ".join(f"target {t}, image set {s}, encoder {e}" for t, s, e in fitting or runs)
        problem = (
            f"{folder} holds several results" if fitting else f"{results} has no such result table"
        )
        raise InputError(
            f"{problem} ({have or 'no ' + ending + ' at all'}); "
            + ("say which target, image set and encoder." if runs else "run NeuroLens to its end.")
        )
    return _read_run(folder, *fitting[0])


def _read_run(folder: Path, target: str, image_set: str, encoder: str) -> NeuroLensOutput:
    precomputed = folder / "data_precomp"
    encoder_path = precomputed / "img_text_models" / encoder
    activations_path = (
        precomputed / "target_models" / target / "activations" / f"{image_set}_activations.zarr"
    )
    image_path = encoder_path / "img_embds" / f"{image_set}_img_embds.zarr"
    activations = _open(activations_path)
    n_images, n_units = activations.shape
    image_nd = _rows_of(image_path)
    if len(image_nd) != n_images:
        raise InputError(
            f"{image_path.name} has {len(image_nd)} images and {activations_path.name} has "
            f"{n_images}; they come from different image sets."
        )
    csv_path = folder / "data_results" / target / image_set
    positive = _read_samples(csv_path, encoder, "positive", n_images, n_units)
    negative = _read_samples(csv_path, encoder, "negative", n_images, n_units)
    keys = ["neuron_idx", "sample_rank"]
    if not positive[keys].equals(negative[keys]):
        raise InputError(
            f"The positive and negative tables of {encoder} in {csv_path} do not list the same "
            "neurons and ranks; run NeuroLens' neuron data again."
        )
    unit_m, counts = np.unique(positive["neuron_idx"].to_numpy(np.int64), return_counts=True)
    exemplars, contrast = _paired(positive, negative, unit_m, counts)
    found = NeuroLensOutput(
        target,
        image_set,
        encoder,
        activations_path,
        n_images,
        n_units,
        image_nd,
        unit_m,
        exemplars,
        contrast,
        _text_paths(encoder_path / "text_embds"),
    )
    _check_against_arrays(found)
    return found


def _read_samples(
    folder: Path, encoder: str, kind: str, n_images: int, n_units: int
) -> pd.DataFrame:
    path = folder / f"{encoder}_{kind}_neuron_data.csv"
    if not path.is_file():
        raise InputError(
            f"NeuroLens' table {path.name} is missing from {folder}; run its neuron data again."
        )
    try:
        rows = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}).") from error
    missing = [c for c in CSV_COLUMNS if c not in rows.columns]
    if missing:
        raise InputError(
            f"{path.name} lacks the columns {', '.join(missing)}; it is not a NeuroLens table."
        )
    if rows.empty or set(rows["sample_type"]) != {kind}:
        raise InputError(
            f"{path.name} should hold {kind} rows only and holds "
            f"{', '.join(map(str, rows['sample_type'].unique())) or 'no rows'}."
        )
    for column, limit in (("neuron_idx", n_units), ("img_idx", n_images), ("sample_rank", None)):
        values = rows[column]
        if not pd.api.types.is_integer_dtype(values) or values.min() < 0:
            raise InputError(f"Column {column} of {path.name} must hold whole numbers from 0 up.")
        if limit is not None and values.max() >= limit:
            raise InputError(
                f"{path.name} names {column} {values.max()}, but the arrays end at {limit - 1}; "
                "table and arrays come from different runs."
            )
    numbers = rows[list(CSV_COLUMNS[4:])].apply(pd.to_numeric, errors="coerce").to_numpy()
    if not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers).all(1))[0])
        raise InputError(f"Row {row + 1} of {path.name} has a value that is not a finite number.")
    rows = rows.sort_values(["neuron_idx", "sample_rank"], kind="stable", ignore_index=True)
    expected = rows.groupby("neuron_idx").cumcount()
    if not (rows["sample_rank"] == expected).all():
        unit = rows.loc[rows["sample_rank"] != expected, "neuron_idx"].iloc[0]
        raise InputError(
            f"The ranks of neuron {unit} in {path.name} do not run 0, 1, 2, …; rows are missing or "
            "doubled."
        )
    return rows


def _paired(
    positive: pd.DataFrame,
    negative: pd.DataFrame,
    unit_m: Int64[np.ndarray, " m"],
    counts: Int64[np.ndarray, " m"],
) -> tuple[Exemplars, ContrastSet]:
    row_r = np.repeat(np.arange(len(unit_m)), counts)
    rank_r = positive["sample_rank"].to_numpy()
    shape = (len(unit_m), int(counts.max()))

    def grid(column: pd.Series, dtype: Any) -> np.ndarray:
        values = np.zeros(shape, dtype)
        values[row_r, rank_r] = column.to_numpy()
        return values

    count_u = counts.astype(np.int32)
    exemplars = Exemplars(
        grid(positive["img_idx"], np.int32), grid(positive["activation_value"], np.float32), count_u
    )
    threshold_u = (
        positive.groupby("neuron_idx")["probe_dataset_overall_mean"].first().to_numpy(np.float32)
    )
    n_partner_uk: Int32[np.ndarray, "m k"] = (
        np.arange(shape[1])[None, :] < counts[:, None]
    ).astype(np.int32)
    contrast = ContrastSet(
        grid(negative["img_idx"], np.int32)[:, :, None],
        grid(negative["similarity_value"], np.float32)[:, :, None],
        grid(negative["activation_value"], np.float32)[:, :, None],
        n_partner_uk,
        np.zeros(len(unit_m), np.int32),
        threshold_u,
    )
    return exemplars, contrast


def _check_against_arrays(found: NeuroLensOutput) -> None:
    """Compare tables with arrays and fill in how many quiet images each listed unit has."""
    scale = 0.0
    worst = 0.0
    image_uk, partner_uk = found.exemplars.image_uk, found.contrast.image_ukj[:, :, 0]
    for first, block in _column_blocks(found):
        rows = slice(first, first + block.shape[1])
        scale = max(scale, float(np.abs(block).max(initial=0)))
        real_uk = np.arange(image_uk.shape[1]) < found.exemplars.count_u[rows, None]
        column = np.arange(block.shape[1])[:, None]
        for stated, images in (
            (found.exemplars.activation_uk[rows], image_uk[rows]),
            (found.contrast.activation_ukj[rows, :, 0], partner_uk[rows]),
        ):
            gap = np.abs(stated - block[images, column])[real_uk]
            worst = max(worst, float(gap.max(initial=0)))
        found.contrast.pool_u[rows] = (block < found.contrast.threshold_u[rows]).sum(0)
    if worst > TOLERANCE * max(scale, 1e-6):
        raise InputError(
            f"Activations in the tables of {found.encoder} differ from "
            f"{found.activations_path.name} by up to {worst:.3g}; they come from different runs."
        )
    real_uk = found.contrast.n_partner_uk > 0
    unit_rows = normalise_rows(np.asarray(found.image_nd))
    for row in range(len(found.unit_m)):
        cosine_k = np.einsum("kd,kd->k", unit_rows[image_uk[row]], unit_rows[partner_uk[row]])
        gap_k = np.abs(cosine_k - found.contrast.similarity_ukj[row, :, 0])
        # NeuroLens may have run the encoder in half precision.
        if gap_k[real_uk[row]].max(initial=0) > 0.02:
            raise InputError(
                f"Similarities in the negative table of {found.encoder} differ from its image "
                f"vectors by up to {gap_k.max():.3g} (neuron {found.unit_m[row]}); they come from "
                "different runs."
            )


def _column_blocks(
    found: NeuroLensOutput, block_bytes: int = 1 << 28
) -> Iterator[tuple[int, np.ndarray]]:
    """Columns of the listed units; each pass over the store takes as many as fit."""
    per_block = max(1, block_bytes // max(1, 4 * found.n_images))
    for first in range(0, len(found.unit_m), per_block):
        units = found.unit_m[first : first + per_block]
        columns = np.empty((found.n_images, len(units)), np.float32)
        start = 0
        for block in found.activation_blocks():
            columns[start : start + len(block)] = block[:, units]
            start += len(block)
        yield first, columns


def _text_paths(folder: Path) -> dict[str, dict[str, Path]]:
    """Arrays by text set and template; both names may hold ``_``, and only the template ``{}``."""
    ending = "_text_embds.zarr"
    names = {
        path.name.removesuffix(ending): path
        for path in sorted(folder.glob(f"*{ending}"))
        if "{}" in path.name
    }
    plain = sorted((n.removesuffix("_{}") for n in names if n.endswith("_{}")), key=len)
    found: dict[str, dict[str, Path]] = {}
    for name, path in names.items():
        owner = next((p for p in reversed(plain) if name.startswith(f"{p}_")), None)
        if owner is None:
            match = re.fullmatch(r"(.+)_([^_]*\{\}.*)", name)
            if match is None:
                continue
            owner = match[1]
        found.setdefault(owner, {})[name[len(owner) + 1 :]] = path
    return found


def _open(path: Path) -> Any:
    if not path.is_dir():
        raise InputError(
            f"NeuroLens' array {path.name} is missing from {path.parent}; run its precomputation "
            "again."
        )
    try:
        array = zarr.open_array(store=path, mode="r")
    except Exception as error:  # zarr raises whatever its metadata reader stumbles over
        raise InputError(
            f"{path} cannot be read as a zarr array ({type(error).__name__}); delete it and run "
            "NeuroLens' precomputation again."
        ) from error
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind != "f":
        raise InputError(
            f"{path.name} has shape {array.shape} and type {array.dtype}; it should be a table of "
            "floating-point numbers with one row per image or text."
        )
    return array


def _rows_of(path: Path, width: int | None = None) -> Float32[np.ndarray, "n d"]:
    """A whole array of vectors, checked to be finished."""
    array = _open(path)
    if width is not None and array.shape[1] != width:
        raise InputError(
            f"{path.name} has vectors of {array.shape[1]} numbers, the images have {width}; they "
            "come from different encoders."
        )
    rows = np.asarray(array[:], np.float32)
    _check_rows(rows, 0, path, may_be_zero=False)
    return rows


def _check_rows(rows: np.ndarray, first: int, path: Path, *, may_be_zero: bool) -> None:
    if not np.isfinite(rows).all():
        row = first + int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
        raise InputError(f"Row {row} of {path.name} has a value that is not a finite number.")
    if not may_be_zero and not rows.any(1).all():
        row = first + int(np.flatnonzero(~rows.any(1))[0])
        raise InputError(
            f"{path.name} is unfinished: row {row} is all zeros; delete it and run NeuroLens' "
            "precomputation again."
        )
