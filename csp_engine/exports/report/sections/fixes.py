"""What became of decisions once part of the network was held still."""

from __future__ import annotations

import math

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.exports.report.asked import NETWORK, Asked, Chapter, words
from csp_engine.exports.report.document import (
    Block,
    Cell,
    Picture,
    Pictures,
    Source,
    Strip,
    Table,
    Text,
)
from csp_engine.views.audit.fixes import Counted, Points, SliceOutcome, Tested, kept, turned


def make(asked: Asked) -> tuple[Block, ...]:
    """Every fix that the bundle keeps: its sentences, its figures, and decisions that turned."""
    blocks: list[Block] = []
    for name in asked.bundle.fixes(asked.model):
        stage = kinds.FIX.name(asked.model, name)
        found = kept(asked.bundle, asked.memo, asked.model, name)
        sources = asked.source(
            stage, "called.npy", "cuts.parquet", "photographs.parquet", "runs.parquet", "score.npy"
        )
        told = (found.sentence, found.verdict, found.details, found.gap_sentence)
        blocks.append(Text(f"{name}: {' '.join(filter(None, told))}", sources))
        blocks.append(_figures(name, found, sources))
        blocks += _turned(asked, name, found)
    return tuple(blocks)


def _figures(name: str, found: Tested, sources: tuple[Source, ...]) -> Table:
    others = [other for other, *_ in found.slices[0].beside]
    columns = (
        "slice", f"{found.output} found before", "found after", "change of found, in points",
        "right before", "right after", "change of right, in points", "AUROC before", "AUROC after",
        *(f"{other}: right" for other in others),
    )  # fmt: skip
    return Table(
        f"{name}: decisions before and after",
        columns,
        tuple(map(_row, found.slices)),
        sources,
        f"{found.images}; what is held still was {found.chosen_on}. Intervals come from drawing "
        "photographs anew, the same for both sides.",
    )


def _row(each: SliceOutcome) -> tuple[Cell, ...]:
    return (
        words(each.name),
        *_counted(each.found),
        *_counted(each.right),
        *_areas(each),
        *(
            Cell(numbers.share(right.share), right.share, right.low, right.high, right.n)
            for _, right, _, _ in each.beside
        ),
    )


def _areas(each: SliceOutcome) -> tuple[Cell, ...]:
    if math.isnan(each.ranked.before):
        return (words(numbers.UNKNOWN),) * 2
    values = each.ranked.before, each.ranked.after
    return tuple(Cell(text, x) for text, x in zip(each.ranked.words, values, strict=True))


def _counted(each: Counted) -> tuple[Cell, Cell, Cell]:
    before, after = (
        Cell(f"{s.n_hits} of {s.n}", s.share, s.low, s.high, s.n) if s.n else words(numbers.UNKNOWN)
        for s in (each.before, each.after)
    )
    return before, after, _points(each.change)


def _points(change: Points) -> Cell:
    if not change.is_known:
        return words(numbers.UNKNOWN)
    return Cell(change.signed, change.value, *change.bounds)


def _turned(asked: Asked, name: str, found: Tested) -> list[Block]:
    stored = asked.bundle.fix(asked.model, name)
    strips = tuple(
        Strip(
            each.file,
            (Picture(stored.thumbs[each.picture], each.slice, not each.is_mended),),
            words(f"{each.truth}; called {each.before}, then {each.after}"),
        )
        for each in turned(stored)
    )
    if not strips:
        return []
    stage = kinds.FIX.name(asked.model, name)
    rule = (
        f"{name}. Decisions that turned, at equal steps of the change of the score of "
        f"{found.output}. Marked: a right decision became wrong."
    )
    return [Pictures(rule, strips, asked.source(stage, "shown.parquet", "thumbs.bin"))]


FIXES = Chapter(
    "fix",
    "What holding part of the network still changes",
    make,
    NETWORK,
    "No part of the network was held still to see whether its decisions improve.",
)
