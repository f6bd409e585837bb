"""Which neurons go along with what the images are marked with."""

from __future__ import annotations

import math

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.exports.report.asked import ASSOCIATION, Asked, Chapter, number_of, words
from csp_engine.exports.report.document import Block, Cell, Points, Table, Text
from csp_engine.views.audit.associations import (
    Area,
    Linked,
    Looked,
    Sought,
    all_suspects,
    area,
    layers_with,
    look,
    sought_in,
    usual_layer,
)

N_SHOWN = 20
"""Suspects of a column that stand in its table."""


def bounded(figure: Area, n: int | None = None) -> Cell:
    """An AUROC with its interval."""
    if not figure.is_known:
        return words(numbers.UNKNOWN)
    return Cell(figure.words, figure.value, *figure.bounds, n)


def make(asked: Asked) -> tuple[Block, ...]:
    """What was looked for in every layer, and the suspects of what should not matter."""
    concepts = asked.concepts
    blocks: list[Block] = []
    layers = layers_with(asked.bundle, asked.model)
    if told := all_suspects(asked.bundle, asked.model, concepts):
        held = [asked.source(kinds.ASSOCIATION.name(asked.model, each)) for each in layers]
        blocks.append(Text(told, tuple(one for each in held for one in each)))
    for layer in layers:
        blocks.append(_sought(asked, layer, sought_in(asked.bundle, asked.model, layer, concepts)))
    for name in _columns(asked):
        layer = usual_layer(asked.bundle, asked.model, name, asked.method)
        found = look(asked.bundle, asked.memo, asked.model, layer, name, asked.method, concepts)
        if found is not None:
            blocks += _of(asked, found)
    return tuple(blocks)


def _columns(asked: Asked) -> list[str]:
    """Concept columns that should not matter, as far as said, and were tried in some layer."""
    found: dict[str, None] = {}
    for layer in layers_with(asked.bundle, asked.model):
        for each in sought_in(asked.bundle, asked.model, layer, asked.concepts):
            if each.is_in_question and each.is_tried:
                found[each.name] = None
    return list(found)


def _sought(asked: Asked, layer: str, rows: tuple[Sought, ...]) -> Table:
    body = []
    for each in rows:
        name = each.name if each.kind == "concept" else f"{each.name} (class)"
        least = words(numbers.UNKNOWN)
        if not math.isnan(each.least):
            least = Cell(area(each.least), each.least) if each.is_findable else words("none")
        body.append(
            (
                words(name),
                number_of(each.n_positive),
                number_of(each.n_with),
                number_of(each.n_suspects) if each.is_tried else words("too few images"),
                bounded(each.best, each.n_images),
                least,
            )
        )
    return Table(
        f"{layer}: what was looked for, and what would have been found",
        (
            "column", "images that show it", "groups", "suspects", "best AUROC (95 % interval)",
            "least found",
        ),
        tuple(body),
        asked.source(kinds.ASSOCIATION.name(asked.model, layer)),
        "Least found: the smallest AUROC that would have been called with a chance of 80 %; a "
        "weaker neuron may have been missed. None: so few images show it, or do not, that one of "
        "any AUROC may have been missed.",
    )  # fmt: skip


def _of(asked: Asked, found: Looked) -> list[Block]:
    stage = kinds.ASSOCIATION.name(asked.model, found.layer)
    sources = asked.source(stage)
    # What goes with a column is read from the table of images, and shown by the encoder.
    probe = asked.source(kinds.PROBE.name(), "probe.parquet")
    if asked.bundle.has(kinds.EMBEDDINGS.name()):
        probe += asked.source(kinds.EMBEDDINGS.name())
    told = [found.sentence()]
    if found.truth is not None:
        sources += asked.source(kinds.TRUTH.name(asked.model, found.layer))
        told.append(found.truth.sentence())
    blocks: list[Block] = [Text(" ".join(told), sources)]
    if found.sought.is_tried:
        blocks.append(Points((found.confounding(),), (*sources, *probe)))
    if found.suspects:
        blocks.append(_suspects(asked, found))
    return blocks


def _suspects(asked: Asked, found: Looked) -> Table:
    has_truth = found.truth is not None
    shown = found.suspects[:N_SHOWN]
    columns = ("neuron", "AUROC (95 % interval)", "difference in SD", "q", "within", "label")
    sources = asked.source(kinds.ASSOCIATION.name(asked.model, found.layer))
    if asked.method in asked.bundle.methods(asked.model, found.layer):
        scores = kinds.SCORES.name(asked.model, found.layer, asked.method)
        sources += asked.source(scores, "label_uk.npy", "reliable_u.npy")
    if has_truth:
        sources += asked.source(kinds.TRUTH.name(asked.model, found.layer), "units.parquet")
    return Table(
        f"{found.sought.name}: suspects in {found.layer}",
        (*columns, "truly responds to") if has_truth else columns,
        tuple(_row(each, found.sought.n_images, has_truth) for each in shown),
        sources,
        f"The {len(shown)} of {numbers.count(len(found.suspects))} that go with it best. "
        f"{numbers.count(found.n_tests)} pairs of neuron and column were compared; q is held over "
        "all of them. Within: the area among images alike in what goes with the column most.",
    )


def _row(each: Linked, n_images: int, has_truth: bool) -> tuple[Cell, ...]:
    return (
        words(each.neuron),
        bounded(each.auroc, n_images),
        Cell(numbers.signed(each.difference), each.difference),
        Cell(numbers.chance(each.q_suspect), each.q_suspect),
        bounded(each.within),
        words(each.label.title),
        *([words(each.truth)] if has_truth else []),
    )


ASSOCIATION_ = Chapter(
    "association",
    "Which neurons go along with what the images show",
    make,
    ASSOCIATION,
    "No association of neurons with columns of the images was measured.",
)
