"""A layer's places: the grid on which its units are read, and each unit's activation on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from csp_engine.errors import InputError
from csp_engine.networks.activations import positions_last, require_rows, to_device
from csp_engine.networks.layers import LayerTap, hooks_on
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import first_tensor


def grid_of(tap: LayerTap, input_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Rows and columns of the grid on which the units of a layer are read.

    Patches of a transformer are taken row by row; their number must make a grid of the shape of the
    network's input.

    Raises:
        InputError: if the layer has no places, or its neurons are not read at them.
    """
    name = str(tap.id)
    if tap.kind == "vector":
        raise InputError(
            f"Layer {name} gives one number for the whole image, so its neurons look at no place; "
            "choose a layer before the pooling."
        )
    if tap.id.pooling == "cls":
        raise InputError(
            f"The neurons of {name} are read at the class token, which lies at no place; take the "
            "same layer with @token_mean."
        )
    if tap.kind == "map":
        rows, columns = tap.shape[:2] if tap.channels_last else tap.shape[1:]
        if rows * columns == 1:
            raise InputError(
                f"Layer {name} has one place for the whole image; choose a layer before the "
                "pooling."
            )
        return rows, columns
    if tap.token_question:
        raise InputError(f"Layer {name} {tap.token_question}, so its places are not known.")
    n_tokens = tap.shape[0 if tap.channels_last or tap.tokens_first else 1]
    n_patches = n_tokens - tap.n_prefix_tokens - tap.n_suffix_tokens
    _, height, width = input_shape
    rows = round(math.sqrt(n_patches * height / width)) if n_patches > 1 else 0
    if (
        rows < 1
        or n_patches % rows
        or not math.isclose(rows / (n_patches // rows), height / width, rel_tol=0.15)
    ):
        raise InputError(
            f"Layer {name} has {n_patches} patches, which make no grid over an input of "
            f"{height} × {width}, so its places are not known."
        )
    return rows, n_patches // rows


def on_places(tensor: torch.Tensor, tap: LayerTap, grid: tuple[int, int]) -> torch.Tensor:
    """A layer's output as ``(n, units, rows, columns)``, autoencoder latents included."""
    x = positions_last(tensor.float(), tap)
    if tap.kind == "tokens":
        x = x[..., tap.n_prefix_tokens : x.shape[-1] - tap.n_suffix_tokens]
    if tap.sae is not None:
        x = tap.sae(x.transpose(1, 2)).transpose(1, 2)
    return x.unflatten(-1, grid)


def activation_maps(
    model: TargetModel,
    tap: LayerTap,
    pixels: Float32[np.ndarray, "n channel height width"],
    units: Sequence[int],
) -> Float32[np.ndarray, "n u rows columns"]:
    """The activation of some units at every place of a layer.

    Its mean or maximum, as the layer is pooled, is the neuron's activation.

    Raises:
        InputError: as ``grid_of``, or if a unit does not exist.
    """
    grid = grid_of(tap, model.input_shape)
    strange = [unit for unit in units if not 0 <= unit < tap.n_units]
    if strange:
        raise InputError(f"{tap.id} has no unit {strange[0]}; it has 0 to {tap.n_units - 1}.")
    found: dict[str, torch.Tensor] = {}

    def hook(module: Any, args: Any, output: Any) -> None:
        tensor = require_rows(first_tensor(output), tap, len(x))
        found[""] = on_places(tensor.detach(), tap, grid)[:, list(units)].clone()

    x = to_device(pixels, model)
    n_images = len(x)
    if n_images == 1 and model.steadiness.needs_company:
        x = torch.cat([x, x])
    with torch.inference_mode(), hooks_on(model, {tap.id.module: hook}):
        model.run(x)
    return found[""][:n_images].cpu().numpy()
