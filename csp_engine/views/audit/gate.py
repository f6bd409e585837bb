"""Conditions under which an audit fails: read from a line, judged by what a bundle holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.reading.tables import singular_key
from csp_engine.views.audit.associations import Sought, layers_with, sought_in, suspect_units
from csp_engine.views.audit.interventions import effects
from csp_engine.views.sentence import listed
from csp_engine.words.concepts import ConceptSet

MOST_NAMED = 8
"""Columns that a sentence names; of more it gives the number."""
SUBJECTS = ("effect", "association", "suspects")
_CONDITION = re.compile(
    r"\s*(?P<subject>[a-z]+)\b\s*:?\s*(?P<name>.*?)\s*(?P<sign>[<>])\s*"
    r"(?P<bound>[-+−]?(?:\d+\.?\d*|\.\d+))\s*",
    re.DOTALL,
)
_EXAMPLE = "such as 'effect colour patch < -0.5', 'association ruler > 0.9' or 'suspects > 0'"


@dataclass(frozen=True, slots=True)
class Condition:
    """``effect NAME < x``, ``association NAME > x``, or ``suspects [NAME] > n``."""

    text: str
    subject: str
    name: str
    is_above: bool
    bound: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A condition and what it met: ``fails`` if it holds, for then the audit fails."""

    condition: Condition
    fails: bool
    sentence: str
    figures: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return numbers.plain_json(
            {
                "condition": self.condition.text,
                "fails": self.fails,
                "sentence": self.sentence,
                **self.figures,
            }
        )


def read_condition(text: str) -> Condition:
    """A condition from its line.

    Raises:
        InputError: if it is none.
    """
    found = _CONDITION.fullmatch(text)
    if found is None or found["subject"] not in SUBJECTS:
        raise InputError(f"{text!r} is no condition for --fail-if; give one {_EXAMPLE}.")
    subject, name = found["subject"], found["name"].strip().strip("\"'")
    bound = float(found["bound"].replace("−", "-"))
    is_above = found["sign"] == ">"
    if subject != "suspects" and not name:
        raise InputError(f"{text!r} does not say of what; give a condition {_EXAMPLE}.")
    if subject != "effect" and not is_above:
        raise InputError(
            f"{text!r} would fail where little is found; {subject} can only be asked with '>'."
        )
    if subject == "association" and not 0 <= bound < 1:
        raise InputError(f"{text!r} asks for {bound:g}; an AUROC lies between 0 and 1.")
    if subject == "suspects" and (bound < 0 or bound != int(bound)):
        raise InputError(f"{text!r} asks for {bound:g}; suspects are counted in whole numbers.")
    return Condition(text.strip(), subject, name, is_above, bound)


def judge(
    bundle: Bundle,
    model: str,
    layers: Sequence[str],
    conditions: Sequence[Condition],
    concepts: ConceptSet,
) -> list[Judged]:
    """What each condition meets.

    An effect meets its bound if its whole 95 % interval lies beyond it; an association if the lower
    end of the best neuron's interval does, in any of the layers.

    Raises:
        InputError: if the bundle does not hold what a condition asks for, or lacks its name.
    """
    return [_judged(bundle, model, layers, each, concepts) for each in conditions]


