"""What a start page tells first of a bundle whose networks were tried: one decision that turns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.views.audit.interventions import (
    Audited,
    Effect,
    Suspect,
    audited,
    effects,
    models_with,
    pictures,
)
from csp_engine.views.memo import Memo

N_CARRIERS = 3
"""Neurons that the start page shows: the strongest carriers, in one row, so that it also has room
for a search."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One version of a photograph: its picture, and what the network said of it.

    ``share`` is the probability of the output, that of its log-odds.
    """

    version: str
    picture: int
    share: float
    is_called: bool

    def told(self, output: str) -> str:
        """The decision and how sure it was: ``called melanoma (48 %)``."""
        return f"{'' if self.is_called else 'not '}called {output} ({_unbroken(self.share)})"


@dataclass(frozen=True, slots=True)
class Story:
    """The artefact that turns most decisions of a network, seen once, and who carries it.

    ``pair`` is one photograph without and with the artefact whose decision turns with it, and not
    with the neutral paste; None where no picture of one is kept. ``n_pairs_shown`` such pairs have
    pictures, of which it is the middle one by effect. ``others`` are the effects of the same
    artefact on the other networks, measured on the same photographs.
    """

    model: str
    output: str
    images: str
    found: Audited
    pair: tuple[Shot, Shot] | None
    n_pairs_shown: int
    others: Mapping[str, Effect]

    @property
    def artefact(self) -> str:
        """What was added to the photographs."""
        return self.found.effect.artefact

    @property
    def carriers(self) -> tuple[Suspect, ...]:
        """The strongest carriers, as many as the start page shows."""
        return self.found.suspects[:N_CARRIERS]

    @property
    def headline(self) -> str:
        """In one line, what the network does when the artefact is added."""
        effect = self.found.effect
        start = f"{self.artefact[:1].upper()}{self.artefact[1:]} added: "
        if effect.effect.value < 0 and effect.n_lost:
            n_lost, n_called = numbers.count(effect.n_lost), numbers.count(effect.n_called)
            return f"{start}{n_lost} of {n_called} {self.output} decisions are lost"
        if effect.effect.value > 0 and effect.n_gained:
            n_others = numbers.count(effect.n_pairs - effect.n_called)
            return f"{start}{numbers.count(effect.n_gained)} of {n_others} turn into {self.output}"
        way = "falls" if effect.effect.value < 0 else "rises"
        return f"{start}the score of {self.output} {way}, and no decision turns"

    @property
    def tried(self) -> str:
        """What was done to find it."""
        effect = self.found.effect
        other = "without"
        if effect.has_neutral:
            other = "with a neutral paste of the same shape in its place"
        return (
            f"The network “{self.model}” saw {numbers.count(effect.n_pairs)} photographs twice, "
            f"once with {self.artefact} and once {other}. Nothing else differed."
        )

    @property
    def carried(self) -> str:
        """How many neurons do it, and how that was checked; or that no small set does."""
        scope = self.found.scope
        if scope is None:
            return "No set of up to fifty neurons of one layer carries half of the effect."
        (best,) = (each for each in scope.strongest if each.n_units == scope.n_carriers)
        is_one = best.n_units == 1
        told = (
            f"{numbers.count(best.n_units)} of the {numbers.count(scope.n_units)} neurons of "
            f"{scope.layer} carr{'ies' if is_one else 'y'} it: where "
            f"{'it alone keeps the value it' if is_one else 'these alone keep the values they'} "
            f"had without {self.artefact}, {_percent(best.necessity.value)} of the effect "
            f"is gone ({_percent(best.necessity.low)} to {_percent(best.necessity.high)})"
        )
        if scope.random_most is None:
            return f"{told}."
        return (
            f"{told}; no random set of {scope.random_size} takes away more than "
            f"{_percent(scope.random_most)}."
        )

    @property
    def compared(self) -> str:
        """What the same artefact does to the other networks; empty without any."""
        told = []
        for name, effect in self.others.items():
            turned = effect.n_lost if self.found.effect.effect.value < 0 else effect.n_gained
            of = effect.n_called if self.found.effect.effect.value < 0 else _n_others(effect)
            told.append(
                f"In “{name}” the same turns {numbers.count(turned)} of "
                f"{numbers.count(of)}: an effect of {effect.effect.signed}, against "
                f"{self.found.effect.effect.signed}."
            )
        return " ".join(told)


def story_of(bundle: Bundle, memo: Memo, method: str) -> Story | None:
    """The story of a bundle; None where no pairs of photographs were tried, or none had an effect.

    Of all artefacts and networks it is the one that turns the largest share of decisions; what was
    compared with a neutral paste comes before what was not, which may be a true sign of a disease.
    """
    return memo.once(("story", bundle.digest, method), lambda: _story(bundle, method))


def _story(bundle: Bundle, method: str) -> Story | None:
    tried = {model: bundle.intervention(model) for model in models_with(bundle)}
    known = {
        (model, effect.artefact): effect
        for model, stored in tried.items()
        if stored is not None
        for effect in effects(stored)
    }
    shown = {key: each for key, each in known.items() if each.verdict in ("raises", "lowers")}
    if not shown:
        return None
    model, artefact = max(shown, key=lambda key: _order(shown[key]))
    stored = tried[model]
    assert stored is not None
    found = audited(bundle, model, artefact, method)
    assert found is not None
    turning = _turning(stored, found.effect)
    middle = turning[(len(turning) - 1) // 2] if turning else None
    others = {
        name: known[name, artefact]
        for name, other in tried.items()
        if name != model
        and other is not None
        and (other.output, other.images) == (stored.output, stored.images)
        and (name, artefact) in known
        and not known[name, artefact].is_withheld
    }
    return Story(model, stored.output, stored.images, found, _shots(middle), len(turning), others)


def _order(effect: Effect) -> tuple[bool, float, float]:
    turned, of = (
        (effect.n_lost, effect.n_called)
        if effect.effect.value < 0
        else (effect.n_gained, _n_others(effect))
    )
    return effect.has_neutral, turned / max(of, 1), abs(effect.effect.value)


def _n_others(effect: Effect) -> int:
    """Photographs that the network did not decide for the output."""
    return effect.n_pairs - effect.n_called


def _turning(stored: StoredIntervention, effect: Effect) -> list[dict[str, Any]]:
    """Pictured pairs whose decision turns with the artefact, the way of the effect; by effect."""
    is_lost = effect.effect.value < 0
    return [
        row
        for row in pictures(stored, effect)
        if {"without", "with"} <= row["called"].keys()
        and row["called"]["with"] != is_lost
        and all(called == is_lost for version, called in row["called"].items() if version != "with")
    ]


def _shots(row: Mapping[str, Any] | None) -> tuple[Shot, Shot] | None:
    if row is None:
        return None
    before, after = (
        Shot(
            version,
            row["picture"][version],
            1 / (1 + math.exp(-row["score"][version])),
            row["called"][version],
        )
        for version in ("without", "with")
    )
    return before, after


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%".replace("-", "−")


def _unbroken(share: float) -> str:
    """A share that no line breaks off from its sign."""
    return numbers.share(share).replace(" ", "\u00a0")
