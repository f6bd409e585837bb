"""A flat map of concept vectors: near on the map should mean near in the encoder's space.

The map is made by UMAP (McInnes, Healy & Melville 2018) on exact neighbours by cosine, started from
the first two principal components, seeded and in one thread, so that the same vectors give the same
map. A map of few vectors is their principal components alone: UMAP has no neighbourhoods to keep
there. Every map distorts, so the layout comes with a measure of how much.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32, Int32
from threadpoolctl import threadpool_limits

from csp_engine.stats.planes import neighbour_recall, principal_components

FEWEST_FOR_UMAP = 50
"""Below this many distinct vectors, neighbourhoods of fifteen are most of the map."""

EXACT_UP_TO = 100_000
"""Up to this many distinct vectors neighbours are exact; above, UMAP searches them roughly."""


@dataclass(frozen=True, slots=True, eq=False)
class MapLayout:
    """Where each neuron lies on the map, and how far to trust it.

    ``xy_u2`` is NaN for neurons without evidence (zero vectors); neurons with the same vector lie
    on the same point. ``neighbour_recall`` is the share of the ten nearest distinct vectors by
    cosine that are also among the ten nearest on the map, averaged over vectors (a sample of them
    on large maps); NaN where there are fewer than two.
    """

    xy_u2: Float32[np.ndarray, "u 2"]
    kind: str
    n_distinct: int
    neighbour_recall: float


def lay_out(
    vector_ud: Float32[np.ndarray, "u d"],
    *,
    n_neighbors: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
) -> MapLayout:
    """Place concept vectors on a plane.

    Args:
        vector_ud: unit rows, or zero rows for neurons without evidence.
        n_neighbors: of UMAP: how many neighbours shape a point's surroundings.
        min_dist: of UMAP: how close points may lie, against the spread of 1.
        seed: of UMAP's sampling.
    """
    xy_u2 = np.full((len(vector_ud), 2), np.nan, np.float32)
    row_m = np.flatnonzero(np.any(vector_ud, axis=1))
    if not len(row_m):
        return MapLayout(xy_u2, "pca", 0, float("nan"))
    distinct_md, place_m = np.unique(vector_ud[row_m], axis=0, return_inverse=True)
    distinct_md = np.ascontiguousarray(distinct_md, np.float32)
    kind = "umap" if len(distinct_md) >= FEWEST_FOR_UMAP else "pca"
    if kind == "umap":
        xy_m2 = _umap(distinct_md, n_neighbors, min_dist, seed)
    else:
        xy_m2 = principal_components(distinct_md)
    xy_u2[row_m] = xy_m2[place_m.ravel()]
    return MapLayout(xy_u2, kind, len(distinct_md), neighbour_recall(distinct_md, xy_m2))


LayingOut = Callable[..., Callable[[], MapLayout]]
"""What begins a map, given what ``lay_out`` takes, and gives what waits for it."""


def laid_out_later(
    vector_ud: Float32[np.ndarray, "u d"], **settings: Any
) -> Callable[[], MapLayout]:
    """A map that is laid out in this process once it is asked for."""
    return lambda: lay_out(vector_ud, **settings)


def nearest(
    vector_md: Float32[np.ndarray, "m d"], k: int
) -> tuple[Int32[np.ndarray, "m k"], Float32[np.ndarray, "m k"]]:
    """The ``k`` nearest of distinct unit vectors by cosine, each itself first, and 1 - cosine."""
    index = faiss.IndexFlatIP(vector_md.shape[1])
    index.add(vector_md)
    similarity_mk, row_mk = index.search(vector_md, k)
    distance_mk = np.maximum(0.0, 1.0 - similarity_mk)
    # Rounding may put a near copy before the vector itself, or push it out.
    own_m1 = np.arange(len(vector_md))[:, None]
    is_own_mk = row_mk == own_m1
    is_own_mk[~is_own_mk.any(axis=1), -1] = True
    distance_mk = np.where(is_own_mk, -1.0, np.round(distance_mk, 6))
    row_mk = np.where(is_own_mk, own_m1, row_mk)
    order_mk = np.lexsort((row_mk, distance_mk), axis=1)
    row_mk = np.take_along_axis(row_mk, order_mk, axis=1).astype(np.int32)
    distance_mk = np.take_along_axis(distance_mk, order_mk, axis=1)
    return row_mk, np.maximum(distance_mk, 0).astype(np.float32)


def _umap(
    vector_md: Float32[np.ndarray, "m d"], n_neighbors: int, min_dist: float, seed: int
) -> Float32[np.ndarray, "m 2"]:
    umap_class = load_umap()
    start_m2 = principal_components(vector_md)
    knn = (None, None, None)
    if len(vector_md) <= EXACT_UP_TO:
        knn = nearest(vector_md, min(n_neighbors, len(vector_md)))
    # Numba sets how many threads OpenMP has and leaves it so; torch, which shares it, would compute
    # on more than its caller asked for.
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        warnings.simplefilter("ignore")  # one thread because of the seed
        return umap_class(
            n_neighbors=n_neighbors,
            min_dist=min_dist,
            metric="cosine",
            init=10 * start_m2 / max(1e-9, float(np.abs(start_m2).max())),
            random_state=seed,
            n_jobs=1,
            precomputed_knn=knn,
            force_approximation_algorithm=True,
        ).fit_transform(vector_md)


def load_umap() -> Any:
    """The class ``UMAP``; the first time takes a second or two."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an absent TensorFlow
        from umap import UMAP

        _keep_compiled()
    return UMAP


def _keep_compiled() -> None:
    """Let numba keep what it compiles for the map, as it does for much of UMAP already.

    Compiling takes as long as the map of some ten thousand neurons, and would be done again in
    every process.
    """
    from umap import layouts, umap_

    compiled = (
        umap_.smooth_knn_dist,
        umap_.compute_membership_strengths,
        getattr(layouts, "_nb_optimize_layout_euclidean_single_epoch", None),
    )
    for function in compiled:
        if hasattr(function, "enable_caching") and not function.stats.cache_path:
            function.enable_caching()
