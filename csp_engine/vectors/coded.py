"""The nearest of many vectors by short codes, and then by the vectors themselves.

Comparing a query with a million vectors means reading all of them, two gigabytes at a width of 512.
Codes of four bits for one number or two are an eighth or a sixteenth of that, and FAISS compares
32 at a time (product quantisation with fast scan: André, Kermarrec, Le Scouarnec 2017). What looks
best by its codes is then ranked by its vectors, so scores are exact, and only a neuron that stands
too far down by its codes is missed. How many must be ranked again is measured when the index is
made, and how many of the true nearest are found is kept with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from jaxtyping import Bool, Float32, Int64

LISTED = 200
"""How many neurons a search by codes lists."""

NUMBERS = (2, 1)
DEPTHS = (1_000, 2_000, 4_000)
"""How many numbers share a code, and how many vectors are ranked anew: the first that do are taken.

Longer codes cost as much time as ranking a few thousand more.
"""

ENOUGH = 0.99
"""The share of the true nearest that has to be found."""

N_NEAREST = 20
N_ASKED = 100
"""Recall is of the twenty nearest, for as many texts and as many of the vectors themselves."""

LEVELS, N_LEARNED_FROM = 16, 65_536
SEED = 0
"""Draws what levels are learned from, and the queries."""

FAIR = 0.9
"""The share of the expected number of allowed rows below which a filter goes with the query."""

TIE = 1e-6
"""Two ways of summing a float32 dot product of unit vectors differ by less than this."""


@dataclass(frozen=True, slots=True, eq=False)
class CodedIndex:
    """Codes of vectors, and where the vectors are read.

    ``codes`` is a ``faiss.IndexIDMap2`` around ``faiss.IndexPQFastScan``; its ids are rows of the
    index table. ``vectors`` gives the float32 vectors ``(m, d)`` of some rows. ``depth`` is how
    many rows are ranked by them.
    """

    codes: Any
    vectors: Callable[[np.ndarray], np.ndarray]
    depth: int

    @property
    def ntotal(self) -> int:
        """How many vectors there are."""
        return self.codes.ntotal

    def reconstruct_batch(self, row_m: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m d"]:
        """The vectors of some rows."""
        return self.vectors(row_m)

    def reconstruct(self, row: int) -> Float32[np.ndarray, " d"]:
        """The vector of a row.

        Raises:
            RuntimeError: if it is the zero vector, which no index holds.
        """
        vector_d = self.vectors(np.array([row], np.int64))[0]
        if not vector_d.any():
            raise RuntimeError(f"row {row} is not in this index")
        return vector_d

    def candidates(
        self,
        query_d: Float32[np.ndarray, " d"],
        n: int,
        allowed_u: Bool[np.ndarray, " u"] | None,
        exact_up_to: int,
    ) -> Int64[np.ndarray, " m"]:
        """Rows among which the ``n`` nearest are looked for, in no order.

        All of them where few are allowed, where the allowed are not as near as others, or where
        more are wanted than codes are of use for.
        """
        held_m = faiss.vector_to_array(self.codes.id_map)
        kept_m = held_m if allowed_u is None else held_m[allowed_u[held_m]]
        if len(kept_m) <= exact_up_to:
            return kept_m
        n_listed = max(n, LISTED)
        while True:
            depth = -(-n_listed * self.depth // LISTED)
            # Rows that are not allowed fill the list too, by their share.
            wanted = -(-depth * len(held_m) // len(kept_m))
            if 4 * wanted >= len(held_m):
                return kept_m
            _, row_1k = self.codes.search(query_d[None], wanted)
            found_k = row_1k[0][row_1k[0] >= 0]
            if allowed_u is None:
                break
            found_k = found_k[allowed_u[found_k]]
            # What is near may be just what is not allowed: another network's neurons, say.
            if len(found_k) < FAIR * depth:
                return kept_m
            n_nearer = depth - len(found_k)
            if n_listed >= max(n, LISTED) + n_nearer:
                break
            # The nearest that are allowed stand below so many: as if these were listed as well.
            n_listed = max(n, LISTED) + n_nearer
        # In single precision, all but those that may be among the nearest are left out.
        score_k = self.vectors(found_k) @ query_d
        slack = 4 * TIE * max(1.0, float(np.linalg.norm(query_d)))
        last = np.partition(score_k, -n)[-n] if n < len(score_k) else -np.inf
        return found_k[score_k >= last - slack]


def coded(
    kept_md: Float32[np.ndarray, "m d"],
    row_m: Int64[np.ndarray, " m"],
    n_numbers: int,
) -> Any:
    """Codes of vectors: of each few numbers the nearest of sixteen levels, learned from a sample.

    Args:
        kept_md: the vectors.
        row_m: their ids.
        n_numbers: how many numbers share a code; ``d`` is a multiple of it.
    """
    rng = np.random.default_rng(SEED)
    width = kept_md.shape[1]
    inner = faiss.IndexPQFastScan(width, width // n_numbers, 4, faiss.METRIC_INNER_PRODUCT)
    sample = rng.choice(len(kept_md), min(N_LEARNED_FROM, len(kept_md)), replace=False)
    inner.train(kept_md[np.sort(sample)])
    index = faiss.IndexIDMap2(inner)
    index.add_with_ids(kept_md, row_m)
    return index


def exact_scores(
    kept_md: Float32[np.ndarray, "m d"], sets: Sequence[Float32[np.ndarray, "_ d"]]
) -> list[Float32[np.ndarray, "_ k"]]:
    """The scores of the true nearest of each query, as many as a search lists, best first."""
    n = min(LISTED, len(kept_md))
    found = []
    for query_qd in sets:
        best_qk = np.empty((len(query_qd), n), np.float32)
        for start in range(0, len(query_qd), 16):
            block_qm = query_qd[start : start + 16] @ kept_md.T
            best_qk[start : start + 16] = np.partition(block_qm, -n, axis=1)[:, -n:]
        found.append(np.sort(best_qk, axis=1)[:, ::-1])
    return found


def measured_recall(
    index: CodedIndex,
    sets: Sequence[Float32[np.ndarray, "_ d"]],
    exact: Sequence[Float32[np.ndarray, "_ k"]],
) -> tuple[float, float]:
    """The share of the true 20 nearest, and of as many as are listed, that codes find.

    A vector that is as near as the last of them counts too. The mean of the worst set of queries.

    Args:
        index: codes of the vectors.
        sets: queries of several kinds, from ``asked``.
        exact: their ``exact_scores``.
    """
    shares: list[tuple[list[float], list[float]]] = []
    for query_qd, best_qk in zip(sets, exact, strict=True):
        own: tuple[list[float], list[float]] = ([], [])
        for query_d, best_k in zip(query_qd, best_qk, strict=True):
            row_m = index.candidates(query_d, LISTED, None, 0)
            score_m = np.sort(index.vectors(row_m) @ query_d)[::-1]
            slack = TIE * max(1.0, float(np.linalg.norm(query_d)))
            for wanted, into in zip((N_NEAREST, LISTED), own, strict=True):
                n = min(wanted, len(best_k))
                into.append(np.count_nonzero(score_m[:n] >= best_k[n - 1] - slack) / n)
        shares.append(own)
    return (
        min(float(np.mean(near)) for near, _ in shares),
        min(float(np.mean(listed)) for _, listed in shares),
    )


def asked(
    kept_md: Float32[np.ndarray, "m d"], text_td: Float32[np.ndarray, "t d"] | None
) -> Sequence[Float32[np.ndarray, "_ d"]]:
    """The queries that recall is measured with: texts, where there are any, and vectors."""
    rng = np.random.default_rng(SEED)
    sets = [kept_md] if text_td is None else [text_td, kept_md]
    return [
        np.array(each[np.sort(rng.choice(len(each), min(N_ASKED, len(each)), replace=False))])
        for each in sets
    ]


def is_codes(index: Any) -> bool:
    """Whether a ``faiss.IndexIDMap2`` holds codes as ``coded`` makes them, instead of vectors."""
    inner = faiss.downcast_index(index.index)
    return isinstance(inner, faiss.IndexPQFastScan) and inner.pq.ksub == LEVELS


def off_by(
    index: Any, row_m: Int64[np.ndarray, " m"], vector_md: Float32[np.ndarray, "m d"]
) -> Float32[np.ndarray, " m"]:
    """How far what a ``faiss.IndexIDMap2`` holds of each row is from its vector, at most.

    Of codes, how much further than the nearest level.
    """
    if not len(row_m):
        return np.zeros(0, np.float32)
    if not is_codes(index):
        return np.abs(index.reconstruct_batch(row_m) - vector_md).max(axis=1, initial=0)
    quantiser: Any = faiss.downcast_index(index.index)
    quantiser = quantiser.pq
    shape = (quantiser.M, LEVELS, quantiser.dsub)
    level_csl = faiss.vector_to_array(quantiser.centroids).reshape(shape)
    worst = np.empty(len(row_m), np.float32)
    for start in range(0, len(row_m), 1024):
        part = slice(start, start + 1024)
        vector_mcl = np.asarray(vector_md[part]).reshape(-1, quantiser.M, quantiser.dsub)
        held_mcl = index.reconstruct_batch(row_m[part]).reshape(vector_mcl.shape)
        nearest_mc = np.full(vector_mcl.shape[:2], np.inf, np.float32)
        for level_cl in level_csl.transpose(1, 0, 2):
            off_mc = np.linalg.norm(vector_mcl - level_cl, axis=2)
            np.minimum(nearest_mc, off_mc, out=nearest_mc)
        off_mc = np.linalg.norm(vector_mcl - held_mcl, axis=2)
        worst[part] = (off_mc - nearest_mc).max(axis=1)
    return worst
