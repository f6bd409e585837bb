"""Units of a layer as groups: by their numbers, as a family, or by what fires together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.bundle.names import require_layer, require_neuron
from csp_engine.errors import InputError
from csp_engine.evaluation.associations.asking import groups_of
from csp_engine.evaluation.associations.cofiring import Cofiring, Cofirings, cofirings
from csp_engine.types import NeuronRef
from csp_engine.views.audit.figures import Figure
from csp_engine.views.audit.interventions import Audited, audited, effects
from csp_engine.views.memo import Memo
from csp_engine.views.neuron.label import BestLabel, best_label
from csp_engine.views.table.rows import neuron_table

MOST_NAMED = 5
N_MEMBERS = 3
"""Neurons that a group of what fires together is described by."""
_NUMBERS = re.compile(r"\d+(?:\s*,\s*\d+)*")
_FIRING = re.compile(r"firing\s+with\s+(\d+)")


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Units of one layer.

    ``name`` is that of the family or of what fires together, or lists the numbers; ``method`` is
    the one whose labels make the family, empty for others.
    """

    layer: str
    unit_k: np.ndarray
    name: str
    method: str = ""

    @property
    def chosen(self) -> str:
        """What chose its units, as a clause."""
        if self.method:
            return f"chosen as the family {self.name!r} by {self.method}"
        return f"chosen as those {self.name}" if _FIRING.fullmatch(self.name) else "named by hand"


def group_of(bundle: Bundle, memo: Memo, model: str, text: str, method: str) -> Group | None:
    """The units that ``LAYER:3,14``, ``LAYER:FAMILY`` or ``LAYER:firing with 14`` names.

    None where it names no layer. A family is one of ``csp_engine.views.table.families``: units
    whose reliable label by the method means the same as the wording that names it. ``firing with
    14`` is what fires together with unit 14.

    Args:
        bundle: that has the layer.
        memo: keeps the table of neurons.
        model: of the layer.
        text: what somebody wrote.
        method: whose labels make families; empty where the bundle has none.

    Raises:
        InputError: if the layer has no such unit or family, or nothing fires with the unit.
        LeftOutError: if what fires together is asked of a copy without activations.
    """
    layer, rest = next(
        ((each, text[len(each) + 1 :].strip()) for each in bundle.layers(model)
         if text.startswith(f"{each}:")), ("", ""),
    )  # fmt: skip
    if not rest:
        return None
    if _NUMBERS.fullmatch(rest):
        units = sorted({int(each) for each in rest.split(",")})
        require_neuron(bundle, NeuronRef(model, layer, units[-1]))
        return Group(layer, np.array(units, np.int64), ", ".join(map(str, units)))
    if firing_with := _FIRING.fullmatch(rest):
        own = _firing_with(bundle, memo, model, layer, int(firing_with[1]))
        return Group(layer, np.sort(own.unit_k).astype(np.int64), own.name)
    counts: dict[str, int] = {}
    if method:
        rows = neuron_table(bundle, memo, method)
        own = rows[(rows["model"] == model) & (rows["layer"] == layer)]
        found = own["unit"].to_numpy()[(own["family"] == rest).to_numpy(bool)]
        if len(found):
            return Group(layer, np.sort(found).astype(np.int64), rest, method)
        counts = own["family"].value_counts().to_dict()
    named = [f"{name} ({n})" for name, n in list(counts.items())[:MOST_NAMED] if n]
    there = f"its largest by {method} are {', '.join(named)}" if named else "it has none"
    raise InputError(
        f"{layer} of {model} has no family {rest!r}; {there}. Name one of them, or give numbers of "
        f"neurons, such as {layer}:3,14,15."
    )


def written(neurons: Iterable[NeuronRef]) -> str:
    """Neurons of one model as text, ``layer2@max:3,14; layer4@mean:7``, whose ``parts`` name them.

    Layers come in the order in which they are met.
    """
    units: dict[str, set[int]] = {}
    for each in neurons:
        units.setdefault(each.layer, set()).add(each.unit)
    return "; ".join(f"{layer}:{','.join(map(str, sorted(of)))}" for layer, of in units.items())


def parts(text: str) -> list[str]:
    """What stands between semicolons, each for ``group_of``."""
    return [part for each in text.split(";") if (part := each.strip())]


