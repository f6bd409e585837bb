"""What an export for another tool is of: neurons, the rows of their labels, and their pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.exchange.label_tables import json_value, label_rows
from csp_engine.exports.html.selection import Selection
from csp_engine.types import NeuronRef
from csp_engine.views.images.pairs import Pair, pairs_of
from csp_engine.views.images.tiles import Facts

N_PAIRS = 6
"""Pairs of each neuron, unless more are asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Neurons of a bundle for another tool.

    Attributes:
        bundle: an open bundle.
        neurons: which, in the order of their layers.
        labels: their rows of ``csp_engine.exchange.label_rows``, as in the table that is exported.
        n_pairs: exemplars of each, at most, with the nearest contrast image of each.
    """

    bundle: Bundle
    neurons: tuple[NeuronRef, ...]
    labels: pd.DataFrame
    n_pairs: int

    @property
    def files(self) -> np.ndarray:
        """The file of each probe image, as the probe set lists it."""
        return self.bundle.table("probe", "probe")["file"].to_numpy(object)

    def pairs(self, neuron: NeuronRef) -> tuple[Pair, ...]:
        """The strongest exemplars of a neuron, each with its nearest contrast image."""
        return pairs_of(self.bundle, neuron, self.n_pairs, _no_facts)

    def images(self) -> list[int]:
        """The probe images that the pairs of all neurons show, each once."""
        shown = {s.image for n in self.neurons for p in self.pairs(n) for s in p.tile.images}
        return sorted(shown)

    def by_layer(self) -> Iterator[tuple[str, str, list[NeuronRef]]]:
        """Model and layer, with the chosen neurons of each."""
        for model, layer in dict.fromkeys((n.model, n.layer) for n in self.neurons):
            yield model, layer, [n for n in self.neurons if (n.model, n.layer) == (model, layer)]


def _no_facts(image: int, activation: float) -> Facts:
    return ()


def chosen_of(
    bundle: Bundle,
    selection: Selection,
    *,
    methods: Sequence[str] | None = None,
    n_labels: int = 1,
    n_pairs: int = N_PAIRS,
) -> Chosen:
    """Some neurons with the rows of their labels.

    Args:
        bundle: an open bundle.
        selection: which neurons.
        methods: label methods; all by default.
        n_labels: labels per neuron and method, best first.
        n_pairs: exemplars of each neuron, at most.

    Raises:
        InputError: if there are no labels, a method is not in the bundle, or a number is not
            positive.
    """
    if n_pairs < 1:
        raise InputError(f"Cannot export {n_pairs} pairs per neuron; ask for 1 or more.")
    neurons = tuple(n for each in selection.lists for n in each.neurons)
    models = {n.model for n in neurons}
    rows = label_rows(
        bundle,
        methods=methods,
        model=models.pop() if len(models) == 1 else None,
        layers=sorted({n.layer for n in neurons}),
        n_labels=n_labels,
    )
    rows = rows[rows["neuron"].isin([str(n) for n in neurons])].reset_index(drop=True)
    return Chosen(bundle, neurons, rows, n_pairs)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: a float32 keeps its short spelling, what is not known is null."""
    columns = [list(rows[name].to_numpy()) for name in rows.columns]
    return [
        {name: json_value(value) for name, value in zip(rows.columns, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def float32(value: float | None) -> float | None:
    """A figure that the bundle holds in single precision, in its short spelling."""
    return None if value is None else numbers.short_float(np.float32(value))
