"""Find neurons by text, by image, or by another neuron: inner products with concept vectors.

An index holds one vector per neuron of every layer of a method; its ids are row numbers of the
table ``(model, layer, unit)`` that the bundle stores beside it. Neurons without evidence have the
zero vector and are left out of the index, so they can never be found.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import faiss
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int64

from csp_engine.bundle import Bundle, KeptScores
from csp_engine.errors import BundleError, InputError, MissingModelError, StaleError
from csp_engine.types import Encoder, NeuronRef, TextRecipe
from csp_engine.vectors import normalise_rows
from csp_engine.words.templates import embed_labels, fill_templates
from csp_engine.words.vocabularies import clean_label

INDEX_KINDS = ("auto", "flat", "hnsw", "ivf")
EXACT_UP_TO = 1_000_000
"""Up to this many vectors ``auto`` searches exactly: 100,000 x 512 takes about ten milliseconds."""

RECALL_QUERIES = 100
TIE = 1e-6
"""Two ways of summing a float32 dot product of unit vectors differ by less than this."""


@dataclass(frozen=True, slots=True, eq=False)
class BuiltIndex:
    """A new index and how often it finds the true ten nearest: 1.0 for ``flat``, being exact."""

    index: Any
    recall_at_10: float
    kind: str

    def write(self, path: Path) -> None:
        """Store the index; ``open_index`` reads it back memory-mapped."""
        faiss.write_index(self.index, str(path))

    def facts(self) -> dict[str, Any]:
        """What a bundle should remember about it, JSON-ready."""
        return {
            "kind": self.kind,
            "n_vectors": int(self.index.ntotal),
            "recall_at_10": self.recall_at_10,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Rows of the index table, best first; equal scores go to the lower row."""

    row_m: Int64[np.ndarray, " m"]
    score_m: Float32[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.row_m)


def build_index(
    vector_ud: Float32[np.ndarray, "u d"], kind: str = "auto", *, seed: int = 0
) -> BuiltIndex:
    """Index concept vectors for inner-product search; the id of a vector is its row number.

    ``auto`` is ``flat`` (exact) up to a million vectors and ``hnsw`` above. For ``hnsw`` and
    ``ivf`` the recall of the ten nearest is measured against exact search on a sample.

    Args:
        vector_ud: unit rows, or zero rows for neurons without evidence, which are left out.
        kind: one of ``INDEX_KINDS``.
        seed: draws the sample for the recall.

    Raises:
        InputError: if ``kind`` does not exist.
    """
    if kind not in INDEX_KINDS:
        raise InputError(f"Index {kind!r} does not exist; choose one of {', '.join(INDEX_KINDS)}.")
    row_m = np.flatnonzero(np.any(vector_ud, axis=1)).astype(np.int64)
    kept_md = np.ascontiguousarray(vector_ud[row_m], dtype=np.float32)
    if kind == "auto":
        kind = "flat" if len(row_m) <= EXACT_UP_TO else "hnsw"
    if not len(row_m):
        kind = "flat"  # nothing to train the others on
    inner = _empty_index(kind, vector_ud.shape[1], len(row_m))
    if not inner.is_trained:
        inner.train(kept_md)
    index = faiss.IndexIDMap2(inner)
    index.add_with_ids(kept_md, row_m)
    if kind == "ivf":
        inner.make_direct_map()
    recall = 1.0 if kind == "flat" else _recall_at_10(index, kept_md, row_m, seed)
    return BuiltIndex(index, recall, kind)


def rank(
    index: Any,
    query_d: Float32[np.ndarray, " d"],
    n: int,
    *,
    allowed_u: Bool[np.ndarray, " u"] | None = None,
) -> Ranking:
    """The ``n`` vectors of an index with the largest inner product with a query.

    Scores are summed anew, row by row in float64, so that equal vectors get equal scores and the
    order does not depend on how the index sums. Fewer than ``n`` come back when fewer exist.

    Args:
        index: from ``build_index``.
        query_d: any length; with unit length the scores are cosines.
        n: at least 1.
        allowed_u: over all rows of the index table; rows that are False are not looked at.
    """
    n_possible = index.ntotal if allowed_u is None else min(index.ntotal, int(allowed_u.sum()))
    if not n_possible or n < 1:
        return Ranking(np.zeros(0, np.int64), np.zeros(0, np.float32))
    query_1d = np.ascontiguousarray(query_d[None], dtype=np.float32)
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


