"""Ablation curves of a layer in words, and as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredCurves, kinds
from csp_engine.bundle.checks.held import RANDOM
from csp_engine.stats.intervals import Share
from csp_engine.views.audit.fixes import HELD_AT
from csp_engine.views.curves.steps import Step, before, steps
from csp_engine.views.memo import Memo
from csp_engine.views.sentence import listed

NAMES = {
    RANDOM: "random neurons",
    "influence": "the most influential first",
    "category": "labels that name a category",
    "attribute": "labels that name an attribute",
    "relation": "labels that name a relation",
    "words": "labels with one of the words",
}
"""Orders, as a figure names them."""


@dataclass(frozen=True, slots=True)
class Curved:
    """The curves of one layer.

    ``before`` are decisions of the network as it is, by slice; ``units`` are the first order of
    each name, ``n_repeats`` how many orders that name has.
    """

    model: str
    layer: str
    n_units: int
    output: str
    images: str
    mode: str
    method: str
    words: tuple[str, ...]
    before: dict[str, Share]
    units: dict[str, tuple[int, ...]]
    n_repeats: dict[str, int]
    steps: tuple[Step, ...]

    @property
    def slices(self) -> tuple[str, ...]:
        """The slice that is decided rightly least often first."""
        return tuple(sorted(self.before, key=lambda name: self.before[name].share))

    @property
    def orders(self) -> tuple[str, ...]:
        """Orders that were tried, random ones last."""
        tried = list(dict.fromkeys(each.order for each in self.steps))
        return tuple(sorted(tried, key=lambda name: name == RANDOM))

    def curve(self, slice_: str, order: str) -> tuple[Step, ...]:
        """One curve, fewest neurons first."""
        own = [each for each in self.steps if (each.slice, each.order) == (slice_, order)]
        return tuple(sorted(own, key=lambda each: each.n_units))

    def last(self, slice_: str) -> tuple[Step, ...]:
        """Of every order, the most neurons that were held."""
        return tuple(self.curve(slice_, order)[-1] for order in self.orders)

    def name(self, order: str) -> str:
        """An order, as a figure names it."""
        if order != "words":
            return NAMES[order]
        return f"labels with {listed(list(self.words), 'or')}"

    @property
    def sentence(self) -> str:
        """What holding the most influential does, beside as many random neurons, on each slice."""
        worst = self.slices[0]
        order = "words" if "words" in self.orders else "influence"
        own = self.curve(worst, order)
        if not own:
            return f"No neurons of {self.layer} were held but random ones."
        step = own[-1]
        random = next(s for s in self.curve(worst, RANDOM) if s.n_units == step.n_units)
        n = numbers.count(step.n_units)
        which = (
            f"whose label has {listed(list(self.words), 'or')}"
            if order == "words"
            else "that matter most to the output"
        )
        where = f" in {worst}" if len(self.before) > 1 else ""
        return (
            f"With {n if order == 'words' else f'the {n}'} of {numbers.count(self.n_units)} "
            f"neurons of {self.layer} {which} held {HELD_AT[self.mode]}, {self.model} decides "
            f"rightly for {percent(step.right)} of the photographs{where} instead of "
            f"{percent(self.before[worst].share)}; with as many random ones for "
            f"{percent(random.right)}."
        )

    @property
    def details(self) -> str:
        """Which orders were told from random ones there, and which were not."""
        worst = self.slices[0]
        told, same, few = [], [], False
        for step in self.last(worst):
            if step.order == RANDOM:
                continue
            few |= not step.against.has_interval
            (told if step.against.is_away_from_zero else same).append(self.name(step.order))
        if few:
            return f"Photographs of {worst} are of too few groups to tell orders from random ones."
        said = []
        if told:
            said.append(f"Other than random on {worst}: {listed(told)}.")
        if same:
            said.append(f"Not told from random: {listed(same)}.")
        return " ".join(said)


def figures(model: str, layer: str, stored: StoredCurves) -> Curved:
    """The figures of curves, from their decisions."""
    first = stored.orders[stored.orders["repeat"] == 0]
    units = {
        str(name): tuple(int(unit) for unit in own["unit"])
        for name, own in first.groupby("order", sort=False)
    }
    repeats = stored.orders.drop_duplicates(["order", "repeat"])["order"].value_counts()
    return Curved(
        model,
        layer,
        len(units[RANDOM]),
        stored.output,
        stored.images,
        stored.mode,
        stored.method,
        stored.words,
        before(stored),
        units,
        dict(zip(map(str, repeats.index), repeats.tolist(), strict=True)),
        steps(stored),
    )


def kept(bundle: Bundle, memo: Memo, model: str, layer: str) -> Curved:
    """The curves that a bundle holds of a layer, worked out once.

    Raises:
        KeyError: if it holds none.
    """

    def make() -> Curved:
        stored = bundle.curves(model, layer)
        if stored is None:
            raise KeyError(layer)
        return figures(model, layer, stored)

    return memo.once(("curves", bundle.digest, model, layer), make)


def layers_curved(bundle: Bundle, model: str) -> tuple[str, ...]:
    """Layers of a model of which a bundle holds curves."""
    return tuple(
        layer for layer in bundle.layers(model) if bundle.has(kinds.CURVES.name(model, layer))
    )


def percent(share: float) -> str:
    """As ``84.5 %``."""
    return f"{100 * share:.1f} %"


def as_json(found: Curved) -> dict[str, Any]:
    """All of it, as plain data; shares and differences of shares from 0 to 1."""
    return {
        "model": found.model,
        "layer": found.layer,
        "n_units": found.n_units,
        "output": found.output,
        "images": found.images,
        "mode": found.mode,
        "method": found.method or None,
        "words": list(found.words),
        "sentence": found.sentence,
        "details": found.details,
        "before": {
            name: {"n": each.n, "n_hits": each.n_hits} for name, each in found.before.items()
        },
        "orders": {
            name: {
                "n_units": len(units),
                "n_repeats": found.n_repeats[name],
                "units": list(units) if name in ("influence", "words") else sorted(units),
            }
            for name, units in found.units.items()
        },
        "steps": [
            {
                **asdict(each),
                "change": each.change.as_json(),
                "against": each.against.as_json(),
            }
            for each in found.steps
        ],
    }
