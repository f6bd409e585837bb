"""COCOA: what in an image makes it more like one set of images than like another."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32

from csp_engine.errors import InputError
from csp_engine.networks.activations import pooled, require_rows
from csp_engine.networks.layers import LayerTap, hooks_on
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import first_tensor

Represent = Callable[[torch.Tensor], torch.Tensor]
"""From pixels ``(n, channel, height, width)`` to rows ``(n, d)``; gradients flow through."""

_SMALL = 1e-12


class LayerSpace:
    """A layer's pooled activations as a representation; leaves the network as it was.

    ``places`` is what the layer gave in the last pass, before pooling.
    """

    def __init__(self, model: TargetModel, tap: LayerTap) -> None:
        self.model = model
        self.tap = tap
        self.places: torch.Tensor | None = None

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """One row of pooled activations for each image."""
        found: list[torch.Tensor] = []

        def hook(module: Any, args: Any, output: Any) -> None:
            tensor = require_rows(first_tensor(output), self.tap, len(x))
            # Copied: the network may go on to change its own tensor in place.
            found.append(tensor.clone())

        x = pixels.to(self.model.device)
        n_images = len(x)
        if n_images == 1 and self.model.steadiness.needs_company:
            x = torch.cat([x, x])
        with hooks_on(self.model, {self.tap.id.module: hook}):
            self.model.run(x)
        self.places = found[0]
        return pooled(found[0], self.tap)[:n_images]


def contrast_direction(
    corpus_nd: Float[np.ndarray, "n d"], foil_nd: Float[np.ndarray, "m d"] | None
) -> Float32[np.ndarray, " d"]:
    """Mean of the unit rows of a corpus less that of a foil.

    ``mu = mean c / |c| - mean f / |f|``: the dot product with a unit vector is the difference of
    its mean cosines to both, so that neither set is gone through again for every image. Rows of
    zeros, which point nowhere, count as zeros. Without a foil, similarity to the corpus alone.

    Raises:
        InputError: if the corpus is empty, or both sets point the same way.
    """
    if not len(corpus_nd):
        raise InputError("The corpus is empty, so nothing can be compared with it.")
    direction = _mean_of_units(corpus_nd)
    if foil_nd is not None and len(foil_nd):
        direction = direction - _mean_of_units(foil_nd)
    if np.linalg.norm(direction) < 1e-6:
        raise InputError("Corpus and foil do not differ in this space, so no map can be drawn.")
    return direction.astype(np.float32)


def _mean_of_units(row_nd: np.ndarray) -> np.ndarray:
    row_nd = np.asarray(row_nd, np.float64)
    length_n = np.linalg.norm(row_nd, axis=1, keepdims=True)
    return (row_nd / np.maximum(length_n, _SMALL)).mean(axis=0)


@dataclass(frozen=True, eq=False)
class Similarity:
    """Contrastive corpus similarity (Lin et al., COCOA, ICLR 2023) of images in some space.

    ``s(x) = mean over corpus of cos(f(x), f(c)) - mean over foil of cos(f(x), f(z))
    = f(x) · mu / |f(x)|`` in -2 to 2, with mu from ``contrast_direction``.
    """

    represent: Represent
    direction_d: Float32[np.ndarray, " d"]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """S of every image; gradients flow to the pixels."""
        row_nd = self.represent(pixels)
        row_nd = row_nd.to(torch.promote_types(row_nd.dtype, torch.float32))
        length_n = row_nd.norm(dim=1).clamp_min(_SMALL)
        direction = torch.as_tensor(self.direction_d, device=row_nd.device, dtype=row_nd.dtype)
        return (row_nd @ direction) / length_n


@contextmanager
def with_gradients() -> Generator[None]:
    """Gradients within a block, whatever is around it."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def represented(represent: Represent, pixels: np.ndarray, batch: int) -> np.ndarray:
    """Rows of many images, without gradients."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch):
            parts.append(represent(torch.from_numpy(pixels[start : start + batch])).float().cpu())
    return torch.cat(parts).numpy()
