"""What a neuron and its network make of one image flipped, cropped, recoloured and blurred."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.pipeline.mapping.changes import Version
from csp_engine.types import NeuronRef
from csp_engine.views.sentence import listed

KEEPS = 0.5
"""A neuron keeps its activation where at least so much of it is left."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One version of the image.

    ``share`` is its activation as a share of that of the unchanged image, NaN where that is not
    above 0. ``decided`` is the class decided for, empty where the network has no outputs;
    ``is_turned`` says that it is another than that of the unchanged image, and ``log_odds`` are
    those of the class that the unchanged image is decided for.
    """

    name: str
    activation: float
    share: float
    decided: str
    is_turned: bool
    log_odds: float
    picture: bytes

    @property
    def words(self) -> str:
        """The activation as pages write it."""
        value = numbers.score(self.activation)
        return value if math.isnan(self.share) else f"{value} ({_share(self.share)})"


@dataclass(frozen=True, slots=True)
class Changed:
    """One image and its versions; the first is the image as it is."""

    image: int
    versions: tuple[Shown, ...]

    @property
    def sentence(self) -> str:
        """What stays and what does not."""
        first, *others = self.versions
        n = len(others)
        told = []
        if math.isnan(first.share):
            told.append(
                f"The neuron is not active above 0 on image {self.image} "
                f"({numbers.score(first.activation)}), so no shares are given."
            )
        else:
            kept = [each for each in others if each.share >= KEEPS]
            least = min(others, key=lambda each: each.share)
            told.append(
                f"In {len(kept)} of {n} changes of image {self.image}, the neuron keeps at least "
                f"half of its activation; it keeps least when {least.name}: {_share(least.share)}."
            )
        if first.decided:
            turned = [each for each in others if each.is_turned]
            told.append(f"The decision, {first.decided}, stays in {n - len(turned)} of {n}.")
            by_class: dict[str, list[str]] = {}
            for each in turned:
                by_class.setdefault(each.decided, []).append(each.name)
            told += [
                f"It becomes {name} when {listed(changes, 'or')}."
                for name, changes in by_class.items()
            ]
        return " ".join(told)

    def as_json(self) -> dict[str, Any]:
        """All but the pictures, as plain data."""
        return numbers.plain_json(
            {
                "image": self.image,
                "sentence": self.sentence,
                "versions": [
                    {
                        "change": each.name,
                        "activation": each.activation,
                        "share": each.share,
                        "decided": each.decided or None,
                        "log_odds": each.log_odds,
                    }
                    for each in self.versions
                ],
            }
        )


def usual_image(bundle: Bundle, neuron: NeuronRef) -> int | None:
    """The image that excites a neuron most; None where it has no exemplars."""
    exemplars = bundle.exemplars(neuron.model, neuron.layer)
    n = int(exemplars.count_u[neuron.unit])
    return int(exemplars.image_uk[neuron.unit, 0]) if n else None


def changed(bundle: Bundle, model: str, image: int, found: Sequence[Version]) -> Changed:
    """Versions of an image as they are shown.

    Args:
        bundle: of the image.
        model: whose outputs they are.
        image: number of the probe image.
        found: what was measured on each, the unchanged one first.
    """
    names = bundle.manifest.inputs["models"][model].get("class_names") or ()
    first = found[0].activation
    return Changed(
        image,
        tuple(
            Shown(
                each.name,
                each.activation,
                each.activation / first if first > 0 else math.nan,
                _class(each, names),
                each.decided != found[0].decided,
                each.log_odds,
                each.picture,
            )
            for each in found
        ),
    )


def _class(version: Version, names: Sequence[str]) -> str:
    """What is decided, by a name that no other class has."""
    output = version.decided
    if output is None:
        return ""
    if version.n_outputs == 1:  # which says yes or no
        name = str(names[0]) if names else "output 0"
        return name if output else f"not {name}"
    if output >= len(names):
        return f"output {output}"
    name = str(names[output])
    return f"{name} (output {output})" if list(map(str, names)).count(name) > 1 else name


def _share(value: float) -> str:
    return f"{'−' if value < 0 else ''}{numbers.share(abs(value))}"
