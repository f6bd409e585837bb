"""What was asked, of which network, on which images."""

from __future__ import annotations

from typing import Any

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.exports.report.asked import EVIDENCE, Asked, Chapter, number_of, words
from csp_engine.exports.report.document import Block, Cell, Points, Source, Table, Text
from csp_engine.printable import shown_spec
from csp_engine.views.audit.interventions import compared_models, conclusion, effects
from csp_engine.views.images.separation import texts_in_words
from csp_engine.views.overview.concepts import concept_sentences
from csp_engine.views.overview.unused import unused_files

EXTRA = {"melanoma_found": "melanomas found", "benign_cleared": "others cleared"}


def question(asked: Asked) -> tuple[Block, ...]:
    """What was asked, and the short answer."""
    stored = asked.stored
    if stored is None:
        answer: list[Block] = [
            Text(
                f"What do decisions of {asked.model} rest on? Nothing was added to photographs, so "
                "this report has no answer; it holds what is known short of that."
            )
        ]
    else:
        stage = kinds.INTERVENTION.name(asked.model)
        answer = [
            Text(f"What moves {stored.output} in {asked.model}?", (asked.manifest,)),
            Text(
                conclusion(stored.output, effects(stored)), asked.source(stage, "effects.parquet")
            ),
        ]
    strength = tuple(f"{kind.capitalize()}: {can}." for kind, can in EVIDENCE.items())
    return (
        *answer,
        Text("Evidence is of four kinds, which this report never mixes; the strongest first."),
        Points(strength),
    )


def model(asked: Asked) -> tuple[Block, ...]:
    """The network, down to the hash of its weights, and how often it is right."""
    held = asked.bundle.manifest.inputs.get("models", {})
    stored = asked.stored
    others = () if stored is None else compared_models(asked.bundle, asked.model, stored)
    named = [asked.model, *others]
    blocks: list[Block] = []
    for name in named:
        rows = _described(asked, name, held.get(name, {}))
        caption = f"The network {name}" + ("" if name == asked.model else ", to compare with")
        blocks.append(Table(caption, ("", ""), rows, (asked.manifest,)))
    blocks += _right(asked, named)
    return tuple(blocks)


