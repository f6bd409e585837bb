"""Activations of layers that are mostly exactly zero, such as an autoencoder's latents.

A pass writes, image by image, which units are not zero and their values (``sparse_rows``). The
stage holds the same unit by unit, which ``write_activations`` brings about in bounded memory, and
``SparseActivations`` gives rows of it as they would be in an array ``(u, n)``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Float32, Int32, Int64

from csp_engine.bundle.writer import StageFolder, npy_header
from csp_engine.errors import BundleError, InputError

START, IMAGE, VALUE = "nonzero_start", "nonzero_image", "nonzero_value"
LEAST_GAIN = 2
"""How many times less room sparse files must take; a value takes twice as much in them."""
MOST_AT_ONCE = 4 << 30
"""Bytes up to which such activations are given as one array; more would not fit many machines."""

# Bounds on working memory; they change no result.
_MOST_VALUES = 1 << 25
_DENSE_VALUES = 1 << 25


class WrongRows(ValueError):
    """What a pass wrote cannot be read as rows of that many units."""


def sparse_rows(values_nu: Float32[np.ndarray, "n u"]) -> bytes:
    """Rows of a pass: for each image how many units are not zero, which, and their values.

    All are four bytes. -0 counts as 0.
    """
    parts: list[bytes] = []
    for values_u in values_nu:
        unit_m = np.flatnonzero(values_u).astype(np.int32)
        parts += [np.int32(len(unit_m)).tobytes(), unit_m.tobytes()]
        parts.append(np.ascontiguousarray(values_u[unit_m], np.float32).tobytes())
    return b"".join(parts)


def write_activations(folder: StageFolder, shape: tuple[int, int], source: Path) -> None:
    """Write a layer from the rows of a pass: sparsely where that takes at most half the room.

    Args:
        folder: of the stage.
        shape: units and images.
        source: what ``sparse_rows`` made, one batch after the other.

    Raises:
        InputError: the file holds something else.
    """
    try:
        count_u = _counted(source, shape)
        if LEAST_GAIN * 2 * int(count_u.sum()) > shape[0] * shape[1]:
            _write_every_value(folder, shape, source)
        else:
            _write_columns(folder, shape, source, count_u)
    except WrongRows:
        raise InputError(
            f"{source} is not what the pass over the images wrote; delete {source.parent} and run "
            "the same 'csp build' again."
        ) from None


def _counted(source: Path, shape: tuple[int, int]) -> Int64[np.ndarray, " u"]:
    """On how many images each unit is not zero."""
    count_u = np.zeros(shape[0], np.int64)
    for _, block in _blocks(source, shape):
        count_u += np.bincount(block.indices, minlength=shape[0])
    return count_u


def _write_columns(
    folder: StageFolder, shape: tuple[int, int], source: Path, count_u: Int64[np.ndarray, " u"]
) -> None:
    """Turn rows into columns, a run of images at a time, each piece to its place in the file."""
    start_v = np.concatenate([[0], np.cumsum(count_u)])
    folder.array(START, start_v)
    place_u = start_v[:-1].copy()
    with ExitStack() as stack:
        images, values = (
            stack.enter_context((folder.path / f"{name}.npy").open("wb")) for name in (IMAGE, VALUE)
        )
        for out, descr in ((images, "<i4"), (values, "<f4")):
            npy_header(out, (int(start_v[-1]),), descr)
            begin = out.tell()
            out.truncate(begin + 4 * int(start_v[-1]))
            out.flush()
        for first, block in _blocks(source, shape):
            turned = block.tocsc()  # images of a unit stay in order
            image_m = (turned.indices + first).astype(np.int32)
            end_v = turned.indptr
            for unit in np.flatnonzero(np.diff(end_v)).tolist():
                part = slice(end_v[unit], end_v[unit + 1])
                position = begin + 4 * int(place_u[unit])
                os.pwrite(images.fileno(), image_m[part].data, position)
                os.pwrite(values.fileno(), turned.data[part].data, position)
            place_u += np.diff(end_v)


def _write_every_value(folder: StageFolder, shape: tuple[int, int], source: Path) -> None:
    whole = folder.path / "rows.part"
    with whole.open("wb") as out:
        for _, block in _blocks(source, shape, max(1, _DENSE_VALUES // max(1, shape[0]))):
            block.toarray().tofile(out)
    folder.transposed_array("activation", shape, whole)
    whole.unlink()


def _blocks(
    source: Path, shape: tuple[int, int], most_rows: int | None = None
) -> Iterator[tuple[int, Any]]:
    """Runs of images, each with its first image, as matrices ``(n, u)``.

    Raises:
        WrongRows: these are not the rows of that many units and images.
    """
    from scipy.sparse import csr_array  # the pages read bundles and must not wait for it

    n_units, n_rows = shape
    units: list[np.ndarray] = []
    values: list[np.ndarray] = []
    first = held = 0
    with source.open("rb") as content:
        for row in range(n_rows):
            unit_m, value_m = _row(content, n_units)
            units.append(unit_m)
            values.append(value_m)
            held += len(unit_m)
            if held >= _MOST_VALUES or len(units) == most_rows or row == n_rows - 1:
                ends = np.cumsum([0, *map(len, units)])
                parts = np.concatenate(values), np.concatenate(units), ends.astype(np.int32)
                yield first, csr_array(parts, shape=(len(units), n_units))
                units, values, first, held = [], [], row + 1, 0
        if content.read(1):
            raise WrongRows


def _row(content: BinaryIO, n_units: int) -> tuple[np.ndarray, np.ndarray]:
    head = content.read(4)
    count = int(np.frombuffer(head, np.int32)[0]) if len(head) == 4 else -1
    body = content.read(8 * count) if 0 <= count <= n_units else b""
    if len(body) != 8 * count:
        raise WrongRows
    unit_m = np.frombuffer(body, np.int32, count)
    if count and (unit_m[0] < 0 or unit_m[-1] >= n_units or (np.diff(unit_m) <= 0).any()):
        raise WrongRows
    return unit_m, np.frombuffer(body, np.float32, count, 4 * count)


class SparseActivations:
    """Activations ``(u, n)`` of which a bundle holds those that are not zero.

    Indexed as an array is, by units first; what comes out is an ordinary array of float32. An
    array of all is given where it takes up to ``MOST_AT_ONCE``.

    Args:
        where: bundle and stage, as sentences name them.
        n_images: images of the probe set.
        start_v: where each unit begins in the other two, and the end of the last.
        image_m: which images, ascending within a unit.
        value_m: their activations.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(
        self,
        where: str,
        n_images: int,
        start_v: Int64[np.ndarray, " v"],
        image_m: Int32[np.ndarray, " m"],
        value_m: Float32[np.ndarray, " m"],
    ) -> None:
        self._where = where
        self._start_v, self._image_m, self._value_m = start_v, image_m, value_m
        self.shape = (len(start_v) - 1, n_images)
        self.size = self.shape[0] * n_images

    def __len__(self) -> int:
        return self.shape[0]

    def nonzero(self, unit: int) -> tuple[Int32[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
        """The images on which a unit is not zero, ascending, and its activations there.

        Raises:
            BundleError: what the bundle holds cannot be that.
        """
        part = slice(int(self._start_v[unit]), int(self._start_v[unit + 1]))
        image_m, value_m = np.asarray(self._image_m[part]), np.asarray(self._value_m[part])
        if len(image_m) and (
            image_m[0] < 0 or image_m[-1] >= self.shape[1] or (np.diff(image_m) <= 0).any()
        ):
            raise BundleError(
                f"{self._where} is damaged: the images of unit {unit} are not in order, each once; "
                "run 'csp verify' to see what else is, or 'csp build' with the same inputs."
            )
        return image_m, value_m

    def __getitem__(self, key: Any) -> np.ndarray:
        units, *others = key if isinstance(key, tuple) else (key,)
        unit_b = np.arange(self.shape[0])[units]
        if others:
            (images,) = others
            rows = [self._row(unit)[images] for unit in np.atleast_1d(unit_b).tolist()]
            if np.ndim(unit_b) == 0:
                return rows[0]
            width = len(np.arange(self.shape[1])[images])
            return np.stack(rows) if rows else np.zeros((0, width), np.float32)
        if np.ndim(unit_b) == 0:
            return self._row(int(unit_b))
        values_bn = np.zeros((len(unit_b), self.shape[1]), np.float32)
        for values_n, unit in zip(values_bn, unit_b.tolist(), strict=True):
            image_m, value_m = self.nonzero(unit)
            values_n[image_m] = value_m
        return values_bn

    def _row(self, unit: int) -> np.ndarray:
        values_n = np.zeros(self.shape[1], np.float32)
        image_m, value_m = self.nonzero(unit)
        values_n[image_m] = value_m
        return values_n

    @property
    def too_large(self) -> str:
        """Why there is no array of all, in a sentence; empty where there is one."""
        if 4 * self.size <= MOST_AT_ONCE:
            return ""
        return (
            f"{self._where} holds {self.shape[0]:,} units × {self.shape[1]:,} images, mostly "
            f"zeros; all at once they take {4 * self.size / 1e9:,.0f} GB, more than the "
            f"{MOST_AT_ONCE / 1e9:.1f} GB that are held in memory. Take fewer images or units."
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.too_large:
            raise InputError(self.too_large)
        return self[:] if dtype is None else self[:].astype(dtype)
