"""What a neuron is called, what state it is in, and why it may have no name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from csp_engine.bundle import Bundle, KeptScores, kinds
from csp_engine.methods import METHODS, RELIABLE_AT, method_title
from csp_engine.methods.method import lacks_nothing
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.unsaid import WHY, WORDS, unsaid
from csp_engine.views.sentence import Sentence

NO_LABEL = "No reliable label"


@dataclass(frozen=True, slots=True)
class BestLabel:
    """What to call a neuron, and whether that means anything.

    ``score`` is NaN where it is not known. ``is_judged``: random image sets say how reliable the
    label is; they do not where it was imported, and then it stands as it was given.
    ``beats_chance``: it scores higher than the best labels of 95 % of them; some methods ask for
    more before they call it reliable.
    """

    text: str
    score: float
    is_reliable: bool
    is_judged: bool = True
    beats_chance: bool = False

    @property
    def is_named(self) -> bool:
        """Whether the label may stand as the neuron's name."""
        return bool(self.text) and (self.is_reliable or not self.is_judged)

    @property
    def title(self) -> str:
        """The label, or an honest word for having none."""
        if not self.text:
            return "no label"
        return self.text if self.is_named else f"unclear: {self.text}?"

    @property
    def heading(self) -> str:
        """What stands above everything about the neuron."""
        return self.text if self.is_named else NO_LABEL


@dataclass(frozen=True, slots=True)
class State:
    """A state of a unit worth a word, with the sentence that explains it."""

    word: str
    why: str


@dataclass(frozen=True, slots=True)
class Heading:
    """What stands above everything about a neuron; ``method`` is its title.

    ``reasons`` explain the states, and why there is no reliable label.
    """

    label: BestLabel
    method: str
    states: tuple[State, ...]
    reasons: tuple[Sentence, ...]


def best_label(bundle: Bundle, neuron: NeuronRef, method: str) -> BestLabel:
    """The first label of a method."""
    if method not in bundle.methods(neuron.model, neuron.layer):
        return BestLabel("", 0.0, False)
    scores = bundle.scores(neuron.model, neuron.layer, method)
    if not scores.count_u[neuron.unit]:
        return BestLabel("", 0.0, False)
    texts = bundle.method_labels(neuron.model, neuron.layer, method)["text"]
    percentile = float(scores.best_percentile_u[neuron.unit])
    return BestLabel(
        str(texts.iloc[int(scores.label_uk[neuron.unit, 0])]),
        float(scores.score_uk[neuron.unit, 0]),
        bool(scores.reliable_u[neuron.unit]),
        not math.isnan(percentile),
        beats_chance(percentile),
    )


def beats_chance(percentile: float) -> bool:
    """Whether a percentile, as bundles hold it in float32, is that of a reliable label."""
    return bool(np.float32(percentile) >= np.float32(RELIABLE_AT))


def own_test(method: str) -> str:
    """What labels have to pass to be reliable, by a test of the method's own; empty without one."""
    return METHODS[method].test if method in METHODS else ""


def when_reliable(method: str) -> str:
    """When a label of a method is called reliable: what can stand after "if it"."""
    if test := own_test(method):
        return f"passes its test {test}"
    beats = "scores higher than the best labels of 95 % of random image sets"
    if method in METHODS and METHODS[method].lacks is not lacks_nothing:
        return f"{beats} and passes the other checks of {method_title(method)}"
    return beats


def lacking(bundle: Bundle, neuron: NeuronRef, method: str) -> str:
    """What a label that beats chance lacks to be reliable: what can stand after "but"."""
    kept = KeptScores(bundle, neuron.model, neuron.layer, method)
    told = ""
    stored = kept.numbers_of(neuron.unit)
    if kept.method is not None and stored is not None:
        score_uk = bundle.scores(neuron.model, neuron.layer, method).score_uk
        stored["score"] = float(score_uk[neuron.unit, 0])
        told = kept.method.lacks(stored, {**kept.method.params, **kept.method_params})
    return told or f"{method_title(method)} asks for more (docs/methods.md)"


def not_judged(bundle: Bundle, neuron: NeuronRef, method: str) -> str:
    """Why nothing says how reliable a label is: a whole sentence."""
    record = bundle.stage(kinds.SCORES.name(neuron.model, neuron.layer, method))
    if record.params.get("imported"):
        table = record.facts.get("table", "another tool")
        return f"Imported from {table}: how reliable its labels are was not tested."
    if not bundle.has(kinds.NULL.name()):
        return "No random image sets to compare with."
    return f"No random image sets judge the scores of {method_title(method)}."


USUAL_FROM = 0.5
"""From this share of a layer on, being dense tells nothing of one of its neurons."""


def flags_of(units: pd.DataFrame) -> dict[str, Bool[np.ndarray, " u"]]:
    """The flags of a layer's units that say something: ``is_dense`` only where few of them are.

    Where maps of ReLUs are averaged, nearly every neuron is active on nearly every image.
    """
    names = ("is_constant", "is_dead", "is_dense", "never_positive")
    found = {
        name: units[name].to_numpy(bool) if name in units else np.zeros(len(units), bool)
        for name in names
    }
    if len(units) and found["is_dense"].mean() >= USUAL_FROM:
        found["is_dense"] = np.zeros(len(units), bool)
    return found


def states_of(flags: Mapping[str, Bool[np.ndarray, " u"]], unit: int) -> tuple[State, ...]:
    """States of a unit, by the flags of its layer."""
    named = (
        ("is_constant", State("constant", "It gives the same activation for every probe image.")),
        ("is_dead", State("dead", "It is zero on every probe image.")),
        ("is_dense", State("dense", "It is active on nearly every probe image.")),
        (
            "never_positive",
            State("never positive", "Its exemplars are the least negative images."),
        ),
    )
    found = tuple(state for key, state in named if flags[key][unit])
    # A constant unit may be zero everywhere or active everywhere, which says nothing more.
    return found[:1] if found and found[0].word == "constant" else found


def heading_of(bundle: Bundle, neuron: NeuronRef, method: str) -> Heading:
    """What to write above everything about a neuron."""
    label = best_label(bundle, neuron, method)
    states = states_of(flags_of(bundle.units(neuron.model, neuron.layer)), neuron.unit)
    unsaid_u = unsaid(bundle, neuron.model, neuron.layer, method)
    if unsaid_u is not None and unsaid_u[neuron.unit]:
        states = (*states, State(WORDS, WHY))
    reasons = [Sentence(state.why) for state in states]
    title = method_title(method)
    if not bundle.methods(neuron.model, neuron.layer):
        reasons.append(Sentence("No method has labelled this layer."))
    elif not label.text:
        reasons.append(
            Sentence(
                f"{title} has nothing to compare labels with: there are no exemplars, or nothing "
                "is left of them."
            )
        )
    elif not label.is_judged:
        reasons.append(Sentence(not_judged(bundle, neuron, method)))
    elif not label.is_reliable:
        sets = "the best labels of 95 % of random image sets of the same size"
        why = f"it does not score higher than {sets}."
        if own_test(method):
            why = f"it does not pass its test {own_test(method)}."
        elif label.beats_chance:
            why = f"it scores higher than {sets}, but {lacking(bundle, neuron, method)}."
        reasons.append(
            Sentence(f"The best {title} label, “", label.text, f"”, is not reliable: {why}")
        )
    return Heading(label, title, states, tuple(reasons))
