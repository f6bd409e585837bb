"""What becomes of decisions as more and more neurons of a layer are held still."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.bundle.checks.held import RANDOM
from csp_engine.exports.report.asked import NETWORK, Asked, Chapter, number_of, words
from csp_engine.exports.report.document import Block, Cell, Table, Text
from csp_engine.views.audit.fixes import Points
from csp_engine.views.curves.steps import Step
from csp_engine.views.curves.told import Curved, kept, layers_curved, percent

COLUMNS = (
    "slice", "order", "held", "right", "least of orders", "most of orders", "change, in points",
    "against random orders, in points",
)  # fmt: skip


def make(asked: Asked) -> tuple[Block, ...]:
    """For every layer: the sentence, and every point of every curve."""
    blocks: list[Block] = []
    for layer in layers_curved(asked.bundle, asked.model):
        found = kept(asked.bundle, asked.memo, asked.model, layer)
        sources = asked.source(kinds.CURVES.name(asked.model, layer))
        told = (found.sentence, found.details)
        blocks.append(Text(f"{layer}: {' '.join(filter(None, told))}", sources))
        labels = f" Labels are by {found.method}." if found.method else ""
        blocks.append(
            Table(
                f"{layer}: decisions by how many neurons are held",
                COLUMNS,
                tuple(_row(found, each) for each in found.steps),
                sources,
                f"{found.images}.{labels} Intervals come from drawing photographs anew; of many "
                "comparisons with random orders one in twenty leaves 0 out by chance.",
            )
        )
    return tuple(blocks)


def _row(found: Curved, each: Step) -> tuple[Cell, ...]:
    return (
        words(each.slice),
        words(found.name(each.order)),
        number_of(each.n_units),
        *(Cell(percent(share), share) for share in (each.right, each.least, each.most)),
        _points(each.n_photographs, each.change),
        words(numbers.UNKNOWN)
        if each.order == RANDOM
        else _points(each.n_photographs, each.against),
    )


def _points(n: int, change: Points) -> Cell:
    return Cell(change.signed, change.value, *change.bounds, n)


CURVES_ = Chapter(
    "curves",
    "What holding more and more of a layer still changes",
    make,
    NETWORK,
    "Whether decisions need the neurons that labels set apart was not tried.",
)