def _judged(
    bundle: Bundle, model: str, layers: Sequence[str], condition: Condition, concepts: ConceptSet
) -> Judged:
    if condition.subject == "effect":
        return _effect(bundle, model, condition)
    held = [layer for layer in layers if layer in layers_with(bundle, model)]
    if not held:
        raise InputError(
            f"No associations were looked for in {', '.join(layers)} of {model}, which "
            f"{condition.text!r} asks for; build with a table that has columns of 0 and 1."
        )
    sought = {layer: sought_in(bundle, model, layer, concepts) for layer in held}
    known = [each.name for each in sought[held[0]] if each.kind == "concept"]
    condition = replace(condition, name=_called(condition.name, known))
    if condition.name and condition.name not in known:
        raise InputError(
            f"There is no concept column {condition.name!r}, which {condition.text!r} asks for; "
            f"there are {', '.join(known)}."
        )
    if condition.subject == "suspects":
        return _suspects(bundle, model, condition, sought)
    rows = [(layer, each) for layer, found in sought.items() for each in found
            if each.kind == "concept" and each.name == condition.name]  # fmt: skip
    tried = [(layer, each) for layer, each in rows if each.is_tried]
    if not tried:
        each = rows[0][1]
        raise InputError(
            f"{condition.name} was not tried ({each.n_with} images or groups show it, "
            f"{each.n_without} do not), so {condition.text!r} cannot be judged; give more images."
        )
    layer, best = max(tried, key=lambda pair: pair[1].best.low)
    fails = best.best.low > condition.bound
    return Judged(
        condition,
        fails,
        f"Of all neurons of {', '.join(held)}, {layer}/{best.best_unit} goes with "
        f"{condition.name} most surely: AUROC {best.best.words}.",
        {
            "neuron": f"{model}/{layer}/{best.best_unit}",
            "value": best.best.value,
            "low": best.best.low,
            "high": best.best.high,
        },
    )


def _called(name: str, known: Iterable[str]) -> str:
    """The name that is meant, whatever its case and number; as it was where there is none."""
    alike = [each for each in known if singular_key(each) == singular_key(name)]
    return name if name in alike or not alike else alike[0]


def _suspects(
    bundle: Bundle, model: str, condition: Condition, sought: dict[str, tuple[Sought, ...]]
) -> Judged:
    """Neurons that are suspects of one column, or of all in question, each counted once.

    Raises:
        InputError: if none of these columns was tried, so that nothing could have been found.
    """
    asked = [
        each
        for found in sought.values()
        for each in found
        if (each.name == condition.name and each.kind == "concept")
        or (not condition.name and each.is_in_question)
    ]
    names = list(dict.fromkeys(each.name for each in asked if each.is_tried))
    untried = list(dict.fromkeys(each.name for each in asked if each.name not in names))
    if not names:
        of = listed(untried) or "No column that should not matter"
        raise InputError(
            f"{of} was not tried for want of images, so {condition.text!r} cannot be judged; give "
            "more images that show it and that do not."
        )
    counts = {layer: len(suspect_units(bundle, model, layer, names)) for layer in sought}
    n = sum(counts.values())
    of = listed(names, "or") if len(names) <= MOST_NAMED else f"{len(names)} columns"
    told = ", ".join(f"{count} in {layer}" for layer, count in counts.items())
    neurons = "neuron is a suspect" if n == 1 else "neurons are suspects"
    return Judged(
        condition,
        n > condition.bound,
        f"{numbers.count(n)} {neurons} of {of}: {told}."
        + (f" Not tried for want of images: {listed(untried)}." if untried else ""),
        {"value": n, "by_layer": counts, "columns": names, "untried": untried},
    )


def _effect(bundle: Bundle, model: str, condition: Condition) -> Judged:
    stored = bundle.intervention(model)
    if stored is None:
        raise InputError(
            f"No pairs of images were tried on {model}, which {condition.text!r} asks for; measure "
            "some with 'csp intervene BUNDLE --pairs TABLE'."
        )
    found = {each.artefact: each for each in effects(stored)}
    condition = replace(condition, name=_called(condition.name, found))
    if condition.name not in found:
        raise InputError(
            f"No effect of {condition.name!r} was measured, which {condition.text!r} asks for; "
            f"there are {', '.join(found)}."
        )
    effect = found[condition.name]
    if effect.is_withheld:
        raise InputError(
            f"{effect.sentence(stored.output)} So {condition.text!r} cannot be judged."
        )
    own = effect.effect
    fails = own.low > condition.bound if condition.is_above else own.high < condition.bound
    return Judged(
        condition,
        fails,
        f"Adding {condition.name} changes the log-odds of {stored.output} in {model} by "
        f"{own.signed}, over {numbers.count(effect.n_pairs)} pairs.",
        {"value": own.value, "low": own.low, "high": own.high},
    )
