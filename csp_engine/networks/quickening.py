"""Passes of convolutional networks in less time, where that does not change what they say.

On a processor, convolutions take a third to two thirds of the time when batch normalisations are
folded into them and the channels of a pixel lie side by side. Sums are then taken in another order,
so the last digits differ, by about twice what they differ by between sizes of a batch. A few
images run both ways, and where a layer differs by more than ``MOST`` of its spread, the network
runs as it is given.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from csp_engine.errors import CspError
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.devices import own_copy
from csp_engine.networks.folding import Seen, folded, look, needs_numbers
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.loading.checkpoints import short_reason
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import noise_images

logger = logging.getLogger(__name__)

MOST = 1e-5
"""By how much of their spread the activations of a layer may differ: root of the mean square."""
LARGEST = 1e-4
"""By how much of its spread any activation may differ."""
N_TRIED = 8
"""Images that run both ways."""
LEAST_PRODUCTS = 10**8
"""Multiplications of an image, below which a trial costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of running a network both ways.

    Attributes:
        n_folded: batch normalisations that are part of a convolution.
        n_images: how many images were compared.
        off: by how much activations differ, of the layer that differs most: root of the mean
            square, in units of the spread (see ``differences``); None if there is no such number.
        largest: the largest difference of any activation, likewise.
        reason: why the network runs as it is given; empty if it runs the faster way.
        twin: what runs the faster way; None if the network runs as it is given.
    """

    n_folded: int
    n_images: int
    off: float | None = None
    largest: float | None = None
    reason: str = ""
    twin: TargetModel | None = field(default=None, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """As manifests and parts keep it."""
        said = {item.name: getattr(self, item.name) for item in fields(self)}
        return {key: said[key] for key in said if key != "twin" and said[key] != ""}


def gains(model: TargetModel) -> Seen | None:
    """What is seen of a network that can be run faster.

    None where nothing is gained: on accelerators, in other precisions than float32, in networks
    without several convolutions, in small ones, and where the network does not run on noise.
    """
    if str(model.device) != "cpu" or model.precision != "float32":
        return None
    pixels = noise_images(model, 2)
    try:
        seen = look(model.network, lambda: model.run(pixels), len(pixels))
    except Exception as error:  # the pass over the images says what is wrong with it
        logger.info("%s is not tried to be run faster: %s", model.name, error)
        return None
    is_large = seen.n_products >= LEAST_PRODUCTS
    return seen if seen.n_convolutions > 1 and is_large else None


def quickened(
    model: TargetModel,
    taps: Sequence[LayerTap],
    seen: Seen | None = None,
    n_folded: int | None = None,
) -> tuple[TargetModel, int] | None:
    """A copy that gives the tapped layers faster, and how many normalisations are folded in it.

    None where nothing is gained. What was ``seen`` before need not be looked for, nor what can be
    folded where somebody has tried this very network (``Trial.n_folded``).
    """
    seen = seen or gains(model)
    if seen is None:
        return None
    pairs = seen.pairs
    if pairs and n_folded is None:
        throwaway = replace(model, network=own_copy(model.network))
        if needs_numbers(throwaway.run, noise_images(model, 2)):
            pairs = ()
    twin, n_folded = folded(
        model.network, () if n_folded == 0 else pairs, {tap.id.module for tap in taps}
    )
    arranged: Any = twin  # the stubs of torch know no memory format
    arranged.to(memory_format=torch.channels_last)
    return replace(model, network=twin, is_channels_last=True), n_folded


def tried(
    model: TargetModel,
    taps: Sequence[LayerTap],
    pixels: Float32[np.ndarray, "n channel height width"],
    seen: Seen | None = None,
) -> Trial | None:
    """Run a few images through a network and its faster copy, and compare; None if there is none.

    What was ``seen`` before need not be looked for.

    Raises:
        InputError: the network itself cannot be recorded.
    """
    n_folded = 0
    try:
        quick = quickened(model, taps, seen)
    except Exception as error:  # a network may refuse to be copied
        return Trial(n_folded, len(pixels), reason=_reason(error))
    if quick is None:
        return None
    twin, n_folded = quick
    with ActivationRecorder(model, taps) as recorder:
        given = recorder(pixels)
    try:
        with ActivationRecorder(twin, taps) as recorder:
            found = recorder(pixels)
    except Exception as error:  # or another memory format
        return Trial(n_folded, len(pixels), reason=_reason(error))
    pairs = [differences(given[layer], found[layer]) for layer in given]
    off, largest = (max(column) for column in zip(*pairs, strict=True))
    reason = "" if off <= MOST and largest <= LARGEST else "its activations differ"
    return Trial(
        n_folded, len(pixels), _shown(off), _shown(largest), reason, None if reason else twin
    )


def differences(
    given_nu: Float32[np.ndarray, "n u"], found_nu: Float32[np.ndarray, "n u"]
) -> tuple[float, float]:
    """Root of the mean square of the differences of a layer, and the largest, in its spread.

    z_nu = |found_nu − given_nu| / max(s_u, median s), with s_u the standard deviation of unit u
    over the images. The median of the layer stands in for units that hardly vary, whose last
    digits are noise however the network is run. Infinite where no unit varies and a value differs.
    """
    off_nu = np.abs(found_nu.astype(np.float64) - given_nu)
    spread_u = given_nu.std(0, dtype=np.float64)
    scale_u = np.maximum(spread_u, np.median(spread_u))
    with np.errstate(divide="ignore", invalid="ignore"):
        z_nu = np.where(off_nu > 0, off_nu / scale_u, 0.0)
    return float(np.sqrt((z_nu**2).mean())), float(z_nu.max())


def _reason(error: Exception) -> str:
    if isinstance(error, CspError):
        return str(error)
    return f"{type(error).__name__}: {short_reason(error)}"


def _shown(off: float) -> float | None:
    """With two digits: a bundle says how large it was, and JSON knows no infinity."""
    return float(f"{off:.1e}") if np.isfinite(off) else None
