"""What published checklists ask of a report on explanations, each answered from the bundle."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.exports.report.asked import Asked, Chapter, words
from csp_engine.exports.report.document import Block, Table
from csp_engine.exports.report.sections.maps import checked_layers
from csp_engine.views.sentence import listed


def make(asked: Asked) -> tuple[Block, ...]:
    """A row for each question."""
    has_pairs = asked.stored is not None
    answers = (
        ("Are maps compared with those of random weights?", _maps(asked)),
        ("Is it measured how well maps find a place?", _maps(asked)),
        ("Is a map offered as validation?", "no"),
        (
            "Were examples picked by a rule?",
            "yes; the rule stands with each set of pictures" if has_pairs else "none are shown",
        ),
        (
            "Are effects measured by intervention?",
            "yes, against the same photograph" if has_pairs else "no",
        ),
        (
            "Do figures have intervals and counts?",
            "effects, shares of effects and rates do; influence and alignment of a neuron do not",
        ),
        ("Are photographs of one group drawn together?", _groups(asked)),
        ("Is it said what was not tested?", "yes, in its own section"),
        ("Does every figure name a file and its sha256?", "yes, by the numbers in brackets"),
    )
    rows = tuple((words(asks), words(answer)) for asks, answer in answers)
    return (Table("Asked of any such report", ("question", "answer"), rows, (asked.manifest,)),)


def _maps(asked: Asked) -> str:
    layers = checked_layers(asked)
    if not layers:
        return "no map is shown, so none needs it"
    return f"yes, in {listed(layers)}"


def _groups(asked: Asked) -> str:
    if asked.stored is None:
        return "no photographs were drawn"
    n_groups = int(asked.stored.pairs["group"].nunique())
    return f"yes, {numbers.count(n_groups)} groups"


CHECKLIST = Chapter("checklist", "What a reviewer asks", make)
