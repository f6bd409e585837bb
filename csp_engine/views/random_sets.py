"""Random image sets, by a method and a layer: their concept vectors, and how well labels fit.

The fewer images a set has, the further from zero its scores: so a neuron with few exemplars is
compared with sets of as few, where a method keeps such (``sizes``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from csp_engine.bundle import Bundle, KeptScores
from csp_engine.methods import NullComponents, null_best
from csp_engine.search import null_vectors, remainders
from csp_engine.views.controls import controls, shared_part
from csp_engine.views.memo import Memo


def n_drawn(bundle: Bundle) -> int:
    """How many stand behind the percentiles; 0 where the bundle has none."""
    if not bundle.has("null"):
        return 0
    return int(bundle.stage("null").params.get("n_draws", 0))


FULL = 0
"""Stands for as many images as a method looks at, among the ``sizes`` of random image sets."""
_STEP = 1.25
"""Sizes that lie nearer to each other share the sets of the smaller, which allow chance more."""


def sizes(bundle: Bundle, memo: Memo, model: str, layer: str, method: str) -> np.ndarray:
    """For each neuron the size of the random image sets to compare it with, or ``FULL``."""

    def make() -> np.ndarray:
        kept = KeptScores(bundle, model, layer, method)
        size_u = np.full(bundle.n_units(model, layer), FULL)
        last = 0.0
        for size in kept.null_sizes():
            if size >= _STEP * last:
                last = size
                own_u = np.asarray(bundle.scores(model, layer, method).n_exemplar_u)
                size_u[(own_u >= size) & (own_u < int(kept.params["n_score"]))] = size
        return size_u

    return memo.once(("null sizes", bundle.digest, model, layer, method), make)


def size_counts(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str
) -> Mapping[int, int]:
    """How many neurons with evidence are compared with random image sets of each of ``sizes``."""

    def make() -> Mapping[int, int]:
        has_u = np.asarray(bundle.scores(model, layer, method).count_u) > 0
        size_m = sizes(bundle, memo, model, layer, method)[has_u]
        found, counts = np.unique(size_m, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))

    return memo.once(("null counts", bundle.digest, model, layer, method), make)


def null_of(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str, size: int = FULL
) -> np.ndarray | None:
    """Concept vectors of random image sets by a method, or None where it has none."""

    def make() -> np.ndarray | None:
        if size == FULL:
            return null_vectors(bundle, model, layer, method)
        return KeptScores(bundle, model, layer, method).null_of_size(size)

    return memo.once(("null", bundle.digest, model, layer, method, size), make)


def live_null(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str, size: int = FULL
) -> np.ndarray | None:
    """The same without sets of which nothing is left; None where none is."""
    null_rd = null_of(bundle, memo, model, layer, method, size)
    if null_rd is None or not null_rd.any():
        return None
    return null_rd[np.any(null_rd, axis=1)]


def null_components(bundle: Bundle, model: str, layer: str, method: str) -> NullComponents:
    """The stored halves of the concept vectors of random image sets, still on disk."""
    return KeptScores(bundle, model, layer, method).null_halves()


def best_of_null(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str, size: int, gamma: float
) -> np.ndarray:
    """The best scores of random image sets of a size at a gamma, which all its neurons share."""

    def make() -> np.ndarray:
        null = null_components(bundle, model, layer, method).of_size(size)
        return null_best(null, gamma, bundle.label_vectors())

    return memo.once(("null best", bundle.digest, model, layer, method, size, gamma), make)


def best_controls(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str, kind: str, size: int = FULL
) -> np.ndarray:
    """The best score that each random image set gives any control, sorted upwards.

    What all controls share is taken away.
    """

    def make() -> np.ndarray:
        null_rd = live_null(bundle, memo, model, layer, method, size)
        assert null_rd is not None
        shared_d, _ = shared_part(bundle, memo, kind)
        return np.sort((null_rd @ controls(bundle, memo, kind).T).max(axis=1) - null_rd @ shared_d)

    return memo.once(("best controls", bundle.digest, model, layer, method, kind, size), make)


def lengths(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str, size: int = FULL
) -> tuple[np.ndarray, np.ndarray]:
    """How long concept vectors were before they were made unit length: neurons, and the null.

    The null as ``live_null`` gives it.
    """

    def make() -> tuple[np.ndarray, np.ndarray]:
        length_u, length_r = remainders(bundle, model, layer, method)
        null_rd = null_of(bundle, memo, model, layer, method, size)
        kept = KeptScores(bundle, model, layer, method)
        if size != FULL and kept.has_halves:
            null = kept.null_halves().of_size(size)
            rest_rd = null.anchor_rd - np.float32(kept.params["gamma"]) * null.projection_rd
            length_r = np.linalg.norm(rest_rd, axis=1).astype(np.float32)
        elif size != FULL and null_rd is not None:
            length_r = np.ones(len(null_rd), np.float32)
        return length_u, length_r if null_rd is None else length_r[np.any(null_rd, axis=1)]

    return memo.once(("lengths", bundle.digest, model, layer, method, size), make)
