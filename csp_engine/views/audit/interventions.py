"""What adding an artefact to photographs does to an output, and which neurons carry it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredIntervention, kinds
from csp_engine.evaluation.paired_effects import IN_HALVES
from csp_engine.types import APART, NeuronRef
from csp_engine.views.audit.figures import NONE, Figure, figure
from csp_engine.views.audit.gates import Gate, gates
from csp_engine.views.neuron.label import BestLabel, best_label
from csp_engine.views.sentence import listed

HALF = 0.5
"""A set carries an effect if this share leaves with it and comes with it, by lower bounds."""
N_SUSPECTS = 20
MOST_NAMED = 8
"""Outputs that a sentence names."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one artefact does to the output, over pairs of photographs.

    ``change`` is with less without, ``neutral`` the same for a paste of neutral texture, ``effect``
    with less what it is compared with: the neutral version where there is one. ``gate`` says
    whether a pasted artefact may stand for the real one; None where nothing was pasted.
    ``why_withheld`` says as a clause why no effect is claimed, empty if one may be: the pairs are
    of too few groups, or pasted ones cannot stand for the real artefact. Then figures are unknown
    and decisions are not counted, so that nothing can show them.
    """

    artefact: str
    n_pairs: int
    n_groups: int
    has_neutral: bool
    effect: Figure
    change: Figure
    neutral: Figure
    n_called: int
    n_lost: int
    n_gained: int
    gate: Gate | None = None
    why_withheld: str = ""

    @property
    def is_withheld(self) -> bool:
        """Whether no effect is claimed."""
        return bool(self.why_withheld)

    @property
    def verdict(self) -> str:
        """In a word: whether the output answers to it, and which way."""
        if self.is_withheld:
            return "withheld"
        if not self.effect.is_away_from_zero:
            return "not shown"
        return "raises" if self.effect.value > 0 else "lowers"

    def sentence(self, output: str) -> str:
        """What was seen, as one would say it."""
        if self.is_withheld:
            pasted = "" if self.gate is None else "pasted "
            return f"The effect of {pasted}{self.artefact} is withheld: {self.why_withheld}."
        than = "than the same paste of neutral texture" if self.has_neutral else ""
        over = f"{numbers.count(self.n_pairs)} pairs"
        if not self.effect.is_away_from_zero:
            most = max(abs(self.effect.low), abs(self.effect.high))
            return (
                f"No effect of {self.artefact} on {output} was shown: {self.effect.signed} in "
                f"log-odds over {over}, so one of {most:.2f} or more either way is unlikely."
            )
        way = "raises" if self.effect.value > 0 else "lowers"
        told = (
            f"Adding {self.artefact} {way} the log-odds of {output} by {_size(self.effect)}"
            f"{' more ' + than if than else ''}, over {over}."
        )
        return f"{told} {self.decisions(output)}"

    def decisions(self, output: str) -> str:
        """How many decisions turn."""
        n_others = self.n_pairs - self.n_called
        if self.effect.value < 0:
            return (
                f"Of {numbers.count(self.n_called)} photographs called {output}, "
                f"{numbers.count(self.n_lost)} are no longer."
            )
        return (
            f"Of {numbers.count(n_others)} photographs not called {output}, "
            f"{numbers.count(self.n_gained)} then are."
        )


@dataclass(frozen=True, slots=True)
class Swapped:
    """Part of a layer, and the share of the effect that leaves with it and comes with it."""

    n_units: int
    necessity: Figure
    sufficiency: Figure

    @property
    def carries(self) -> bool:
        """Whether at least half of the effect leaves with it, and half comes with it alone."""
        return self.necessity.low >= HALF and self.sufficiency.low >= HALF


@dataclass(frozen=True, slots=True)
class Asked:
    """A part of a layer that somebody gave, by name: neurons, or what directions span."""

    name: str
    layer: str
    n_directions: int
    swapped: Swapped

    @property
    def words(self) -> str:
        """As ``patches: 3 directions of layer4@mean``."""
        n = self.n_directions or self.swapped.n_units
        what = "direction" if self.n_directions else "neuron"
        return f"{self.name}: {numbers.count(n)} {what}{'s' * (n != 1)} of {self.layer}"


@dataclass(frozen=True, slots=True)
class Carried:
    """How much of an effect passes through parts of one layer.

    ``strongest`` holds the strongest carriers by size, ``direction`` the direction of the mean
    change, ``random_most`` the largest share that leaves with any of ``n_random`` random sets of
    ``random_size`` units; None where that was not tried. ``n_carriers`` is the smallest size tried
    that carries half of the effect, None where none does.
    """

    layer: str
    n_units: int
    strongest: tuple[Swapped, ...]
    direction: Swapped | None
    random_most: float | None
    n_random: int
    random_size: int

    @property
    def n_carriers(self) -> int | None:
        """The smallest number of neurons tried that carries half of the effect, either way."""
        sizes = [each.n_units for each in self.strongest if each.carries]
        return min(sizes, default=None)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A neuron by how much of the effect the first-order estimate gives it.

    ``share`` is its part of all that is estimated for its layer and has the sign of the effect;
    ``confirmed`` the same estimate and ``moved`` the change of its mean activation, on the half of
    the pairs that ranked nothing, unknown in older bundles; ``truth`` the concept that it was
    measured to respond to, ``none``, or empty where unknown.
    """

    neuron: NeuronRef
    label: BestLabel
    attribution: float
    share: float
    confirmed: Figure
    moved: Figure
    truth: str


