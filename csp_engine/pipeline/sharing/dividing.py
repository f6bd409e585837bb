"""What a merge has others compute, in pieces that are joined in their order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from csp_engine.bundle import Bundle, kinds, parts_folder
from csp_engine.evidence.contrast import ContrastRule, best_list_length, contrast_space, queries_of
from csp_engine.evidence.neighbours import NeighbourLists
from csp_engine.networks.conditions import code_conditions
from csp_engine.pipeline.sharing.mining import mining_among
from csp_engine.pipeline.sharing.orders import Order, Shared, dismissing
from csp_engine.pipeline.sharing.tasks import Bench, lists_of, maker
from csp_engine.types import Progress

LEAST_PRODUCTS = 500_000_000
"""Comparisons of two images from which on it pays to call others: about three seconds."""
PIECES_EACH = 4
"""Runs of units for each process, so that nobody waits long for the slowest."""
UNIT_VALUES = 200_000_000
"""Activations of a run of units at most."""


class Sharing:
    """Shares work out among several processes, of which this is one.

    Args:
        bundle: the folder of the bundle.
        n_processes: how many there are.
        call: has the others come, until its block ends; they may also be there by themselves.
        progress: called with stage, done and total.
    """

    def __init__(
        self,
        bundle: Path,
        n_processes: int,
        call: Callable[[], AbstractContextManager[object]],
        progress: Progress,
    ) -> None:
        self._folder = parts_folder(bundle)
        self._n_processes, self._call, self._progress = n_processes, call, progress
        self._called = ExitStack()
        self._is_called = False
        self._bench = Bench(self._folder)

    def __enter__(self) -> Sharing:
        return self

    def __exit__(self, *_: object) -> None:
        self._called.close()

    def pays(self, n_products: int) -> bool:
        """Whether it pays to share out what takes so many products of two vectors."""
        return self._n_processes > 1 and n_products >= LEAST_PRODUCTS

    def contrast(
        self, bundle: Bundle, model: str, layer: str, rule: ContrastRule, has_copies: bool
    ) -> dict[str, np.ndarray]:
        """The contrast images of a layer, as its stage stores them.

        Each process compares its share of the exemplars with all images, then each finds the
        contrast images of its share of the units.
        """
        exemplars = bundle.exemplars(model, layer)
        activation_un = bundle.activations(model, layer)
        space = contrast_space(bundle.image_vectors(), **mining_among(bundle, rule))
        length = best_list_length(space, activation_un, exemplars, rule)
        about = {"of": [model, layer], "needs": _keys(bundle, model, layer)}
        n_queries = len(queries_of(exemplars))
        lists = self._order("neighbours", {**about, "length": length}, self._n_processes, n_queries)
        n_units, n_images = activation_un.shape
        n_runs = max(self._n_processes * PIECES_EACH, n_units * n_images // UNIT_VALUES)
        more = {"rule": asdict(rule), "has_copies": has_copies, "lists": lists.said()}
        units = self._order("contrast", {**about, **more}, n_runs, n_units)
        self._bench.bundle = bundle
        with dismissing(self._shared(lists, f"neighbours of {layer}")) as listed:
            listed.have_made()
            with dismissing(self._shared(units, f"contrast images of {layer}")) as mined:
                blocks = list(mined.pieces())
        return {name: np.concatenate([each[name] for each in blocks]) for name in blocks[0]}

    def lists(self, bundle: Bundle, length: int) -> NeighbourLists:
        """The nearest images of every image, as directions compare.

        They stay among the parts until the bundle is whole.
        """
        name = kinds.EMBEDDINGS.name()
        about = {"of": None, "length": length, "needs": {name: bundle.stage(name).key}}
        order = self._order("neighbours", about, self._n_processes, bundle.n_images)
        self._bench.bundle = bundle
        self._shared(order, "neighbours of all images").have_made()
        return lists_of(self._bench, order)

    def _order(self, task: str, about: dict[str, Any], n_pieces: int, of: int) -> Order:
        about = {**about, "code": code_conditions()}
        return Order(task, about, max(1, min(n_pieces, of)))

    def _shared(self, order: Order, what: str) -> Shared:
        if not self._is_called:
            self._called.enter_context(self._call())
            self._is_called = True
        return Shared(order, self._folder, maker(self._bench, order), self._progress, what)


def _keys(bundle: Bundle, model: str, layer: str) -> dict[str, str]:
    """The stages that contrast images come from, as they are now."""
    names = [kinds.NEURONS.name(model, layer), kinds.ACTIVATIONS.name(model, layer)]
    names += [kind.name() for kind in (kinds.EMBEDDINGS, kinds.IMAGES, kinds.PROBE)]
    stages = bundle.manifest.stages
    return {name: stages[name].key for name in names}
