"""Where a neuron looks: which maps there are of it, and what their checks on this layer say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.evaluation.faithfulness.localisation import Beaten, beaten
from csp_engine.evaluation.paired_effects import (
    LEAST_GROUPS,
    Bounded,
    count_groups,
    enough,
    mean_effect,
)
from csp_engine.types import NeuronRef

MEANING = {
    "activation": "Bright where the neuron itself is active",
    "gradient": (
        "Bright where pixels make the image more like the neuron's exemplars than like its "
        "contrast images (COCOA, gradient)"
    ),
}
"""What a map shows, for those that pages offer."""

CONTROLS = {"random": "a random map", "other": "another neuron", "weights": "random weights"}
"""What a map has to beat, by how its columns begin."""


def why_no_map(bundle: Bundle, neuron: NeuronRef, name: str) -> str:
    """Why there is no such map of a neuron, as far as that can be told without its network."""
    stage = kinds.ACTIVATIONS.name(neuron.model, neuron.layer)
    held = bundle.stage(stage).params if bundle.has(stage) else {}
    if name == "activation" and held.get("kind") == "vector":
        return "This layer gives one number for the whole image, so its neurons look at no place."
    if name == "activation" and held.get("pooling") == "cls":
        return "This neuron is read at the class token, which lies at no place of the image."
    if "+" in neuron.layer:
        return "This layer is read through an autoencoder, which the bundle does not hold."
    if not int(bundle.exemplars(neuron.model, neuron.layer).count_u[neuron.unit]):
        return "This neuron has no exemplars, so there is nothing to map."
    return ""


@dataclass(frozen=True, slots=True)
class CheckedMap:
    """One map of a layer against things whose place is known, and against its controls.

    Attributes:
        name: of the map.
        artefact: the thing; empty for all of them together.
        things: what was looked for.
        n_photographs: with any of them.
        n_groups: lesions, patients or single photographs that these are of.
        rate: how often the map is largest on the thing.
        base: what a random place gets.
        against: rate, control and difference, by the names of ``CONTROLS``.
        overlap: intersection over union with the mask.
        removal: insertion less deletion, less that of a random map.
    """

    name: str
    artefact: str
    things: tuple[str, ...]
    n_photographs: int
    n_groups: int
    rate: Bounded
    base: float
    against: dict[str, Beaten]
    overlap: Bounded
    removal: Bounded

    @property
    def is_good(self) -> bool:
        """Whether it beats every control, by the lower bound of the difference."""
        return all(each.is_better for each in self.against.values())

    @property
    def beats_all(self) -> str:
        """The same in a word, where it can be told."""
        return "cannot tell" if self.n_groups < LEAST_GROUPS else "yes" if self.is_good else "no"

    @property
    def unbeaten(self) -> list[str]:
        """The controls that it does not beat, in words."""
        return [CONTROLS[name] for name, each in self.against.items() if not each.is_better]

    @property
    def figures(self) -> str:
        """Rates of the map and of its controls, in a sentence."""
        by_chance, other, weights = (
            numbers.share(self.against[name].control.value) for name in CONTROLS
        )
        return (
            f"Checked on {numbers.count(self.n_photographs)} images with {_and(self.things)} at a "
            f"known place: this map points there in {rate(self.rate)}, a random map in "
            f"{by_chance}, that of another neuron in {other}, and that of the same network with "
            f"random weights in {weights}."
        )

    @property
    def verdict(self) -> str:
        """What follows, in a sentence."""
        if self.n_groups < LEAST_GROUPS:
            return (
                f"The images are of {numbers.count(self.n_groups)} "
                f"group{'s' * (self.n_groups != 1)} (lesions, patients or photographs), and "
                f"{LEAST_GROUPS} are needed to tell; give more with --pairs."
            )
        if self.is_good:
            return "It beats each of these controls."
        return f"It does not beat {_and(self.unbeaten)}, so it proves nothing on this layer."

    def as_json(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "map": self.name,
            "artefact": self.artefact or None,
            "things": list(self.things),
            "n_photographs": self.n_photographs,
            "n_groups": self.n_groups,
            "hit": _json(self.rate),
            "base": self.base,
            "controls": {
                name: {"hit": _json(each.control), "difference": _json(each.difference),
                       "is_beaten": each.is_better}
                for name, each in self.against.items()
            },
            "overlap": _json(self.overlap),
            "removal_less_random": _json(self.removal),
            "is_good": self.is_good,
        }  # fmt: skip


def rate(bounded: Bounded) -> str:
    """A share with its interval."""
    low, high = bounds(bounded)
    if low is None or high is None:
        return f"{numbers.share(bounded.value)} (no interval)"
    return f"{numbers.share(bounded.value)} ({numbers.share(low)} to {numbers.share(high)})"


def bounds(bounded: Bounded) -> tuple[float | None, float | None]:
    """The ends of an interval; None where there is none."""
    return (None, None) if math.isnan(bounded.low) else (bounded.low, bounded.high)


def checks_of(bundle: Bundle, model: str, layer: str) -> list[CheckedMap]:
    """Every map that was checked on a layer: over all things together, then one by one."""
    stored = bundle.map_checks(model, layer)
    if stored is None:
        return []
    seed = int(bundle.stage(kinds.MAPS.name(model, layer)).params.get("seed", 0))
    found = []
    for name, rows in stored.photographs.groupby("map", sort=False):
        found.append(_checked(str(name), "", rows, seed))
        found += [
            _checked(str(name), str(artefact), own, seed)
            for artefact, own in rows.groupby("artefact", sort=False)
        ]
    return found


def check_of(bundle: Bundle, neuron: NeuronRef, name: str) -> CheckedMap | None:
    """What the checks of a map say on a neuron's layer, over all things; None without any."""
    for each in checks_of(bundle, neuron.model, neuron.layer):
        if each.name == name and not each.artefact:
            return each
    return None


def said_of_map(bundle: Bundle, neuron: NeuronRef, name: str) -> tuple[str, str]:
    """What goes with a map wherever it is shown: a mark where it proves nothing, and why."""
    check = check_of(bundle, neuron, name)
    if check is None:
        return (
            "Not checked.",
            "Whether maps of this layer point at the right place can be checked with 'csp maps' "
            "and pairs of images.",
        )
    return (
        "" if check.is_good else "Not to be relied on here.",
        f"{check.figures} {check.verdict}",
    )


def _checked(name: str, artefact: str, rows: Any, seed: int) -> CheckedMap:
    group_n = rows["group"].to_numpy()
    n_groups = count_groups(group_n)
    removal_n = (rows["removal"] - rows["random_removal"]).to_numpy()
    against = {
        control: beaten(rows["hit"].to_numpy(), rows[f"{control}_hit"].to_numpy(), group_n, seed)
        for control in CONTROLS
    }
    return CheckedMap(
        name,
        artefact,
        tuple(dict.fromkeys(rows["artefact"])),
        len(rows),
        n_groups,
        against["random"].rate,
        float(rows["base"].mean()),
        against,
        enough(mean_effect(rows["overlap"].to_numpy(), group_n, seed), n_groups),
        enough(mean_effect(removal_n, group_n, seed), n_groups),
    )


def _and(names: Any) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _json(bounded: Bounded) -> dict[str, float | None]:
    low, high = bounds(bounded)
    return {"value": bounded.value, "low": low, "high": high}