@dataclass(frozen=True, slots=True)
class Audited:
    """One artefact: its effect, what carries it by layer, and the suspects of the best layer.

    ``given`` are parts of layers that somebody asked about.
    """

    effect: Effect
    layers: tuple[Carried, ...]
    scope: Carried | None
    suspects: tuple[Suspect, ...]
    given: tuple[Asked, ...] = ()


def models_with(bundle: Bundle) -> tuple[str, ...]:
    """Models of which pairs of images were tried."""
    return tuple(m for m in bundle.model_names if bundle.has(kinds.INTERVENTION.name(m)))


def effects(stored: StoredIntervention) -> tuple[Effect, ...]:
    """The effect of every artefact, the largest first."""
    held = gates(stored)
    rows = [
        _effect(row, held.get(str(row["artefact"]))) for row in stored.effects.to_dict("records")
    ]
    return tuple(
        sorted(rows, key=lambda each: (each.is_withheld, -abs(np.nan_to_num(each.effect.value))))
    )


def tried_artefacts(bundle: Bundle) -> list[str]:
    """Everything that was added to photographs, the largest effect on any network first."""
    largest: dict[str, float] = {}
    for model in models_with(bundle):
        stored = bundle.intervention(model)
        assert stored is not None
        for effect in effects(stored):
            size = 0.0 if effect.is_withheld else abs(effect.effect.value)
            largest[effect.artefact] = max(largest.get(effect.artefact, 0.0), size)
    return sorted(largest, key=lambda name: -largest[name])


def compared_models(
    bundle: Bundle, model: str, stored: StoredIntervention
) -> dict[str, dict[str, Effect]]:
    """Effects on other models of the same output over the same images, by model and artefact."""
    return {
        name: {each.artefact: each for each in effects(held)}
        for name in models_with(bundle)
        if name != model
        and (held := bundle.intervention(name)) is not None
        and (held.output, held.images) == (stored.output, stored.images)
    }


def audited(bundle: Bundle, model: str, artefact: str, method: str) -> Audited | None:
    """All that is known of one artefact; None where it was not tried."""
    stored = bundle.intervention(model)
    if stored is None:
        return None
    found = next((each for each in effects(stored) if each.artefact == artefact), None)
    if found is None:
        return None
    if found.is_withheld:
        return Audited(found, (), None, ())
    layers = carried_by(bundle, stored, model, artefact)
    scope = narrowest(layers)
    suspects: tuple[Suspect, ...] = ()
    if scope is not None:
        suspects = _suspects(bundle, stored, model, scope.layer, found, method)
    return Audited(found, layers, scope, suspects, _given(stored, artefact))


