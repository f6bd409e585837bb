"""What a merge has others compute, in pieces that are joined in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from csp_engine.bundle import Bundle, kinds, parts_folder
from csp_engine.evidence.contrast import ContrastRule, best_list_length, contrast_space, queries_of
from csp_engine.methods.method import Method, Params, Scored
from csp_engine.methods.scoring.asking import Elsewhere
from csp_engine.networks.conditions import code_conditions
from csp_engine.pipeline.sharing.alike import instructions, n_threads
from csp_engine.pipeline.sharing.mining import mining_among
from csp_engine.pipeline.sharing.orders import Order, Shared, dismissing
from csp_engine.pipeline.sharing.tasks import Bench, maker, scored_of
from csp_engine.types import Progress

LEAST_PRODUCTS = 500_000_000
"""Comparisons of two images from which on it pays to call others: about three seconds."""
PIECES_EACH = 4
"""Runs of units for each process, so that nobody waits long for the slowest."""
UNIT_VALUES = 200_000_000
"""Activations of a run of units at most."""
SCORE_VALUES = 100_000_000
"""Scores that lie among the parts at most, of four bytes each."""


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

    def scores(
        self,
        bundle: Bundle,
        model: str,
        layer: str,
        method: Method,
        params: Params,
        uses: Sequence[str],
    ) -> Elsewhere:
        """What ``label_layer`` takes for a method that has ``lists``.

        The lists of all images are found once, and stay among the parts until the bundle is whole.
        """
        self._bench.bundle = bundle
        of_all = (kinds.EMBEDDINGS, kinds.VOCABULARY, kinds.NULL)
        same = {kind.name(): bundle.stage(kind.name()).key for kind in of_all}
        embedded = kinds.EMBEDDINGS.name()
        listed = {"of": None, "length": method.lists, "needs": {embedded: same[embedded]}}
        lists = self._order("neighbours", listed, self._n_processes, bundle.n_images)
        contrast = kinds.CONTRAST.name(model, layer)
        about = {
            "of": [model, layer],
            "needs": _keys(bundle, model, layer) | {contrast: bundle.stage(contrast).key} | same,
            "same": sorted(same),
            "method": method.name,
            "params": dict(params),
            "uses": sorted(uses),
            "lists": lists.said(),
            "instructions": instructions(),
            "threads": n_threads(),
        }
        n_of = {
            True: len(bundle.random_sets().count_u),
            False: int(np.count_nonzero(bundle.exemplars(model, layer).count_u)),
        }
        n_labels = len(bundle.label_vectors())

        def elsewhere(is_null: bool, step: int) -> Iterator[Scored]:
            self._shared(lists, "neighbours of all images").have_made()
            what = f"{method.name} of {'random image sets' if is_null else layer}, in blocks"
            n_blocks = -(-n_of[is_null] // step)
            most = max(self._n_processes, SCORE_VALUES // (step * n_labels))
            for first in range(0, n_blocks, most):
                some = {**about, "is_null": is_null, "step": step, "first": first}
                order = self._order("scores", some, most, n_blocks - first)
                with dismissing(self._shared(order, what)) as said:
                    yield from map(scored_of, said.pieces())

        return elsewhere

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
