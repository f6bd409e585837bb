"""The outputs of its network that a neuron moves most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.bundle.names import told_apart
from csp_engine.types import NeuronRef
from csp_engine.views.memo import Memo

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

    def told(self) -> np.ndarray:
        """``raises`` or ``lowers`` and the output; None where the unit moves nothing."""
        told = [f"{way} {name}" for way in ("lowers", "raises") for name in self.output_names]
        text_t = np.array([*told, None], object)
        at_u = np.where(self.effect_u > 0, len(self.output_names), 0) + self.output_u
        return text_t[np.where(self.rank_u > 0, at_u, -1)]


def moved_most(bundle: Bundle, memo: Memo, model: str, layer: str) -> Moved | None:
    """What the units of a layer move most; None where the bundle does not know.

    Of the outputs it is the one on which a unit ranks highest; the larger effect breaks ties.
    """

    def make() -> Moved | None:
        stored = bundle.influence(model, layer)
        if stored is None:
            return None
        return _ranked(
            told_apart(stored.output_names), stored.gradient_activation_cu, stored.n_image_c
        )

    return memo.once(("moved most", bundle.digest, model, layer), make)


def _ranked(names: tuple[str, ...], effect_cu: np.ndarray, n_image_c: np.ndarray) -> Moved:
    """One output after the other: all ranks together may take more memory than there is."""
    n_units = effect_cu.shape[1]
    nothing = n_units + 1
    output_u, rank_u = np.zeros(n_units, np.int64), np.full(n_units, nothing)
    effect_u = np.zeros(n_units)
    for output in np.flatnonzero(np.asarray(n_image_c) > 0).tolist():
        own_u = np.nan_to_num(effect_cu[output], nan=0.0, posinf=0.0, neginf=0.0)
        size_u = np.abs(own_u)
        order_m = np.argsort(-size_u)[: np.count_nonzero(size_u)]
        place_m = np.arange(1, len(order_m) + 1)
        is_tied_m = np.diff(size_u[order_m], prepend=np.inf) == 0
        own_rank_u = np.full(n_units, nothing)
        own_rank_u[order_m] = np.maximum.accumulate(np.where(is_tied_m, 0, place_m))
        is_larger_u = (own_rank_u == rank_u) & (size_u > np.abs(effect_u))
        better_m = np.flatnonzero((own_rank_u < rank_u) | is_larger_u)
        output_u[better_m], rank_u[better_m] = output, own_rank_u[better_m]
        effect_u[better_m] = own_u[better_m]
    return Moved(names, output_u, np.where(rank_u == nothing, 0, rank_u), effect_u)