def narrowest(layers: tuple[Carried, ...]) -> Carried | None:
    """The layer in which fewest neurons carry half of the effect; the larger share breaks ties.

    None where no layer has such a set.
    """
    fitting = [each for each in layers if each.n_carriers is not None]

    def order(each: Carried) -> tuple[int, float]:
        size = each.n_carriers
        assert size is not None
        (own,) = (s.necessity.value for s in each.strongest if s.n_units == size)
        return size, -own

    return min(fitting, key=order, default=None)


def carrier_sentence(audited_: Audited, output: str) -> str:
    """Which neurons carry the effect, how surely, against what; or that none were found."""
    if audited_.effect.is_withheld:
        return "Where an effect is withheld, nothing is said of what carries it."
    if not audited_.effect.effect.is_away_from_zero:
        return "Where there may be no effect, nothing can be said to carry it."
    told = []
    scope = audited_.scope
    if scope is None:
        told.append("No set of up to fifty neurons of one layer carries half of it.")
    else:
        (best,) = (s for s in scope.strongest if s.n_units == scope.n_carriers)
        neurons = "One neuron" if best.n_units == 1 else f"{best.n_units} neurons"
        told.append(
            f"{neurons} of the {numbers.count(scope.n_units)} of {scope.layer} "
            f"{'carries' if best.n_units == 1 else 'carry'} it: with their activations taken from "
            f"the other version, {best.necessity.share} of the effect is gone; "
            f"{best.sufficiency.share} of it comes with them alone."
        )
        if scope.random_most is not None:
            weak = " (fewer, so a weaker control)" if scope.random_size < best.n_units else ""
            of = f"of {scope.random_size} neurons{weak} as active and as influential"
            most = f"{scope.random_most:.2f}".replace("-", "−")
            told.append(
                f"One random set {of} removes {most}."
                if scope.n_random == 1
                else f"Of {scope.n_random} random sets {of}, none removes more than {most}."
            )
    directions = [
        (each.layer, each.direction)
        for each in audited_.layers
        if each.direction is not None and each.direction.carries
    ]
    if directions:
        layer, best_direction = max(directions, key=lambda each: each[1].necessity.value)
        told.append(
            f"A single direction of {layer} carries {best_direction.necessity.share} of it."
        )
    return " ".join(told)


def conclusion(output: str, found: tuple[Effect, ...]) -> str:
    """What moves the output and what was not shown to, in a sentence or two."""
    told = []
    for way in ("lowers", "raises"):
        own = [each.artefact for each in found if each.verdict == way]
        if own:
            verb = f"{way[:-1]}s" if len(own) == 1 else way[:-1]
            told.append(f"{listed(own)} {verb} the score of {output}")
    none = [each.artefact for each in found if each.verdict == "not shown"]
    sentence = "; ".join(told)
    text = f"{sentence[:1].upper()}{sentence[1:]}." if told else ""
    if none:
        text += f" No effect of {listed(none, 'or')} was shown."
    withheld = [each for each in found if each.is_withheld]
    few = [each.artefact for each in withheld if each.n_groups < IN_HALVES]
    pasted = [each.artefact for each in withheld if each.artefact not in few]
    if few:
        text += f" Pairs of {listed(few)} are of too few groups to say anything."
    if pasted:
        verb = "does" if len(pasted) == 1 else "do"
        text += f" Pasted {listed(pasted)} {verb} not pass for real, so nothing is said of it."
    return text.strip()


def one_output(bundle: Bundle, model: str, output: str) -> str:
    """That one output of a network is followed, and how to follow another; empty of one alone."""
    described = bundle.manifest.inputs.get("models", {}).get(model, {})
    are_apart = any(APART in str(notice) for notice in described.get("notices") or ())
    return one_of(described.get("class_names") or (), model, output, are_apart=are_apart)


def one_of(names: Sequence[str], model: str, output: str, *, are_apart: bool = False) -> str:
    """The same of outputs that are named; ``are_apart`` if each is a yes or no of its own."""
    others = [str(name) for name in names if name != output]
    if not others:
        return ""
    if len(others) == 1 and not are_apart:
        return (
            f"{model} has two outputs: what raises the log-odds of {output} lowers those of "
            f"{others[0]} by as much."
        )
    few = ", ".join(others[:MOST_NAMED]) + (", …" if len(others) > MOST_NAMED else "")
    return (
        f"This is about {output}, one of the {numbers.count(len(names))} outputs of {model}. For "
        f"another ({few}), run 'csp intervene … --output NAME' on a copy of the bundle; on this "
        "bundle it would replace what is shown here."
    )