@dataclass(frozen=True, slots=True, eq=False)
class FiringGroup:
    """Neurons of a layer that fire together.

    ``together`` is their mean rank correlation on images that did not choose them; ``share`` the
    part of the effect of an artefact that is attributed to them, less what works against it, None
    where no artefact was named. ``members`` are those to whom most is attributed, else those that
    go best with the others; ``truths`` counts what they were measured to respond to, the commonest
    first, empty where that is not known.
    """

    name: str
    unit_k: np.ndarray
    together: Figure
    share: float | None
    members: tuple[tuple[NeuronRef, BestLabel], ...]
    truths: tuple[tuple[str, int], ...]

    @property
    def part(self) -> str:
        """The part of the effect, as a percentage."""
        if self.share is None:
            return numbers.UNKNOWN
        return f"{100 * self.share:z.0f} %".replace("-", "−")

    @property
    def answers(self) -> str:
        """What its neurons truly respond to, and how many to each."""
        return ", ".join(
            f"{'nothing that is known' if name == 'none' else name} ({n})"
            for name, n in self.truths
        )


@dataclass(frozen=True, slots=True)
class Firing:
    """What fires together in a layer: by part of an artefact's effect, else by size."""

    model: str
    layer: str
    n_units: int
    artefact: str
    found: Cofirings
    groups: tuple[FiringGroup, ...]

    @property
    def sentence(self) -> str:
        """How many groups there are, and which has most of the effect."""
        n, n_found = len(self.groups), self.found.n_found
        over = f"{numbers.count(self.found.n_confirming)} images that did not choose them"
        if not n:
            if not n_found:
                return f"No neurons of {self.layer} were found to fire together."
            return (
                f"Of {numbers.count(n_found)} groups of neurons of {self.layer} that seemed to "
                f"fire together, none does so on {over}."
            )
        groups = "One group" if n == 1 else f"{numbers.count(n)} groups"
        told = (
            f"{groups} of the {numbers.count(self.n_units)} neurons of {self.layer} "
            f"{'fires' if n == 1 else 'fire'} together, also on {over}."
        )
        first = self.groups[0]
        if first.share is None:
            return told
        if first.share <= 0:
            return f"{told} To none of them is a part of the effect of {self.artefact} attributed."
        return (
            f"{told} The largest part of the effect of {self.artefact}, {first.part} of what is "
            f"attributed to the layer's neurons, goes to the group {first.name}."
        )


def firing(
    bundle: Bundle, memo: Memo, model: str, layer: str, method: str, by: Audited | None = None
) -> Firing:
    """Groups of a layer's neurons that fire together.

    Args:
        bundle: that has the layer.
        memo: keeps what was found.
        model: of the layer.
        layer: whose neurons.
        method: whose labels name them; empty for none.
        by: an artefact by whose effect groups are ranked.

    Raises:
        InputError: if the images are of too few groups, or the layer has too many neurons.
        LeftOutError: if this copy of the bundle leaves activations out.
    """
    found = firing_in(bundle, memo, model, layer)
    along_u = None if by is None else _along(bundle, model, layer, by)
    truth = bundle.truth(model, layer)
    true_u = None if truth is None else truth.units["true_concept"].astype(object)
    groups = []
    for each in found.groups:
        share, order = None, each.unit_k
        if along_u is not None:
            share = float(along_u[each.unit_k].sum() / (along_u[along_u > 0].sum() or 1.0))
            order = each.unit_k[np.argsort(-along_u[each.unit_k], kind="stable")]
        members = [NeuronRef(model, layer, int(unit)) for unit in order[:N_MEMBERS]]
        counted = Counter() if true_u is None else Counter(true_u[each.unit_k].fillna("none"))
        groups.append(
            FiringGroup(
                each.name,
                each.unit_k,
                Figure(each.together.value, each.together.low, each.together.high),
                share,
                tuple((ref, best_label(bundle, ref, method)) for ref in members),
                tuple((str(name), n) for name, n in counted.most_common()),
            )
        )
    if along_u is not None:
        groups.sort(key=lambda each: -(each.share or 0.0))
    artefact = "" if by is None else by.effect.artefact
    return Firing(model, layer, bundle.n_units(model, layer), artefact, found, tuple(groups))


def layer_beside(bundle: Bundle, model: str, by: Audited) -> str:
    """The layer whose groups stand beside what carries an artefact's effect.

    That in which fewest neurons carry it, else the last; empty where nothing is attributed to any.
    """
    stored, effect = bundle.intervention(model), by.effect
    if stored is None or effect.is_withheld or not effect.effect.is_away_from_zero:
        return ""
    own = stored.units[stored.units["artefact"] == effect.artefact]
    if own.empty:
        return ""
    return str(own["layer"].iloc[-1]) if by.scope is None else by.scope.layer