def combine(
    positive_qd: Float32[np.ndarray, "q d"], negative_rd: Float32[np.ndarray, "r d"] | None = None
) -> Float32[np.ndarray, " d"]:
    """One query from several: mean of the unit positives minus mean of the unit negatives.

    The result has unit length, except that a single positive without negatives comes back as it
    is, so that its scores equal the label scores of the bundle.

    Raises:
        InputError: if the vectors cancel out.
    """
    if len(positive_qd) == 1 and (negative_rd is None or not len(negative_rd)):
        return positive_qd[0]
    query_d = normalise_rows(positive_qd).mean(axis=0)
    if negative_rd is not None and len(negative_rd):
        query_d = query_d - normalise_rows(negative_rd).mean(axis=0)
    if np.linalg.norm(query_d) < 1e-5:
        raise InputError("These texts cancel each other out; change one of them.")
    return normalise_rows(query_d[None])[0]


@dataclass(frozen=True, slots=True, eq=False)
class NullLevel:
    """The scores that random image sets reach for one query, sorted upwards."""

    score_r: Float32[np.ndarray, " r"]

    @classmethod
    def of(
        cls, null_rd: Float32[np.ndarray, "r d"], query_d: Float32[np.ndarray, " d"]
    ) -> NullLevel:
        """The null of a query from the concept vectors of random image sets."""
        has_evidence_r = np.any(null_rd, axis=1)
        return cls(np.sort(null_rd[has_evidence_r] @ query_d))

    def percentile(self, score_m: Float32[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
        """Share of the null at or below each score, in [0, 1]; ties count half."""
        below = np.searchsorted(self.score_r, score_m, side="left")
        up_to = np.searchsorted(self.score_r, score_m, side="right")
        return ((below + up_to) / (2 * max(1, len(self.score_r)))).astype(np.float32)

    def best_of(self, n_neurons: int, level: float = 0.95) -> float:
        """The score that the best of ``n_neurons`` random image sets rarely passes.

        The null is taken as normal, because its own extremes say nothing beyond the number of
        draws: mean + sd * z, with z the ``level ** (1 / n_neurons)`` quantile of the standard
        normal, so that the best of them stays below in ``level`` of cases.
        """
        share = min(level ** (1 / max(1, n_neurons)), 1 - 1e-15)
        mean, deviation = float(self.score_r.mean()), float(self.score_r.std())
        return mean + deviation * NormalDist().inv_cdf(share)


def open_index(bundle: Bundle, method: str) -> tuple[Any, pd.DataFrame]:
    """The index of a method and its table of rows (model, layer, unit), memory-mapped.

    Raises:
        BundleError: if the bundle has no such index, or its file is not an index.
    """
    path = bundle.index_path(method)
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP), bundle.index_rows(method)
    except RuntimeError:
        raise BundleError(
            f"Bundle {bundle.name} is damaged: {path.name} of method {method} is no FAISS index; "
            "run 'csp build' with the same inputs to repair it."
        ) from None


def null_vectors(
    bundle: Bundle, model: str, layer: str, method: str
) -> Float32[np.ndarray, "r d"] | None:
    """Concept vectors that a method gives random image sets, or None where it has no such thing.

    They are the sets of full size (``n_score`` images); CLIP-Dissect has none, because its concept
    vector is a label.
    """
    return KeptScores(bundle, model, layer, method).null_vectors()


def remainders(
    bundle: Bundle, model: str, layer: str, method: str
) -> tuple[Float32[np.ndarray, " u"], Float32[np.ndarray, " r"]]:
    """How long concept vectors are before they are made unit length: of neurons, of random sets.

    What is left of the exemplars once their look-alikes are taken away; little where the exemplars
    share nothing. 1 throughout for methods that keep no halves. The random sets are those of
    ``null_vectors``, in its order.
    """
    kept = KeptScores(bundle, model, layer, method)
    if not kept.has_halves:
        null_rd = kept.null_vectors()
        n_draws = 0 if null_rd is None else len(null_rd)
        return np.ones(bundle.n_units(model, layer), np.float32), np.ones(n_draws, np.float32)
    gamma, null = np.float32(kept.params["gamma"]), kept.null_halves()
    rows = np.flatnonzero(null.size_r == int(kept.params["n_score"]))
    found = []
    for anchor_ud, projection_ud in (
        kept.halves(),
        (null.anchor_rd[rows], null.projection_rd[rows]),
    ):
        rest_ud = np.asarray(anchor_ud) - gamma * np.asarray(projection_ud)
        found.append(np.linalg.norm(rest_ud, axis=1).astype(np.float32))
    return found[0], found[1]


def text_recipe(bundle: Bundle) -> TextRecipe:
    """How this bundle turns a text into a vector."""
    stored = bundle.manifest.inputs["vocabulary"]
    return TextRecipe(
        tuple(stored["templates"]), bool(stored["renormalise"]), bool(stored["subtract_empty"])
    )


def prompts(bundle: Bundle, text: str) -> list[str]:
    """The exact texts that the encoder sees for a query."""
    return fill_templates([clean_label(text)], text_recipe(bundle).templates)


def stored_label(bundle: Bundle, text: str) -> int | None:
    """The label id of a query that is in the vocabulary, so that no encoder is needed."""
    return bundle.label_ids.get(clean_label(text))


def query_vector(
    bundle: Bundle, text: str, encoder: Encoder | None = None
) -> Float32[np.ndarray, " d"]:
    """The vector of a text, made exactly as the bundle made the vectors of its labels.

    A text that is a label of the vocabulary takes the stored vector; any other needs the encoder.

    Raises:
        InputError: if the text is empty.
        MissingModelError: if the text is not a label and no encoder is given.
        StaleError: if the encoder is not the one that made the bundle.
    """
    if not clean_label(text):
        raise InputError("The query is empty; type a word or a short description.")
    label = stored_label(bundle, text)
    if label is not None:
        return np.array(bundle.label_vectors()[label], dtype=np.float32)
    if encoder is None:
        raise MissingModelError(
            f"{clean_label(text)!r} is not in the vocabulary, so it needs the encoder "
            f"{bundle.manifest.inputs['encoder']['spec']}; load it, or search for a label."
        )
    require_same_encoder(bundle, encoder)
    return embed_labels(encoder.embed_texts, [clean_label(text)], text_recipe(bundle))[0]


def image_query_vector(bundle: Bundle, image: Any, encoder: Encoder) -> Float32[np.ndarray, " d"]:
    """The unit vector of one RGB Pillow image.

    Raises:
        StaleError: if the encoder is not the one that made the bundle.
    """
    require_same_encoder(bundle, encoder)
    return encoder.embed_images(np.asarray(encoder.preprocess(image), dtype=np.float32)[None])[0]


def bundle_encoder(bundle: Bundle, spec: str | None = None) -> Encoder:
    """Load the encoder that made a bundle.

    An encoder that is Python code runs only if the user names it, or trusts all bundles on this
    machine by ``CSP_TRUST_PYTHON=1``: a bundle from elsewhere must not decide what code runs.

    Args:
        bundle: whose encoder is wanted.
        spec: where it is now; by default where the bundle says it was, ``./`` being beside it.

    Raises:
        MissingModelError: if it is Python code nobody named, or is not on this machine.
        StaleError: if it is not the one that made the bundle.
    """
    from csp_engine.encoders import load_encoder

    held = bundle.manifest.inputs["encoder"]["spec"]
    if spec is None and held.startswith("python:") and os.environ.get("CSP_TRUST_PYTHON") != "1":
        raise MissingModelError(
            f"The encoder of {bundle.name} is Python code ({held}), which runs only if you say so: "
            f"name it with --encoder {held}, or set CSP_TRUST_PYTHON=1."
        )
    encoder = load_encoder(
        spec or bundle.beside(held),
        expected=_wanted(bundle),
        files=bundle.manifest.inputs["encoder"].get("files"),
    )
    require_same_encoder(bundle, encoder)
    return encoder


def _wanted(bundle: Bundle) -> dict[str, Any] | None:
    """The description behind the fingerprint of a bundle's encoder, or None where it has none.

    Encoders of Python code and of other tools are described in ways of their own.
    """
    from csp_engine.encoders.base import fingerprint

    stored = bundle.manifest.inputs["encoder"]
    described = stored.get("description")
    if not isinstance(described, dict) or fingerprint(described) != stored["fingerprint"]:
        return None
    return described


def require_same_encoder(bundle: Bundle, encoder: Encoder) -> None:
    """Refuse to compare vectors of two encoders.

    Raises:
        StaleError: if the fingerprints differ.
    """
    stored = bundle.manifest.inputs["encoder"]
    if encoder.fingerprint != stored["fingerprint"]:
        raise StaleError(
            f"Encoder {encoder.spec} (fingerprint {encoder.fingerprint[:12]}) did not make "
            f"{bundle.name}; {stored['spec']} ({stored['fingerprint'][:12]}) did: "
            "load that one, or build the bundle again."
        )


def require_same_space(a: Bundle, b: Bundle) -> None:
    """Refuse to compare concept vectors that two encoders made.

    Raises:
        StaleError: if the fingerprints of the bundles' encoders differ.
    """
    one, other = a.manifest.inputs["encoder"], b.manifest.inputs["encoder"]
    if one["fingerprint"] != other["fingerprint"]:
        raise StaleError(
            f"{a.name} was made with the encoder {one['spec']} ({one['fingerprint'][:12]}) and "
            f"{b.name} with {other['spec']} ({other['fingerprint'][:12]}): their concept vectors "
            "lie in different spaces and cannot be compared; build both with one encoder."
        )


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


def rank_like(
    index: Any, row: int, n: int, *, allowed_u: Bool[np.ndarray, " u"] | None = None
) -> Ranking:
    """The neurons most like the one in ``row``, itself excluded; none if it has no evidence."""
    try:
        query_d = index.reconstruct(row)
    except RuntimeError:  # a zero vector was left out of the index
        return Ranking(np.zeros(0, np.int64), np.zeros(0, np.float32))
    found = rank(index, query_d, n + 1, allowed_u=allowed_u)
    others_m = found.row_m != row
    return Ranking(found.row_m[others_m][:n], found.score_m[others_m][:n])


def _empty_index(kind: str, width: int, n_vectors: int) -> Any:
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(width, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 80, 128
        return index
    if kind == "ivf":
        n_lists = max(1, min(round(4 * n_vectors**0.5), n_vectors // 39))
        index: Any = faiss.index_factory(width, f"IVF{n_lists},Flat", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(1, n_lists // 8)
        return index
    return faiss.IndexFlatIP(width)


def _rank_rows(index: Any, query_d: np.ndarray, row_m: np.ndarray, n: int) -> Ranking:
    """Rank rows that the index holds, exactly."""
    row_m = np.sort(row_m.astype(np.int64))
    score_m = np.empty(len(row_m), dtype=np.float32)
    for start in range(0, len(row_m), 4096):
        block = row_m[start : start + 4096]
        score_m[start : start + 4096] = (
            index.reconstruct_batch(block).astype(np.float64) * query_d.astype(np.float64)
        ).sum(axis=1)
    order = np.argsort(-score_m, kind="stable")[:n]
    return Ranking(row_m[order], score_m[order])


def _recall_at_10(index: Any, kept_md: np.ndarray, row_m: np.ndarray, seed: int) -> float:
    """Share of the true ten nearest that the index finds; an equally near vector counts too."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(len(kept_md), min(RECALL_QUERIES, len(kept_md)), replace=False))
    n_near = min(10, len(kept_md))
    exact = faiss.IndexFlatIP(kept_md.shape[1])
    exact.add(kept_md)
    near_qk, _ = exact.search(kept_md[sample], n_near)
    found_qk, _ = index.search(kept_md[sample], n_near)
    return float(np.mean(found_qk >= near_qk[:, -1:] - TIE))