def pictures(stored: StoredIntervention, effect: Effect) -> list[dict[str, Any]]:
    """Pairs of an artefact that have pictures, by effect: scores, decisions, ``picture``s.

    Where the effect is withheld they have neither ``effect`` nor scores nor decisions.
    """
    own = np.flatnonzero((stored.pairs["artefact"] == effect.artefact).to_numpy())
    shown = stored.shown[stored.shown["pair"].isin(own)]
    foil = "neutral" if effect.has_neutral else "without"
    rows = []
    for pair, group in shown.groupby("pair", sort=False):
        row = stored.pairs.iloc[int(str(pair))]
        told = {} if effect.is_withheld else {
            "effect": float(row["score_with"] - row[f"score_{foil}"]),
            "called": {v: bool(row[f"is_called_{v}"]) for v in group["version"]},
            "score": {v: float(row[f"score_{v}"]) for v in group["version"]},
        }  # fmt: skip
        rows.append(
            {
                "file": str(row["file"]),
                "picture": {
                    str(v): int(at) for at, v in zip(group.index, group["version"], strict=True)
                },
                **told,
            }
        )
    return sorted(rows, key=lambda each: each.get("effect", 0.0))


def as_json(bundle: Bundle, model: str, method: str) -> dict[str, Any]:
    """All of it, as plain data."""
    stored = bundle.intervention(model)
    assert stored is not None
    rows = []
    for effect in effects(stored):
        found = audited(bundle, model, effect.artefact, method)
        assert found is not None
        rows.append(
            {
                **effect_json(effect),
                "layers": [_carried_json(each) for each in found.layers],
                "given": [
                    {
                        "name": each.name,
                        "layer": each.layer,
                        "n_directions": each.n_directions or None,
                        **_swapped_json(each.swapped),
                    }
                    for each in found.given
                ],
                "scope": None if found.scope is None else found.scope.layer,
                "suspects": [
                    {
                        "neuron": f"{s.neuron.model}/{s.neuron.layer}/{s.neuron.unit}",
                        "attribution": s.attribution,
                        "share": s.share,
                        "confirmed": s.confirmed.as_json(),
                        "moved": s.moved.as_json(),
                        "label": s.label.text if s.label.is_named else None,
                        "truth": s.truth or None,
                    }
                    for s in found.suspects
                ],
            }
        )
    return {"model": model, "output": stored.output, "images": stored.images, "artefacts": rows}


def effect_json(effect: Effect) -> dict[str, Any]:
    """What one artefact does, without what carries it, as plain data.

    Of a withheld effect, the reason: figures and decisions are None.
    """
    return {
        "artefact": effect.artefact,
        "n_pairs": effect.n_pairs,
        "n_groups": effect.n_groups,
        "withheld": effect.why_withheld or None,
        "compared_with": "neutral" if effect.has_neutral else "without",
        **{name: getattr(effect, name).as_json() for name in ("effect", "change", "neutral")},
        "gate": None if effect.gate is None else effect.gate.as_json(),
        **{
            name: None if effect.is_withheld else getattr(effect, name)
            for name in ("n_called", "n_lost", "n_gained")
        },
    }


def _swapped_json(each: Swapped) -> dict[str, Any]:
    return {
        "n_units": each.n_units,
        "necessity": each.necessity.as_json(),
        "sufficiency": each.sufficiency.as_json(),
    }


def _carried_json(carried: Carried) -> dict[str, Any]:
    return {
        "layer": carried.layer,
        "strongest": [_swapped_json(each) for each in carried.strongest],
        "direction": None if carried.direction is None else _swapped_json(carried.direction),
        "random_most": carried.random_most,
        "n_random": carried.n_random,
        "random_size": carried.random_size,
    }


