"""The tables of a static export: one row a neuron, and one row a label."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.exports.html.selection import NeuronList, Selection
from csp_engine.methods import method_title
from csp_engine.types import NeuronRef
from csp_engine.views.benchmark.faithfulness import PREDICTED, of_layer
from csp_engine.views.images.pairs import exemplar_images
from csp_engine.views.neuron.label import BestLabel, best_label, flags_of, states_of
from csp_engine.views.overview.layers import FLAGS
from csp_engine.views.table.columns import COLUMNS, UNIT_STATISTICS, NeuronColumn
from csp_engine.views.table.concept_columns import FIGURES, best_of_layer

N_STRIP = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell, and what it is sorted by; nothing to sort by goes last."""

    text: str
    key: str


@dataclass(frozen=True, slots=True)
class Row:
    """One neuron.

    ``labels`` are the best ones by every method, the first method's first; ``flags`` the words of
    ``FLAGS`` that hold of it.
    """

    neuron: NeuronRef
    images: tuple[int, ...]
    label: BestLabel
    labels: tuple[tuple[str, BestLabel], ...]
    cells: tuple[Cell, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NeuronTable:
    """One table of neurons."""

    title: str
    method: str
    columns: tuple[NeuronColumn, ...]
    rows: tuple[Row, ...]

    @property
    def has_several_layers(self) -> bool:
        """Whether a unit's number alone does not name a neuron."""
        return len({(row.neuron.model, row.neuron.layer) for row in self.rows}) > 1

    @property
    def n_reliable(self) -> int:
        """Neurons whose best label beats chance."""
        return sum(row.label.is_reliable for row in self.rows)

    def n_in_state(self, state: str) -> int:
        """Neurons of which a word of ``FLAGS`` holds, as the overview's page counts them."""
        return sum(state in row.flags for row in self.rows)


@dataclass(frozen=True, slots=True)
class Example:
    """A neuron to read the others by, and its label."""

    neuron: NeuronRef
    label: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What the overview says of a table; ``n_in_state`` counts dead, dense and constant neurons."""

    title: str
    n_neurons: int
    n_reliable: int
    n_in_state: dict[str, int]
    example: Example | None


@dataclass(frozen=True, slots=True)
class NamedLabel:
    """A text that is the best label of some neurons, and which: the reliable ones first."""

    text: str
    n_reliable: int
    neurons: tuple[NeuronRef, ...]


WRITERS = {"share": numbers.share, "figure": numbers.activation}


def table_of(bundle: Bundle, chosen: NeuronList, method: str) -> NeuronTable:
    """The rows of a list of neurons, in its order."""
    layers = list(dict.fromkeys((each.model, each.layer) for each in chosen.neurons))
    units = {place: bundle.units(*place) for place in layers}
    flags = {place: flags_of(units[place]) for place in layers}
    truths = {place: bundle.truth(*place) for place in layers}
    measured = [n for n in UNIT_STATISTICS if any(n in units[place] for place in layers)]
    has_truth = any(truth is not None for truth in truths.values())
    fits = {place: best_of_layer(bundle, *place) for place in layers}
    has_columns = any(bundle.columns(*place) is not None for place in layers)
    predicted = {place: of_layer(bundle, *place, method) for place in layers}
    is_predicted = any(not np.isnan(each[PREDICTED[0]]).all() for each in predicted.values())
    names = [
        *(["match"] if chosen.match else []),
        "score",
        "percentile",
        *(PREDICTED if is_predicted else ()),
        *measured,
        "state",
        *(["truth"] if has_truth else []),
        *(["column", *FIGURES] if has_columns else []),
    ]
    columns = tuple(COLUMNS[name] for name in names)
    rows = []
    for at, neuron in enumerate(chosen.neurons):
        place = (neuron.model, neuron.layer)
        unit = units[place].iloc[neuron.unit]
        labels = _labels(bundle, neuron, method)
        label = labels[0][1] if labels else BestLabel("", 0.0, False)
        cells = [
            *([_number(chosen.match[at], numbers.score)] if chosen.match else ()),
            _number(label.score if label.text else math.nan, numbers.score),
            _number(_percentile(bundle, neuron, method), _percent),
            *(
                _number(float(predicted[place][name][neuron.unit]), numbers.score)
                for name in (PREDICTED if is_predicted else ())
            ),
            *(
                _number(
                    float(unit.get(name, math.nan)),
                    WRITERS.get(COLUMNS[name].kind, numbers.score),
                )
                for name in measured
            ),
            _text(", ".join(state.word for state in states_of(flags[place], neuron.unit))),
        ]
        if has_truth:
            truth = truths[place]
            concept = pd.NA if truth is None else truth.units["true_concept"].iloc[neuron.unit]
            cells.append(_text("" if pd.isna(concept) else str(concept)))
        if has_columns:
            cells += _column_cells(fits[place], neuron.unit)
        rows.append(
            Row(
                neuron,
                tuple(exemplar_images(bundle, neuron)[:N_STRIP].tolist()),
                label,
                labels,
                tuple(cells),
                tuple(word for key, word in FLAGS.items() if flags[place][key][neuron.unit]),
            )
        )
    return NeuronTable(chosen.title, method_title(method), columns, tuple(rows))


def summary_of(table: NeuronTable) -> Summary:
    """What the overview says of a table."""
    shown = next((row for row in table.rows if row.label.is_reliable), None)
    return Summary(
        table.title,
        len(table.rows),
        table.n_reliable,
        {state: table.n_in_state(state) for state in FLAGS.values()},
        None if shown is None else Example(shown.neuron, shown.label.text),
    )


Carriers = dict[str, dict[NeuronRef, bool]]
"""By label: the neurons that carry it, and whether it is reliable for them."""


def carriers_in(tables: Iterable[NeuronTable]) -> Carriers:
    """Every text that is the best label of some neuron by some method, with those neurons."""
    carriers: Carriers = defaultdict(dict)
    for table in tables:
        for row in table.rows:
            for _, label in row.labels:
                if label.text:
                    held = carriers[label.text].get(row.neuron, False)
                    carriers[label.text][row.neuron] = held or label.is_reliable
    return carriers


def labels_in(tables: Iterable[NeuronTable]) -> list[NamedLabel]:
    """Every text that is a best label, by name, with the neurons that carry it."""
    return named_labels(carriers_in(tables))


def named_labels(carriers: Carriers) -> list[NamedLabel]:
    """The labels by name."""
    return [
        NamedLabel(
            text,
            sum(carriers[text].values()),
            tuple(sorted(carriers[text], key=lambda neuron: not carriers[text][neuron])),
        )
        for text in sorted(carriers, key=lambda text: (text.casefold(), text))
    ]


def first_method(bundle: Bundle, selection: Selection) -> str:
    """The method that labels these neurons first; empty where none does."""
    neurons = {(n.model, n.layer) for each in selection.lists for n in each.neurons}
    found = [m for place in sorted(neurons) for m in bundle.methods(*place)]
    order = list(bundle.manifest.recipe.get("methods", []))
    return min(found, key=lambda m: order.index(m) if m in order else len(order), default="")


def _labels(bundle: Bundle, neuron: NeuronRef, first: str) -> tuple[tuple[str, BestLabel], ...]:
    methods = bundle.methods(neuron.model, neuron.layer)
    return tuple(
        (
            method_title(method),
            best_label(bundle, neuron, method),
        )
        for method in sorted(methods, key=lambda method: method != first)
    )


def _column_cells(fit: Mapping[str, Any], unit: int) -> list[Cell]:
    """The concept column that correlates best with a unit, and its figures."""
    name = fit["column"] if fit["column"] is pd.NA else fit["column"][unit]
    figures = [_number(float(fit[each][unit]), numbers.score) for each in FIGURES]
    return [_text("" if pd.isna(name) else str(name)), *figures]


def _percentile(bundle: Bundle, neuron: NeuronRef, method: str) -> float:
    if method not in bundle.methods(neuron.model, neuron.layer) or not bundle.has("null"):
        return math.nan
    scores = bundle.scores(neuron.model, neuron.layer, method)
    has_any = bool(scores.count_u[neuron.unit])
    return float(scores.best_percentile_u[neuron.unit]) if has_any else math.nan


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _number(value: float, write: Callable[[float], str]) -> Cell:
    return Cell("–", "") if math.isnan(value) else Cell(write(value), f"{value:.9g}")


def _text(value: str) -> Cell:
    return Cell(value, value.casefold())
