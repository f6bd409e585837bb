"""How well maps of where neurons look point at things whose place is known."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.evaluation.paired_effects import Bounded
from csp_engine.exports.report.asked import Asked, Chapter, words
from csp_engine.exports.report.document import Block, Cell, Table, Text
from csp_engine.views.neuron.looking import CONTROLS, CheckedMap, bounds, checks_of, rate

NOTE = (
    "A map points at a thing where the centre of its largest cell lies on it or close by. It is "
    "marked as proving nothing where the interval of the difference to any control holds 0: a "
    "random map, the map of another neuron, the same network with random weights. A map is a "
    "hypothesis about where a neuron looks, and no proof that the output rests on it."
)


def checked_layers(asked: Asked) -> tuple[str, ...]:
    """Layers of the network on which maps were checked."""
    layers = asked.bundle.layers(asked.model)
    return tuple(x for x in layers if asked.bundle.has(kinds.MAPS.name(asked.model, x)))


def make(asked: Asked) -> tuple[Block, ...]:
    """For every layer: a sentence for each map, and its figures beside those of its controls."""
    blocks: list[Block] = []
    for layer in checked_layers(asked):
        found = checks_of(asked.bundle, asked.model, layer)
        sources = asked.source(kinds.MAPS.name(asked.model, layer))
        blocks += [
            Text(f"{layer}, {each.name}: {each.figures} {each.verdict}", sources)
            for each in found
            if not each.artefact
        ]
        blocks.append(
            Table(
                f"{layer}: where maps point",
                ("map and thing", "points at it (95 % interval)", "random place",
                 *CONTROLS.values(), "overlap with the mask", "beats its controls"),
                tuple(map(_row, found)),
                sources,
                NOTE,
            )
        )  # fmt: skip
    return tuple(blocks)


def _row(each: CheckedMap) -> tuple[Cell, ...]:
    return (
        words(f"{each.name}, {each.artefact or 'all things'}"),
        Cell(rate(each.rate), each.rate.value, *bounds(each.rate), each.n_photographs),
        Cell(numbers.share(each.base), each.base),
        *(_share(each.against[name].control) for name in CONTROLS),
        Cell(f"{each.overlap.value:.2f}", each.overlap.value, *bounds(each.overlap)),
        words(each.beats_all),
    )


def _share(found: Bounded) -> Cell:
    return Cell(numbers.share(found.value), found.value, *bounds(found))


MAPS = Chapter(
    "maps",
    "Where neurons look, and whether maps of it can be relied on",
    make,
    lacking="No map of where a neuron looks was checked.",
)
