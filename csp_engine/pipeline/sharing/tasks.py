"""What the pieces of a merge's orders are, made from the stages that the bundle holds so far.

Nobody here needs images, networks or an encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.bundle.passing.pieces import kept_arrays
from csp_engine.evidence.contrast import (
    ContrastRule,
    contrast_space,
    mine_contrast,
    queries_of,
)
from csp_engine.evidence.nearest import nearest_images
from csp_engine.evidence.neighbours import ImageSpace, NeighbourLists
from csp_engine.hashing import canonical_json
from csp_engine.methods import find_method
from csp_engine.methods.method import NEIGHBOURS, Scored
from csp_engine.methods.scoring.asking import Scoring
from csp_engine.methods.scoring.random_sets import evidence_of_size
from csp_engine.pipeline.sharing.alike import on_threads
from csp_engine.pipeline.sharing.held import held_evidence, held_null
from csp_engine.pipeline.sharing.mining import contrast_arrays, mining_among
from csp_engine.pipeline.sharing.orders import Arrays, Make, Order
from csp_engine.types import silent
from csp_engine.vectors import directions


@dataclass
class Bench:
    """Where pieces are made: the folder of the parts, the bundle as it is, and what is kept."""

    folder: Path
    bundle: Bundle | None = None
    kept: dict[str, dict[Any, Any]] = field(default_factory=dict)

    @property
    def held(self) -> Bundle:
        """The bundle."""
        assert self.bundle is not None
        return self.bundle


def maker(bench: Bench, order: Order) -> Make:
    """What makes the pieces of an order; nothing is loaded before the first is asked for."""
    ready: list[Make] = []

    def make(number: int) -> Arrays:
        if not ready:
            ready.append(TASKS[order.task](bench, order))
        return ready[0](number)

    return make


def neighbours(bench: Bench, order: Order) -> Make:
    """The nearest images of the exemplars of a layer, or of all images; see ``nearest_images``."""
    image_nd, query_e = _compared(bench.held, order)
    length = min(int(order.about["length"]), len(image_nd))

    def make(number: int) -> Arrays:
        query_p = query_e[order.bounds(number, len(query_e))]
        image_el, product_el = nearest_images(image_nd, query_p, length, silent)
        return {"image": image_el, "product": product_el}

    return make


def contrast(bench: Bench, order: Order) -> Make:
    """The contrast images of some units of a layer; the lists are an order of ``neighbours``."""
    bundle, (model, layer) = bench.held, order.about["of"]
    among = mining_among(bundle, ContrastRule(**order.about["rule"]))
    copy_of_n = bundle.first_copies() if order.about["has_copies"] else None
    exemplars = bundle.exemplars(model, layer)
    activation_un = bundle.activations(model, layer)
    image_nd = bundle.image_vectors()
    lists = lists_of(bench, order_of(order.about["lists"]), contrast_space(image_nd, **among))

    def make(number: int) -> Arrays:
        units = order.bounds(number, len(activation_un))
        return contrast_arrays(
            mine_contrast(
                _SomeUnits(activation_un, units),
                exemplars.block(units),
                image_nd,
                **among,
                copy_of_n=copy_of_n,
                lists=lists,
            )
        )

    return make


def scores(bench: Bench, order: Order) -> Make:
    """What a label method says of blocks of the units of a layer, or of random image sets.

    Its last digits are those of the process that merges: products are as large, and on as many
    threads.
    """
    bundle, about = bench.held, order.about
    (model, layer), method = about["of"], find_method(about["method"])
    lists, first, step = order_of(about["lists"]), about["first"], about["step"]
    asker, needs = f"Method {method.name!r}", method.needs_here(about["uses"])
    same = {name: about[name] for name in ("method", "params", "uses", "lists", "threads")}
    stages = {name: about["needs"][name] for name in about["same"]}
    key = canonical_json({**same, "needs": stages})
    if key not in bench.kept:
        bench.kept.clear()
        bench.kept[key] = {NEIGHBOURS: lists_of(bench, lists)}
    scoring = Scoring.of(
        method,
        held_evidence(bundle, model, layer, asker, needs, {}),
        held_null(bundle, asker, needs, {}),
        np.asarray(bundle.label_vectors()),
        about["params"],
        bench.kept[key],
    )
    evidence = scoring.evidence.block(scoring.rows_of(scoring.depth))
    if about["is_null"]:
        evidence = evidence_of_size(scoring.null_evidence, scoring.depth)

    def make(number: int) -> Arrays:
        start = (first + number) * step
        with on_threads(about["threads"]):
            return arrays_of(scoring.said(evidence.block(slice(start, start + step))))

    return make


TASKS: Mapping[str, Callable[[Bench, Order], Make]] = {
    each.__name__: each for each in (neighbours, contrast, scores)
}
"""By the name that orders call them."""

_FIELDS = [each.name for each in fields(Scored) if each.name != "extra"]
_EXTRA = "extra."


def arrays_of(scored: Scored) -> Arrays:
    """Scores as a piece holds them."""
    held = {name: getattr(scored, name) for name in _FIELDS}
    own = {f"{_EXTRA}{name}": array for name, array in scored.extra.items()}
    return {name: array for name, array in held.items() if array is not None} | own


def scored_of(arrays: Arrays) -> Scored:
    """Scores that a piece holds."""
    held: dict[str, Any] = {name: arrays.get(name) for name in _FIELDS}
    own = {n.removeprefix(_EXTRA): each for n, each in arrays.items() if n.startswith(_EXTRA)}
    return Scored(**held, extra=own)


def _compared(bundle: Bundle, order: Order) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of all images, and which of these an order of ``neighbours`` asks about.

    The distinct exemplars of a layer; or all images, whose directions are compared.
    """
    if order.about["of"] is None:
        image_nd = directions(np.asarray(bundle.image_vectors()))
        return np.ascontiguousarray(image_nd), np.arange(len(image_nd), dtype=np.int64)
    model, layer = order.about["of"]
    image_nd = np.ascontiguousarray(bundle.image_vectors())
    return image_nd, queries_of(bundle.exemplars(model, layer))


def order_of(said: Mapping[str, Any]) -> Order:
    """An order as ``Order.said`` says it."""
    return Order(said["task"], said["about"], said["pieces"])


def lists_of(bench: Bench, order: Order, space: ImageSpace | None = None) -> NeighbourLists:
    """What an order of ``neighbours`` gave; what is missing of it or damaged is made here.

    Args:
        bench: where it was made.
        order: for the lists.
        space: which images are barred from which; without it each from itself alone.
    """
    make, parts = maker(bench, order), list[Arrays]()
    for number in range(order.n_pieces):
        held = kept_arrays(order.piece(bench.folder, number))
        parts.append(make(number) if held is None else held[0])
    found = [np.concatenate([part[name] for part in parts]) for name in ("image", "product")]
    image_nd, query_e = _compared(bench.held, order)
    return NeighbourLists.of(ImageSpace(image_nd) if space is None else space, query_e, *found)


class _SomeUnits:
    """Activations of some units of a layer, read one unit at a time."""

    def __init__(self, activation_un: Any, units: slice) -> None:
        self._activation_un, self._first = activation_un, units.start
        self.shape = (units.stop - units.start, activation_un.shape[1])
        self.dtype = activation_un.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, unit: int) -> np.ndarray:
        return self._activation_un[self._first + unit]