def ranked_by(bundle: Bundle, model: str, artefact: str, method: str) -> Audited:
    """What is known of an artefact by whose effect groups are ranked.

    Raises:
        InputError: if it was not tried, or its effect is withheld or was not shown.
    """
    stored = bundle.intervention(model)
    if stored is None:
        raise InputError(
            f"No pairs of images were tried on {model}, so no effect is known to rank by; measure "
            "some with 'csp intervene', or name no artefact."
        )
    found = audited(bundle, model, artefact, method)
    if found is None:
        known = ", ".join(each.artefact for each in effects(stored))
        raise InputError(f"{artefact!r} was not tried on {model}; tried were {known}.")
    if not layer_beside(bundle, model, found):
        raise InputError(
            f"{found.effect.sentence(stored.output)} Nothing is attributed to neurons then; name "
            "no artefact."
        )
    return found


def firings(
    bundle: Bundle, memo: Memo, model: str, method: str, layer: str = "", artefact: str = ""
) -> list[Firing]:
    """Groups of a layer, by an artefact's effect where one is named.

    Without a layer they are those that stand beside the artefact's carriers; without either, beside
    those of every artefact whose effect was shown.

    Raises:
        InputError: as ``firing`` and ``ranked_by``, or if there is no such layer.
        LeftOutError: if this copy of the bundle leaves activations out.
    """
    if layer:
        require_layer(bundle, model, layer)
    if artefact:
        by = ranked_by(bundle, model, artefact, method)
        named = layer or layer_beside(bundle, model, by)
        return [firing(bundle, memo, model, named, method, by)]
    if layer:
        return [firing(bundle, memo, model, layer, method)]
    stored, found = bundle.intervention(model), []
    for each in () if stored is None else effects(stored):
        by = audited(bundle, model, each.artefact, method)
        assert by is not None
        if beside := layer_beside(bundle, model, by):
            found.append(firing(bundle, memo, model, beside, method, by))
    return found


def firing_in(bundle: Bundle, memo: Memo, model: str, layer: str) -> Cofirings:
    """What fires together in a layer, worked out once."""

    def make() -> Cofirings:
        activation_un = bundle.activations(model, layer)
        group_n = groups_of(bundle.images())
        return cofirings(
            activation_un, np.arange(activation_un.shape[1]) if group_n is None else group_n
        )

    return memo.once(("cofiring", bundle.digest, model, layer), make)


def firing_json(found: Firing) -> dict[str, Any]:
    """All of it, as plain data."""
    return {
        "model": found.model,
        "layer": found.layer,
        "artefact": found.artefact or None,
        "n_neurons": found.n_units,
        "n_constant": found.found.n_still,
        "n_images_choosing": found.found.n_choosing,
        "n_images": found.found.n_confirming,
        "n_found": found.found.n_found,
        "groups": [
            {
                "name": each.name,
                "units": each.unit_k.tolist(),
                "together": each.together.as_json(),
                "share": each.share,
                "labels": [label.text if label.is_named else None for _, label in each.members],
                "truths": dict(each.truths),
            }
            for each in found.groups
        ],
    }


def _firing_with(bundle: Bundle, memo: Memo, model: str, layer: str, unit: int) -> Cofiring:
    require_neuron(bundle, NeuronRef(model, layer, unit))
    found = firing_in(bundle, memo, model, layer)
    own = found.of_unit(unit)
    if own is None:
        named = ", ".join(f"{each.name} ({len(each.unit_k)})" for each in found.groups[:MOST_NAMED])
        raise InputError(
            f"No group of {layer} of {model} that fires together holds neuron {unit}; "
            f"{f'its largest are {named}' if named else 'it has none'}. Name one of them, or give "
            f"numbers of neurons, such as {layer}:3,14,15."
        )
    return own


def _along(bundle: Bundle, model: str, layer: str, by: Audited) -> np.ndarray | None:
    """By unit, what is attributed to it of an artefact's effect, with the effect's sign as plus."""
    stored = bundle.intervention(model)
    if stored is None or by.effect.is_withheld:
        return None
    own = stored.units[
        (stored.units["artefact"] == by.effect.artefact) & (stored.units["layer"] == layer)
    ]
    if own.empty:
        return None
    along_u = np.zeros(bundle.n_units(model, layer))
    along_u[own["unit"].to_numpy()] = own["attribution"].to_numpy(np.float64)
    return along_u * np.sign(by.effect.effect.value)
