"""Which factors of a layer push wrong decisions, though nobody said what to look for."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.exports.report.asked import NETWORK, Asked, Chapter, number_of, words
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
from csp_engine.views.audit.factors import Factor, Factored, factored, layers_factored

COLUMNS = (
    "factor", "wrong less right (95 % interval)", "wrong", "right", "called", "put right", "spoilt",
    "share", "strongest neurons",
)  # fmt: skip


def make(asked: Asked) -> tuple[Block, ...]:
    """For every layer: the sentence, all factors, and the decisions that called ones push most."""
    blocks: list[Block] = []
    for layer in layers_factored(asked.bundle, asked.model):
        found = factored(asked.bundle, asked.model, layer, asked.method)
        assert found is not None
        stage = kinds.FACTORS.name(asked.model, layer)
        sources = asked.source(
            stage, "photographs.parquet", "factors.parquet", "called.npy", "direction.npy"
        )
        named = sources
        if asked.method in asked.bundle.methods(asked.model, layer):
            scores = kinds.SCORES.name(asked.model, layer, asked.method)
            named += asked.source(scores, "label_uk.npy", "reliable_u.npy")
        blocks.append(Text(found.sentence, sources))
        blocks.append(
            Table(
                f"{layer}: factors, by how much more they push wrong decisions",
                COLUMNS,
                tuple(_row(each, found) for each in found.factors),
                named,
                f"Pushes in logits. {found.photographs} Put right and spoilt: decisions that turn "
                "once the factor is projected out. What a factor shows, a person has to see.",
            )
        )
        blocks += _pictures(asked, found, stage)
    return tuple(blocks)


def _row(each: Factor, found: Factored) -> tuple[Cell, ...]:
    turning = each.turning
    turned = [words(numbers.UNKNOWN)] * 2
    if turning is not None:
        turned = [number_of(turning.n_mended), number_of(turning.n_spoilt)]
    gap = each.gap
    return (
        number_of(each.number),
        Cell(gap.signed, gap.value, gap.low, gap.high, found.n_photographs),
        *(Cell(f"{push:+.2f}".replace("-", "−"), push) for push in (each.wrong, each.right)),
        words("yes" if each.is_called else "no"),
        *turned,
        Cell(f"{each.share:.2f}", each.share),
        words(", ".join(f"{ref.unit} {label.title}" for ref, label in each.neurons)),
    )


def _pictures(asked: Asked, found: Factored, stage: str) -> list[Block]:
    stored = asked.bundle.factors(found.model, found.layer)
    assert stored is not None
    strips = []
    for each in found.called:
        shots = [
            (stored.thumbs[at], stored.photographs.iloc[int(stored.shown["row"].iloc[at])])
            for at in each.pictures
        ]
        pictures = tuple(
            Picture(content, f"called {row['decided']}, is {row['class']}")
            for content, row in shots
        )
        if pictures:
            gap = each.gap
            strips.append(
                Strip(
                    f"factor {each.number}",
                    pictures,
                    Cell(gap.signed, gap.value, gap.low, gap.high, found.n_photographs),
                )
            )
    sources: tuple[Source, ...] = asked.source(
        stage, "shown.parquet", "thumbs.bin", "photographs.parquet", "factors.parquet"
    )
    rule = f"{found.layer}. Of every called factor, the wrong decisions that it pushes most."
    return [Pictures(rule, tuple(strips), sources)] if strips else []


FACTORS_ = Chapter(
    "factors",
    "What pushes its wrong decisions",
    make,
    NETWORK,
    "No factors of a layer were looked for that push wrong decisions more than right ones.",
)