def _effect(row: Mapping[Any, Any], gate: Gate | None) -> Effect:
    n_pairs, n_groups = int(row["n_pairs"]), int(row["n_groups"])
    why = "" if gate is None else gate.why_withheld
    if n_groups < IN_HALVES:
        why = (
            f"its {numbers.count(n_pairs)} pairs are of {numbers.count(n_groups)} "
            f"group{'s' * (n_groups != 1)} (lesions, patients or photographs), and {IN_HALVES} are "
            "needed; give more with 'csp intervene --pairs'"
        )
    figures = (NONE, NONE, NONE)
    counts = (0, 0, 0)
    if not why:
        figures = figure(row, "effect"), figure(row, "change"), figure(row, "neutral")
        counts = int(row["n_called"]), int(row["n_lost"]), int(row["n_gained"])
    return Effect(
        str(row["artefact"]),
        n_pairs,
        n_groups,
        row["foil"] == "neutral",
        *figures,
        *counts,
        gate,
        why,
    )


def _swapped(row: Mapping[Any, Any]) -> Swapped:
    return Swapped(int(row["n_units"]), figure(row, "necessity"), figure(row, "sufficiency"))


def _given(stored: StoredIntervention, artefact: str) -> tuple[Asked, ...]:
    if stored.given is None:
        return ()
    own = stored.given[stored.given["artefact"] == artefact]
    return tuple(
        Asked(str(row["name"]), str(row["layer"]), int(row["n_directions"]), _swapped(row))
        for row in own.to_dict("records")
    )


def carried_by(
    bundle: Bundle, stored: StoredIntervention, model: str, artefact: str
) -> tuple[Carried, ...]:
    """How much of an artefact's effect passes through parts of every layer."""
    own: pd.DataFrame = stored.sets[stored.sets["artefact"] == artefact]
    found = []
    for layer, rows in own.groupby("layer", sort=False):
        of = {what: group.to_dict("records") for what, group in rows.groupby("what", sort=False)}
        random = of.get("random", [])
        direction = of.get("direction", [])
        found.append(
            Carried(
                str(layer),
                bundle.n_units(model, str(layer)),
                tuple(_swapped(row) for row in of.get("strongest", [])),
                _swapped(direction[0]) if direction else None,
                max((float(row["necessity"]) for row in random), default=None),
                len(random),
                int(random[0]["n_units"]) if random else 0,
            )
        )
    return tuple(found)


def _suspects(
    bundle: Bundle,
    stored: StoredIntervention,
    model: str,
    layer: str,
    effect: Effect,
    method: str,
) -> tuple[Suspect, ...]:
    """The strongest carriers of a layer, as many as were tried together."""
    is_own = (stored.units["artefact"] == effect.artefact) & (stored.units["layer"] == layer)
    rows = stored.units[is_own]
    along_u = rows["attribution"].to_numpy(np.float64) * np.sign(effect.effect.value)
    order = np.argsort(-along_u, kind="stable")[:N_SUSPECTS]
    total = float(along_u[along_u > 0].sum()) or 1.0
    truth = bundle.truth(model, layer)
    named_u = None if truth is None else truth.units["true_concept"].to_numpy(object)
    found = []
    for at in order[along_u[order] > 0]:
        row = rows.iloc[at]
        unit = int(row["unit"])
        neuron = NeuronRef(model, layer, unit)
        said = "" if named_u is None else named_u[unit]
        found.append(
            Suspect(
                neuron,
                best_label(bundle, neuron, method),
                float(row["attribution"]),
                float(along_u[at]) / total,
                _within(row.to_dict(), "confirmed"),
                _within(row.to_dict(), "moved"),
                "none" if named_u is not None and pd.isna(said) else str(said),
            )
        )
    return tuple(found)


def _within(row: Mapping[Any, Any], name: str) -> Figure:
    """A figure of a neuron; unknown where the bundle is of before they were kept."""
    if name not in row:
        return NONE
    value, within = float(row[name]), float(row[f"{name}_within"])
    return Figure(value, value - within, value + within)


def _size(found: Figure) -> str:
    """An effect without its sign, and its interval likewise, the smaller end first."""
    ends = sorted((abs(found.low), abs(found.high)))
    return f"{abs(found.value):.2f} ({ends[0]:.2f} to {ends[1]:.2f})"
