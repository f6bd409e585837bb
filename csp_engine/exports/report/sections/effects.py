"""What adding one thing to photographs does to the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.exports.report.asked import IMAGE, Asked, Chapter, number_of, words
from csp_engine.exports.report.document import Block, Cell, Picture, Pictures, Strip, Table, Text
from csp_engine.pasting.pairs import VERSIONS
from csp_engine.views.audit.figures import Figure
from csp_engine.views.audit.interventions import Effect, compared_models, effects, pictures

ABOVE = {"without": "without", "neutral": "neutral paste", "with": "with"}
RULE = (
    "Pairs at equal steps from the lowest effect to the highest; the rule picked them before "
    "anybody saw them."
)
MARKED = " Marked: the network does not call it {output}."


def bounded(figure: Figure, n: int | None = None) -> Cell:
    """An effect with its interval."""
    if not figure.is_known:
        return words(numbers.UNKNOWN)
    return Cell(figure.signed, figure.value, figure.low, figure.high, n)


def make(asked: Asked) -> tuple[Block, ...]:
    """A table of all effects, and of each the sentence and the pictures of the page."""
    stored = asked.stored
    if stored is None:
        return ()
    stage = kinds.INTERVENTION.name(asked.model)
    found = effects(stored)
    others = compared_models(asked.bundle, asked.model, stored)
    columns = (
        "added to the photograph", "effect (95 % interval)", "with less without", "neutral paste",
        "pairs", "groups", "called without it", "lost", "gained",
        *(f"effect on {name}" for name in others),
    )  # fmt: skip
    told_by = asked.source(stage, "effects.parquet")
    if stored.gates is not None:
        told_by += asked.source(stage, "gates.parquet")
    sources = told_by
    for name in others:
        sources += asked.source(kinds.INTERVENTION.name(name), "effects.parquet")
    blocks: list[Block] = [
        Table(
            f"Change of the log-odds of {stored.output} in {asked.model}",
            columns,
            tuple(_row(each, others) for each in found),
            sources,
            f"{stored.images}. Each pair differs in one thing alone. The effect is the mean of "
            "with less the same paste of neutral texture where there is one, and of with less "
            "without elsewhere; the interval comes from drawing groups of photographs anew.",
        )
    ]
    gated = tuple(_gate(each) for each in found if each.gate is not None)
    if gated:
        blocks.append(
            Table(
                "Whether what was pasted passes for real",
                (
                    "pasted", "real ones told (AUROC)", "pasted ones told", "neutral ones told",
                    "asked", "difference among real photographs", "photographs with it", "without",
                ),
                gated,
                told_by,
                "A probe learnt to tell real photographs that have it from those that have not. "
                "Where it does not tell pasted ones as well, or real ones differ the other way, "
                "the effect is withheld.",
            )
        )  # fmt: skip
    for each in found:
        told = [each.sentence(stored.output)]
        if each.gate is not None and not each.is_withheld:
            told.append(each.gate.sentence())
        blocks.append(Text(" ".join(told), told_by))
        strips = tuple(
            Strip(
                str(row["file"]),
                tuple(
                    Picture(
                        asked.bundle.shown_pair(asked.model, row["picture"][version]),
                        ABOVE[version],
                        "called" in row and not row["called"][version],
                    )
                    for version in VERSIONS
                    if version in row["picture"]
                ),
                _of_pair(row),
            )
            for row in pictures(stored, each)
        )
        if strips:
            held = asked.source(stage, "pairs.parquet", "shown.parquet", "thumbs.bin")
            marked = "" if each.is_withheld else MARKED.format(output=stored.output)
            blocks.append(Pictures(f"{each.artefact}. {RULE}{marked}", strips, held))
    return tuple(blocks)


def _of_pair(row: Mapping[str, Any]) -> Cell:
    if "effect" not in row:
        return words("withheld")
    effect = row["effect"]
    return Cell(f"{effect:+.2f}".replace("-", "−"), effect)


def _gate(each: Effect) -> tuple[Cell, ...]:
    assert each.gate is not None
    gate = each.gate
    areas = (gate.real, gate.pasted, gate.neutral)
    return (
        words(each.artefact),
        *(Cell(a.share, a.value, a.low, a.high) if a.is_known else words(a.share) for a in areas),
        words(gate.why) if gate.why else Cell(f"{gate.least:.2f}", gate.least),
        bounded(gate.observed),
        number_of(gate.n_with),
        number_of(gate.n_without),
    )


def _compared(held: Effect | None) -> Cell:
    if held is None:
        return words(numbers.UNKNOWN)
    return words("withheld") if held.is_withheld else bounded(held.effect, held.n_pairs)


def _row(each: Effect, others: dict[str, dict[str, Effect]]) -> tuple[Cell, ...]:
    elsewhere = tuple(_compared(held.get(each.artefact)) for held in others.values())
    if each.is_withheld:
        unknown = (words(numbers.UNKNOWN),) * 2
        counts = (number_of(each.n_pairs), number_of(each.n_groups))
        decisions = (words(numbers.UNKNOWN),) * 3
        return (words(each.artefact), words("withheld"), *unknown, *counts, *decisions, *elsewhere)
    return (
        words(each.artefact),
        bounded(each.effect, each.n_pairs),
        bounded(each.change, each.n_pairs),
        bounded(each.neutral, each.n_pairs),
        *(number_of(n) for n in (each.n_pairs, each.n_groups, each.n_called)),
        *(number_of(n) for n in (each.n_lost, each.n_gained)),
        *elsewhere,
    )


EFFECTS = Chapter(
    "effects",
    "The same photograph, with and without",
    make,
    IMAGE,
    "Nothing was added to photographs or taken from them, so no effect on the output is known; "
    "'csp intervene' measures it.",
)
