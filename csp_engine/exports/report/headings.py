"""Orders of a report: its own, and the headings that auditors bring along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from csp_engine.exports.report.document import Part, Section

REST = "Further findings"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading, the sections that belong below it, and what a bundle cannot say of it."""

    title: str
    sections: tuple[str, ...]
    note: str = ""


ANNEX_IV = (
    Heading(
        "Intended purpose and versions",
        ("question", "model"),
        "A bundle does not say what the system is meant for, who provides it, or what it is "
        "delivered with; the provider has to add that.",
    ),
    Heading(
        "Data: provenance, scope, labelling, cleaning",
        ("data",),
        "These are the images that the network was examined on. How its training data was "
        "gathered, labelled and cleaned is not in a bundle.",
    ),
    Heading(
        "Human oversight, and means to interpret outputs",
        ("maps", "resemblance", "verdicts"),
        "How people oversee the system in use is not in a bundle.",
    ),
    Heading(
        "Validation and test procedures, metrics, discriminatory impacts",
        ("effects", "carriers", "factors", "association", "fix", "curves", "checklist"),
        "Figures by groups of people are there only where a column of the data marks them.",
    ),
    Heading("Known and foreseeable circumstances of risk", ("untested", "limitations")),
    Heading(
        "Changes through the lifecycle",
        (),
        "This report knows one state of the network, named by the hash of its weights.",
    ),
)
"""After the technical documentation that Annex IV of Regulation (EU) 2024/1689 asks for."""

MODEL_CARD = (
    Heading("Model details", ("question", "model")),
    Heading(
        "Intended use",
        (),
        "Not in a bundle: whoever made the network has to say what it is for and what not.",
    ),
    Heading("Factors", ("carriers", "association", "maps", "resemblance")),
    Heading("Metrics", ("checklist",)),
    Heading("Evaluation data", ("data",)),
    Heading(
        "Training data", (), "Not in a bundle, which holds the images that it was examined on."
    ),
    Heading("Quantitative analyses", ("effects", "factors", "fix", "curves")),
    Heading("Ethical considerations", ("verdicts",), "A bundle holds verdicts, and nothing more."),
    Heading("Caveats and recommendations", ("untested", "limitations")),
)
"""After Mitchell et al., Model Cards for Model Reporting, FAT* 2019."""

ORDERS: dict[str, tuple[Heading, ...]] = {
    "audit": (),
    "annex-iv": ANNEX_IV,
    "model-card": MODEL_CARD,
}
TITLES = {
    "audit": "Audit report",
    "annex-iv": "Audit report by the headings of Annex IV",
    "model-card": "Audit report as a model card",
}


def ordered(sections: Sequence[Section], order: str) -> tuple[Part, ...]:
    """Sections below the headings of an order; those that no heading names come before the last.

    Args:
        sections: in the report's own order.
        order: a key of ``ORDERS``.
    """
    headings = ORDERS[order]
    if not headings:
        return (Part("", tuple(sections)),)
    named = {name for heading in headings for name in heading.sections}
    rest = tuple(each for each in sections if each.name not in named)
    by_name = {each.name: each for each in sections}
    parts = [
        Part(h.title, tuple(by_name[n] for n in h.sections if n in by_name), h.note)
        for h in headings
    ]
    if rest:
        parts.insert(len(parts) - 1, Part(REST, rest))
    return tuple(parts)
