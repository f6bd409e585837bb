"""The outputs of its network that a neuron moves most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.bundle.names import told_apart
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
    names = told_apart(stored.output_names)
    return tuple(
        DrivenOutput(
            name=names[output],
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


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """For each unit of a layer, the output that it moves most beside its fellows.

    ``rank_u`` is its rank there by |gradient × activation|, 1 for the strongest, ties alike; 0
    where it moves nothing. ``effect_u`` has the sign.
    """

    output_names: tuple[str, ...]
    output_u: Int64[np.ndarray, " u"]
    rank_u: Int64[np.ndarray, " u"]
    effect_u: Float64[np.ndarray, " u"]

    def told(self, unit: int) -> str:
        """``raises`` or ``lowers`` and the output; empty where the unit moves nothing."""
        if not self.rank_u[unit]:
            return ""
        way = "raises" if self.effect_u[unit] > 0 else "lowers"
        return f"{way} {self.output_names[self.output_u[unit]]}"


def moved_most(bundle: Bundle, model: str, layer: str) -> Moved | None:
    """What the units of a layer move most; None where the bundle does not know.

    Of the outputs it is the one on which a unit ranks highest; the larger effect breaks ties.
    """
    stored = bundle.influence(model, layer)
    if stored is None:
        return None
    effect_cu = np.asarray(stored.gradient_activation_cu, np.float64)
    has_images_c = np.asarray(stored.n_image_c) > 0
    effect_cu = np.where(has_images_c[:, None] & np.isfinite(effect_cu), effect_cu, 0.0)
    size_cu = np.abs(effect_cu)
    n_units = size_cu.shape[1]
    rank_cu = np.stack(
        [1 + n_units - np.searchsorted(np.sort(row), row, side="right") for row in size_cu]
    )
    rank_cu = np.where(size_cu > 0, rank_cu, n_units + 1)
    best_u = np.lexsort((-size_cu, rank_cu), axis=0)[0]
    at = np.arange(n_units)
    rank_u = np.where(size_cu[best_u, at] > 0, rank_cu[best_u, at], 0)
    return Moved(told_apart(stored.output_names), best_u, rank_u, effect_cu[best_u, at])
