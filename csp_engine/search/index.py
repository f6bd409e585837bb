"""An index of concept vectors: made, opened, and asked for the nearest.

It holds one vector per neuron of every layer of a method; its ids are row numbers of the table
``(model, layer, unit)`` that the bundle stores beside it. Neurons without evidence have the zero
vector and are left out of the index, so they can never be found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int64

from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import BundleError, InputError
from csp_engine.types import NeuronRef
from csp_engine.vectors.coded import (
    DEPTHS,
    ENOUGH,
    LISTED,
    N_NEAREST,
    NUMBERS,
    TIE,
    CodedIndex,
    asked,
    coded,
    exact_scores,
    is_codes,
    measured_recall,
    off_by,
)

INDEX_KINDS = ("auto", "flat", "codes")
EXACT_UP_TO = 200_000
"""Up to this many vectors ``auto`` searches exactly: at a width of 512, in about 40 ms."""

COMPARED_LAYERS, COMPARED_ROWS = 4, 64
"""How much of an index is compared with the concept vectors when it is opened."""

LOSS = 1e-3
"""What an index may have rounded away of a number."""


@dataclass(frozen=True, slots=True, eq=False)
class BuiltIndex:
    """A new index, and how often it finds the nearest: always where it is ``flat``, being exact.

    ``recall`` is the share of the true 20 nearest that ``codes`` find, for texts or for vectors of
    the index, whichever is lower; ``recall_listed`` that of as many as a search lists.
    """

    index: Any
    kind: str
    recall: float = 1.0
    recall_listed: float = 1.0
    n_asked: int = 0

    def write(self, path: Path) -> None:
        """Store the index, of ``codes`` only these; ``open_index`` reads it back."""
        faiss.write_index(self.index.codes if self.kind == "codes" else self.index, str(path))

    def facts(self) -> dict[str, Any]:
        """What a bundle should remember about it, JSON-ready."""
        facts: dict[str, Any] = {"kind": self.kind, "n_vectors": int(self.index.ntotal)}
        if self.kind == "flat":
            return {**facts, "recall_at_10": 1.0}
        return {
            **facts,
            f"recall_at_{N_NEAREST}": self.recall,
            f"recall_at_{LISTED}": self.recall_listed,
            "n_asked": self.n_asked,
            "n_reranked": self.index.depth,
        }


@dataclass(frozen=True, slots=True, eq=False)
class NearestRows:
    """Rows of the index table, best first; equal scores go to the lower row."""

    row_m: Int64[np.ndarray, " m"]
    score_m: Float32[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.row_m)


def build_index(
    vector_ud: Float32[np.ndarray, "u d"],
    kind: str = "auto",
    *,
    text_td: Float32[np.ndarray, "t d"] | None = None,
) -> BuiltIndex:
    """Index concept vectors for inner-product search; the id of a vector is its row number.

    ``auto`` is ``flat`` (exact) up to ``EXACT_UP_TO`` vectors and ``codes`` above, where these
    find 99 % of the nearest; where they do not, it is ``flat`` too. What codes find is measured
    against exact search.

    Args:
        vector_ud: unit rows, or zero rows for neurons without evidence, which are left out.
        kind: one of ``INDEX_KINDS``.
        text_td: texts that people may search for, to measure recall with; else only vectors do.

    Raises:
        InputError: if ``kind`` does not exist.
    """
    if kind not in INDEX_KINDS:
        raise InputError(f"Index {kind!r} does not exist; choose one of {', '.join(INDEX_KINDS)}.")
    row_m = np.flatnonzero(np.any(vector_ud, axis=1)).astype(np.int64)
    kept_md = np.ascontiguousarray(vector_ud[row_m], dtype=np.float32)
    if kind == "codes" or (kind == "auto" and len(row_m) > EXACT_UP_TO):
        built = _coded(kept_md, row_m, vector_ud, text_td) if len(row_m) else None
        if built is not None and (kind == "codes" or _finds_enough(built)):
            return built
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(vector_ud.shape[1]))
    index.add_with_ids(kept_md, row_m)
    return BuiltIndex(index, "flat")


def rank(
    index: Any,
    query_d: Float32[np.ndarray, " d"],
    n: int,
    *,
    allowed_u: Bool[np.ndarray, " u"] | None = None,
) -> NearestRows:
    """The ``n`` vectors of an index with the largest inner product with a query.

    Scores are summed anew, row by row in float64, so that equal vectors get equal scores and the
    order does not depend on how the index sums. Fewer than ``n`` come back when fewer exist. An
    index of codes may miss some of the nearest; the recall that was measured says how many.

    Args:
        index: from ``build_index``.
        query_d: any length; with unit length the scores are cosines.
        n: at least 1.
        allowed_u: over all rows of the index table; rows that are False are not looked at.
    """
    n_possible = index.ntotal if allowed_u is None else min(index.ntotal, int(allowed_u.sum()))
    if not n_possible or n < 1:
        return NearestRows(np.zeros(0, np.int64), np.zeros(0, np.float32))
    query_1d = np.ascontiguousarray(query_d[None], dtype=np.float32)
    if isinstance(index, CodedIndex):
        row_m = index.candidates(query_1d[0], n, allowed_u, EXACT_UP_TO)
        return _rank_rows(index, query_d, row_m, n)
    inner = faiss.downcast_index(index.index)
    if allowed_u is not None and not isinstance(inner, faiss.IndexFlat):
        # An approximate index walks past too many forbidden rows; the allowed ones are few.
        held_m = faiss.vector_to_array(index.id_map)
        return _rank_rows(index, query_d, held_m[allowed_u[held_m]], n)
    params = None
    if allowed_u is not None:
        bits = np.packbits(allowed_u, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(allowed_u), faiss.swig_ptr(bits))
        params = faiss.SearchParameters()
        params.sel = selector
    k = min(n_possible, n + 16)
    while True:
        score_1k, row_1k = index.search(query_1d, k, params=params)
        found_k = row_1k[0] >= 0
        is_tie_open = found_k.all() and score_1k[0, min(n, k) - 1] - score_1k[0, -1] <= 2 * TIE
        if k >= n_possible or not is_tie_open:
            return _rank_rows(index, query_d, row_1k[0][found_k], n)
        k = min(n_possible, 4 * k)


def rank_like(
    index: Any, row: int, n: int, *, allowed_u: Bool[np.ndarray, " u"] | None = None
) -> NearestRows:
    """The neurons most like the one in ``row``, itself excluded; none if it has no evidence."""
    try:
        query_d = index.reconstruct(row)
    except RuntimeError:  # a zero vector was left out of the index
        return NearestRows(np.zeros(0, np.int64), np.zeros(0, np.float32))
    found = rank(index, query_d, n + 1, allowed_u=allowed_u)
    others_m = found.row_m != row
    return NearestRows(found.row_m[others_m][:n], found.score_m[others_m][:n])


def open_index(bundle: Bundle, method: str) -> tuple[Any, pd.DataFrame]:
    """The index of a method and its table of rows (model, layer, unit).

    Where a slim copy does without the file, the index is made of the concept vectors.

    Raises:
        BundleError: if the bundle has no such index, or its file is not an index.
    """
    rows = bundle.index_rows(method)
    if not bundle.has_index_file(method):
        vectors = stored_vectors(bundle, method, rows)
        return build_index(vectors(np.arange(len(rows))), "flat").index, rows
    facts = bundle.stage(kinds.INDEX.name(method)).facts
    try:
        index = bundle.index(method)
        fault = _fault_of_index(bundle, method, index, rows)
    except (RuntimeError, MemoryError, OverflowError, AttributeError):
        fault = "is not a FAISS index"
    if fault:
        raise BundleError(
            f"Bundle {bundle.name} is damaged: index.faiss of method {method} {fault}; "
            "run 'csp build' with the same inputs to repair it."
        )
    if is_coded(bundle, method):
        index = CodedIndex(index, stored_vectors(bundle, method, rows), int(facts["n_reranked"]))
    return index, rows


def is_coded(bundle: Bundle, method: str) -> bool:
    """Whether the search index of a method finds by codes, and so not always the very nearest."""
    return bundle.stage(kinds.INDEX.name(method)).facts.get("kind") == "codes"


def stored_vectors(
    bundle: Bundle, method: str, rows: pd.DataFrame
) -> Callable[[np.ndarray], np.ndarray]:
    """Reads the concept vectors ``(m, d)`` of some rows of the index table, where they are stored.

    Raises:
        BundleError: if a row names a neuron that is not there.
    """
    unit_u = rows["unit"].to_numpy()
    place_u = np.zeros(len(rows), np.int32)
    held: list[np.ndarray] = []
    places: dict[Any, Any] = rows.groupby(["model", "layer"], sort=False).indices
    for place, ((model, layer), row_m) in enumerate(places.items()):
        held.append(bundle.score_array(model, layer, method, "vector_ud"))
        place_u[row_m] = place
        if unit_u[row_m].min() < 0 or unit_u[row_m].max() >= len(held[-1]):
            raise BundleError(
                f"Bundle {bundle.name} is damaged: rows.parquet of method {method} names neurons "
                f"that {model}/{layer} does not have; run 'csp build' with the same inputs to "
                "repair it."
            )
    width = bundle.label_vectors().shape[1]

    def read(row_m: np.ndarray) -> np.ndarray:
        vector_md = np.zeros((len(row_m), width), np.float32)
        place_m = place_u[row_m]
        for place in np.unique(place_m).tolist():
            at = np.flatnonzero(place_m == place)
            vector_md[at] = held[place][unit_u[row_m[at]]]
        return vector_md

    return read


def _fault_of_index(bundle: Bundle, method: str, index: Any, rows: pd.DataFrame) -> str:
    """Whether an index holds the concept vectors of a bundle under the right ids, by a sample."""
    id_m = faiss.vector_to_array(index.id_map)
    if index.ntotal != len(id_m) or index.ntotal != index.index.ntotal:
        return "contradicts itself"
    if is_codes(index) != is_coded(bundle, method):
        return "is of another kind than the bundle says"
    if not len(id_m):
        return ""
    if id_m.min() < 0 or id_m.max() >= len(rows) or len(np.unique(id_m)) != len(id_m):
        return "names rows that there are not"
    unit_u = rows["unit"].to_numpy()
    places: dict[Any, Any] = rows.groupby(["model", "layer"], sort=False).indices
    for model, layer in list(places)[:: -(-len(places) // COMPARED_LAYERS)]:
        vector_ud = bundle.score_array(model, layer, method, "vector_ud")
        if index.d != vector_ud.shape[1]:
            return f"holds vectors of {index.d} numbers instead of {vector_ud.shape[1]}"
        at_m = np.intersect1d(places[model, layer], id_m)
        at_m = at_m[:: max(1, -(-len(at_m) // COMPARED_ROWS))]
        off_m = off_by(index, at_m, vector_ud[unit_u[at_m]])
        if (off_m > LOSS).any():
            return f"holds another vector for {model}/{layer}/{unit_u[at_m[off_m.argmax()]]}"
    return ""


def allowed_rows(
    rows: pd.DataFrame, *, model: str | None = None, layers: Sequence[str] | None = None
) -> Bool[np.ndarray, " u"] | None:
    """A mask over the index table, or None when nothing is filtered."""
    if model is None and layers is None:
        return None
    keep_u = np.ones(len(rows), dtype=bool)
    if model is not None:
        keep_u &= rows["model"].to_numpy() == model
    if layers is not None:
        keep_u &= rows["layer"].isin(list(layers)).to_numpy()
    return keep_u


def row_of(rows: pd.DataFrame, neuron: NeuronRef) -> int:
    """The row of a neuron in the index table.

    Raises:
        InputError: if the table has no such neuron.
    """
    at_m = np.flatnonzero(rows["unit"].to_numpy() == neuron.unit)
    # Texts are compared in the rows of this unit alone: in all of them that takes 10 ms.
    same = rows.take(at_m)
    is_it_m = ((same["layer"] == neuron.layer) & (same["model"] == neuron.model)).to_numpy(bool)
    if not is_it_m.any():
        raise InputError(f"Neuron {neuron} is not in this index; 'csp info' lists what is.")
    return int(at_m[is_it_m][0])


def _coded(
    kept_md: np.ndarray,
    row_m: np.ndarray,
    vector_ud: np.ndarray,
    text_td: np.ndarray | None,
) -> BuiltIndex:
    """The shortest codes, ranked as deep as needed, that find enough; else the last tried."""
    sets = asked(kept_md, text_td)
    exact = exact_scores(kept_md, sets)
    n_asked = min(map(len, sets))
    for n_numbers in (each for each in NUMBERS if kept_md.shape[1] % each == 0):
        codes = coded(kept_md, row_m, n_numbers)
        for depth in DEPTHS:
            index = CodedIndex(codes, vector_ud.__getitem__, depth)
            built = BuiltIndex(index, "codes", *measured_recall(index, sets, exact), n_asked)
            if _finds_enough(built):
                return built
    return built


def _finds_enough(built: BuiltIndex) -> bool:
    return min(built.recall, built.recall_listed) >= ENOUGH


def _rank_rows(index: Any, query_d: np.ndarray, row_m: np.ndarray, n: int) -> NearestRows:
    """Rank rows that the index holds, exactly."""
    row_m = np.sort(row_m.astype(np.int64))
    score_m = np.empty(len(row_m), dtype=np.float32)
    for start in range(0, len(row_m), 4096):
        block = row_m[start : start + 4096]
        score_m[start : start + 4096] = (
            index.reconstruct_batch(block).astype(np.float64) * query_d.astype(np.float64)
        ).sum(axis=1)
    order = np.argsort(-score_m, kind="stable")[:n]
    return NearestRows(row_m[order], score_m[order])
