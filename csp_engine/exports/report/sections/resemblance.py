"""What influential neurons look like: resemblance to lists of concepts, with its base rate."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.exports.report.asked import RESEMBLANCE, Asked, Chapter, known, number_of, words
from csp_engine.exports.report.document import Block, Cell, Source, Table, Text
from csp_engine.stats.intervals import Share
from csp_engine.views.case.audit import (
    Case,
    examine,
    layers_of,
    methods_of,
    neuron_of,
    signed_share,
    with_interval,
)
from csp_engine.words.concepts import Tag

N_SHOWN = 20


def make(asked: Asked) -> tuple[Block, ...]:
    """The neurons that matter by the concept they are nearest to; none without lists for them."""
    concepts = asked.concepts
    layers = layers_of(asked.bundle, concepts, asked.model)
    if not layers or asked.method not in methods_of(asked.bundle, asked.memo, asked.model):
        return ()
    case = examine(asked.bundle, asked.memo, concepts, asked.model, layers, asked.method)
    if isinstance(case, str):
        return ()
    sources = _sources(asked, case)
    told = (
        f"Of the neurons of {', '.join(case.layers)} that together carry half of the influence on "
        f"{case.output} in their layer (gradient × activation over "
        f"{numbers.count(case.n_images)} probe images), each is called after the list of concepts "
        "that its concept vector is nearest to, if 95 % of random image sets stay below."
    )
    blocks: list[Block] = [Text(told, sources), _counts(case, sources)]
    spurious = case.of_kind("spurious").head(N_SHOWN)
    if len(spurious):
        rows = []
        for _, row in spurious.iterrows():
            cells = [
                words(neuron_of(row)),
                Cell(signed_share(row["share"]), float(row["share"])),
                words(known(row["spurious_text"])),
                Cell(numbers.score(row["spurious"]), float(row["spurious"])),
                Cell(numbers.score(row["spurious_bar"]), float(row["spurious_bar"])),
            ]
            if "truth" in row:
                cells.append(words(row["truth"] or "nothing clearly enough"))
            rows.append(tuple(cells))
        columns = ("neuron", "influence", "nearest", "alignment", "95 % of random sets stay below")
        blocks.append(
            Table(
                f"The {len(rows)} most influential neurons that resemble what should not matter",
                (*columns, "truly responds to") if "truth" in case.rows else columns,
                tuple(rows),
                sources,
                f"Picked by influence alone, out of {len(case.of_kind('spurious'))}.",
            )
        )
    return tuple(blocks)


def _counts(case: Case, sources: tuple[Source, ...]) -> Table:
    influence = case.influence_by_kind()
    has_truth = "truth" in case.rows
    rows = []
    for kind in case.kinds:
        own = case.of_kind(kind)
        cells = [
            words(kind),
            number_of(len(own)),
            Cell(numbers.share(influence[kind]), influence[kind]),
        ]
        if has_truth:
            tag = next((tag for tag in case.texts if tag == kind), None)
            cells.append(_true(case, own, tag))
        rows.append(tuple(cells))
    columns = ("called", "influential neurons", "share of all influence")
    return Table(
        "What influential neurons resemble",
        (*columns, "truly respond to that") if has_truth else columns,
        tuple(rows),
        sources,
        "The last column is the base rate: how many of such calls were right, by what each neuron "
        "was measured to respond to." if has_truth else "How many of such calls are right is not "
        "known here.",
    )  # fmt: skip


def _true(case: Case, own: object, tag: Tag | None) -> Cell:
    if tag is None:
        return words(numbers.UNKNOWN)
    share: Share = case.true_share(own, tag)  # ty: ignore[invalid-argument-type]
    if not share.n:
        return words(with_interval(share))
    return Cell(with_interval(share), share.share, share.low, share.high, share.n)


def _sources(asked: Asked, case: Case) -> tuple[Source, ...]:
    """Files behind the section; random image sets that layers share are named once."""
    found = asked.source(kinds.VOCABULARY.name(), "text.npy")
    for layer in case.layers:
        at = (asked.model, layer)
        scores = kinds.SCORES.name(*at, asked.method)
        held = [n for n in asked.bundle.stage(scores).files if n.startswith(("vector", "null_"))]
        found += asked.source(kinds.INFLUENCE.name(*at), "gradient_activation.npy")
        found += asked.source(scores, *sorted(held))
        if asked.bundle.has(kinds.TRUTH.name(*at)):
            found += asked.source(kinds.TRUTH.name(*at), "units.parquet", "concepts.parquet")
    first: dict[str, Source] = {}
    for each in found:
        first.setdefault(each.sha256, each)
    return tuple(first.values())


RESEMBLANCE_ = Chapter(
    "resemblance",
    "What influential neurons look like",
    make,
    RESEMBLANCE,
    "No influential neuron was compared with lists of what may and what should not matter.",
)
