"""Maps of one neuron on any images: its own activation, and what sets its exemplars apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from csp_engine.errors import InputError, UnansweredError
from csp_engine.networks.attributing.cocoa import (
    LayerSpace,
    Similarity,
    contrast_direction,
    represented,
)
from csp_engine.networks.attributing.methods import ATTRIBUTIONS, attributed
from csp_engine.networks.attributing.places import activation_maps, grid_of
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.models import TargetModel
from csp_engine.types import Progress, silent

OWN = "activation"
"""The map that is the neuron itself."""

MAPS = (OWN, *ATTRIBUTIONS)
"""Every map there is of a neuron; all but the first are of COCOA's value."""

BATCH = 32


@dataclass(frozen=True, eq=False)
class NeuronMaps:
    """One neuron with what COCOA compares: its exemplars as corpus, its contrast images as foil.

    Pixels are those that the network takes, ``(n, channel, height, width)``.
    """

    model: TargetModel
    tap: LayerTap
    unit: int
    corpus: Float32[np.ndarray, "n channel height width"]
    foil: Float32[np.ndarray, "m channel height width"] | None = None

    def space(self) -> LayerSpace:
        """The layer's pooled activations, which the neuron is one of."""
        return LayerSpace(self.model, self.tap)

    def similarity(self) -> Similarity:
        """COCOA's value in the space of the layer's pooled activations.

        Raises:
            InputError: as ``contrast_direction``.
        """
        space = self.space()
        corpus_nd = represented(space, self.corpus, BATCH)
        foil_nd = None
        if self.foil is not None and len(self.foil):
            foil_nd = represented(space, self.foil, BATCH)
        return Similarity(space, contrast_direction(corpus_nd, foil_nd))

    def of(
        self,
        pixels: Float32[np.ndarray, "n channel height width"],
        name: str = OWN,
        *,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Float32[np.ndarray, "n h w"]:
        """Maps of some images; each has the layer's grid, or the size of the input.

        Activations are as they are; of COCOA's value, places that lower it are 0.

        Raises:
            InputError: if there is no such map, or the layer has no places.
        """
        require_map(name)
        if name == OWN:
            return own_maps(self.model, self.tap, self.unit, pixels)
        value = self.similarity()
        return attributed(name, value, pixels, self.model.device, seed=seed, progress=progress)


def require_map(name: str) -> None:
    """Refuse a name that no map has.

    Raises:
        InputError: naming those there are.
    """
    if name not in MAPS:
        raise InputError(f"There is no map {name!r:.40}; choose one of {', '.join(MAPS)}.")


def own_maps(
    model: TargetModel, tap: LayerTap, unit: int, pixels: np.ndarray
) -> Float32[np.ndarray, "n h w"]:
    """The neuron's activation on the layer's grid, some images at a time.

    Raises:
        InputError: if the layer has no places.
        UnansweredError: for the first image with an activation that is not finite.
    """
    grid_of(tap, model.input_shape)  # before anything runs
    parts = [
        activation_maps(model, tap, pixels[start : start + BATCH], [unit])[:, 0]
        for start in range(0, len(pixels), BATCH)
    ]
    map_nhw = np.concatenate(parts)
    is_known_n = np.isfinite(map_nhw).all(axis=(1, 2))
    if not is_known_n.all():
        raise UnansweredError(model.name, int(is_known_n.argmin()), f"at layer {str(tap.id)!r}")
    return map_nhw