def _described(asked: Asked, name: str, held: dict[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    rows: list[tuple[str, Cell]] = [
        ("loaded as", words(shown_spec(str(held.get("spec", "not said"))))),
        ("sha256 of structure and weights", words(held.get("fingerprint", "not said"))),
    ]
    classes = held.get("class_names")
    if classes:
        shown = ", ".join(map(str, classes[:20])) + (", …" if len(classes) > 20 else "")
        rows.append((f"outputs ({numbers.count(len(classes))})", words(shown)))
    rows += [
        (f"units of {layer}", number_of(asked.bundle.n_units(name, layer)))
        for layer in asked.bundle.layers(name)
    ]
    if "preprocessing" in held:
        steps = held["preprocessing"].items()
        said = "; ".join(f"{name}: {'none' if v is None else v}" for name, v in steps)
        rows.append(("preprocessing", words(said)))
    return tuple((words(title), cell) for title, cell in rows)


def _right(asked: Asked, named: list[str]) -> list[Block]:
    """How often each network is right on named test images."""
    rows: list[tuple[Cell, ...]] = []
    sources: tuple[Source, ...] = ()
    tables = {m: t for m in named if (t := asked.bundle.performance(m)) is not None}
    extra = [c for c in EXTRA if tables and all(c in t for t in tables.values())]
    for name, table in tables.items():
        sources += asked.source(kinds.PERFORMANCE.name(name), "slices.parquet")
        for row in table.to_dict("records"):
            accuracy, low, high = (float(row[each]) for each in ("accuracy", "low", "high"))
            n = int(row["n"])
            rows.append(
                (
                    words(f"{name} · {row['slice']}"),
                    Cell(numbers.share(accuracy), accuracy, low, high, n),
                    words(numbers.share_range(low, high)),
                    number_of(n),
                    *(Cell(numbers.share(row[c]), float(row[c])) for c in extra),
                )
            )
    if not rows:
        return []
    columns = ("classifier · test images", "right", "95 % interval", "n")
    is_unseen = all(t["unseen"].all() for t in tables.values() if "unseen" in t)
    caption = "How often it is right on images that were not used in training"
    if not is_unseen:
        caption = "How often it is right, on images of which some may have been used in training"
    return [Table(caption, (*columns, *(EXTRA[c] for c in extra)), tuple(rows), sources)]


def data(asked: Asked) -> tuple[Block, ...]:
    """Images, encoder and vocabulary, down to their hashes."""
    inputs = asked.bundle.manifest.inputs
    probe, encoder = inputs.get("probe", {}), inputs.get("encoder", {})
    vocabulary = inputs.get("vocabulary", {})
    rows: list[tuple[str, Cell]] = [
        ("probe set", words(probe.get("name", "not said"))),
        ("images", number_of(asked.bundle.n_images)),
        ("listed, but unreadable", number_of(int(probe.get("n_skipped", 0)))),
        ("sha256 of all images", words(probe.get("content_sha256", "not said"))),
        ("sha256 of their table", words(probe.get("metadata_sha256") or "not said")),
        ("encoder", words(shown_spec(str(encoder.get("spec", "none"))))),
        ("sha256 of the encoder", words(encoder.get("fingerprint", "not said"))),
        ("vocabulary", words(vocabulary.get("name", "none"))),
        ("labels", number_of(int(vocabulary.get("n_labels", 0)))),
        ("sha256 of the vocabulary", words(vocabulary.get("sha256", "not said"))),
        ("bundle", words(asked.bundle.name)),
        ("sha256 of its manifest", words(asked.bundle.digest)),
        ("last changed", words(f"{asked.bundle.manifest.updated[:16].replace('T', ' ')} UTC")),
    ]
    facts = tuple((words(title), cell) for title, cell in rows)
    blocks: list[Block] = [Table("What it was run on", ("", ""), facts, (asked.manifest,))]
    if asked.bundle.has(kinds.IMAGES.name()):
        each = asked.source(kinds.IMAGES.name(), "images.parquet")
        blocks.append(
            Text(
                "The sha256 of every single probe image is in the column sha256 of this file.", each
            )
        )
    blocks.append(_concepts(asked))
    told = (*unused_files(asked.bundle), *concept_sentences(asked.bundle))
    told += (texts_in_words(asked.bundle),)
    sources = (asked.manifest,)
    if asked.bundle.has(kinds.PROBE.name()):
        sources += asked.source(kinds.PROBE.name())
    blocks.append(Points(told, sources))
    return tuple(blocks)


def _concepts(asked: Asked) -> Table:
    """What may matter to the output and what should not, as somebody listed it."""
    rows = tuple((words(tag), words(", ".join(_names(asked, tag)))) for tag in asked.concepts.tags)
    outputs = ", ".join(asked.concepts.outputs) or "none"
    return Table(
        f"The concept set “{asked.concepts.title}”",
        ("", ""),
        (
            (words("for the output"), words(outputs)),
            *rows,
            (words("sha256 of its file"), words(asked.concepts.sha256)),
        ),
        (Source("concept set", asked.concepts.sha256),),
        "Valid: what the output may rest on. Spurious: what it must not rest on. Neutral: what "
        "says nothing either way.",
    )


def _names(asked: Asked, tag: str) -> list[str]:
    groups = (group for group in asked.concepts.groups if group.tag == tag)
    return [names[0] for group in groups for names in group.concepts]


QUESTION = Chapter("question", "The question and the answer", question)
MODEL = Chapter("model", "The network", model)
DATA = Chapter("data", "The images, and what names them", data)
