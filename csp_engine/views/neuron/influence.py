"""The outputs of its network that a neuron moves most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef

N_SHOWN = 6


@dataclass(frozen=True, slots=True)
class DrivenOutput:
    """One output: the mean effect of the neuron on it, over ``n_images``, and its direct weight.

    ``share`` is the effect as a share of the largest. ``weight`` is None where the layer does not
    feed the output directly. The texts of one neuron's outputs have the same digits.
    """

    name: str
    effect: float
    share: float
    weight: float | None
    n_images: int
    effect_text: str
    weight_text: str


def driven_outputs(
    bundle: Bundle, neuron: NeuronRef, limit: int = N_SHOWN
) -> tuple[DrivenOutput, ...]:
    """The outputs that a neuron moves most; none where the bundle does not know."""
    stored = bundle.influence(neuron.model, neuron.layer)
    if stored is None:
        return ()
    effect_c = np.asarray(stored.gradient_activation_cu[:, neuron.unit], dtype=float)
    effect_c = np.where(np.asarray(stored.n_image_c) > 0, effect_c, 0.0)
    order = np.argsort(-np.abs(effect_c), kind="stable")[:limit]
    largest = float(np.abs(effect_c[order]).max(initial=0.0)) or 1.0
    effects = numbers.signed_alike(effect_c[order])
    direct = stored.direct_weight_cu
    weight_o = None if direct is None else np.asarray(direct[order, neuron.unit], dtype=float)
    weights = ["–"] * len(order) if weight_o is None else numbers.signed_alike(weight_o)
    return tuple(
        DrivenOutput(
            name=stored.output_names[output],
            effect=float(effect_c[output]),
            share=float(effect_c[output]) / largest,
            weight=None if weight_o is None else float(weight_o[at]),
            n_images=int(stored.n_image_c[output]),
            effect_text=effects[at],
            weight_text=weights[at],
        )
        for at, output in enumerate(order)
        if effect_c[output] != 0
    )
