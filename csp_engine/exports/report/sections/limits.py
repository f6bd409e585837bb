"""What was not tested, by what the bundle lacks, and what the evidence that it has cannot show."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import kinds
from csp_engine.exports.report.asked import Asked, Chapter
from csp_engine.exports.report.document import Block, Points, Source
from csp_engine.views.audit.interventions import audited, effects, models_with
from csp_engine.views.images.separation import doubt

STANDING = (
    "Nothing here says how well the network does in a clinic, nor that it is safe to use.",
    "What the images do not show cannot be found in them.",
    "A neuron can respond to something that no list names and no column marks.",
    "Numbers hold for this network as its hash names it; another training, another layer or "
    "another set of photographs may give others.",
    "No map of where a neuron looks is offered as proof that the network uses what it shows.",
)


def make(asked: Asked) -> tuple[Block, ...]:
    """Limits that hold for every report; the builder puts what was not tested in front."""
    told = tuple(filter(None, (asked.bundle.notice, doubt(asked.bundle))))
    return (Points((*told, *STANDING), (asked.manifest,) if told else ()),)


def untested(asked: Asked) -> tuple[Points, ...]:
    """Everything that this bundle leaves open, beside whole sections that it lacks."""
    bundle, stored = asked.bundle, asked.stored
    found: list[Points] = []

    def say(*told: str, sources: tuple[Source, ...] = (asked.manifest,)) -> None:
        if told:
            found.append(Points(told, sources))

    if stored is not None:
        found += _of_pairs(asked)
        unpaired = [m for m in bundle.model_names if m not in models_with(bundle)]
        if unpaired:
            say(f"Nothing was added to photographs for {', '.join(unpaired)}.")
        classes = bundle.manifest.inputs["models"][asked.model].get("class_names") or ()
        others = [str(name) for name in classes if name != stored.output]
        if others:
            shown = ", ".join(others[:10]) + (", …" if len(others) > 10 else "")
            say(f"Only {stored.output} was followed; not the other outputs: {shown}.")
        tried = set(stored.units["layer"])
        rest = [layer for layer in bundle.layers(asked.model) if layer not in tried]
        if rest:
            say(f"Nothing was swapped in {', '.join(rest)}.")
    if not any(bundle.has(kinds.TRUTH.name(asked.model, x)) for x in bundle.layers(asked.model)):
        say(
            "What the neurons truly respond to is not known, so neither is how often a label or a "
            "call by resemblance is right."
        )
    if bundle.performance(asked.model) is None:
        say(f"How often {asked.model} is right on test images was not measured.")
    if bundle.omitted:
        say(
            f"This copy of the bundle leaves out the files of {numbers.count(len(bundle.omitted))} "
            "stages; what was made from them is here."
        )
    return tuple(found)


def _of_pairs(asked: Asked) -> list[Points]:
    """What pairs were tried and did not show, each with the size that it would have shown."""
    stored = asked.stored
    assert stored is not None
    stage = kinds.INTERVENTION.name(asked.model)
    sources = asked.source(stage, "effects.parquet", "sets.parquet")
    if stored.gates is not None:
        sources += asked.source(stage, "gates.parquet")
    found = effects(stored)
    told = [
        each.sentence(stored.output)
        for each in found
        if each.is_withheld or not each.effect.is_away_from_zero
    ]
    bare = [each.artefact for each in found if not each.has_neutral]
    if bare:
        told.append(
            f"No paste of neutral texture was compared with {', '.join(bare)}: of their effect, "
            "some may come from covering or changing the photograph at all."
        )
    for each in found:
        if each.effect.is_away_from_zero and not each.is_withheld:
            whole = audited(asked.bundle, asked.model, each.artefact, asked.method)
            if whole is not None and whole.scope is None:
                told.append(
                    f"No set of neurons that was tried carries half of the effect of "
                    f"{each.artefact}."
                )
    return [Points(tuple(told), sources)] if told else []


LIMITS = Chapter("limitations", "Limitations", make)
