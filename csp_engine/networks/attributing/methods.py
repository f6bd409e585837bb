"""Ways to attribute a value to places of an image: gradients, occlusion and random masks.

captum does what it can; it is imported where it is called, for it brings matplotlib with it. RISE
is not in captum. Every map says which places *raise* the value; what lowers it counts as nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from csp_engine.errors import InputError
from csp_engine.networks.attributing.cocoa import with_gradients
from csp_engine.types import Progress, silent

Value = Callable[[torch.Tensor], torch.Tensor]
"""From pixels ``(n, channel, height, width)`` to one number each; gradients flow through."""

SMOOTH = 1 / 40
"""Deviation by which maps of single pixels are smoothed, as a share of the image's side."""
N_STEPS = 16
"""Points on the way from the plain image, for integrated gradients."""
N_SAMPLES = 16
"""Random points on that way, for gradient-SHAP."""
NOISE = 0.2
"""Deviation of what gradient-SHAP adds to an image."""
WINDOW = 1 / 4
"""Side of the occluded window, as a share of the image's; it moves by half of that."""
N_MASKS = 500
"""Random masks of RISE."""
CELLS = 7
"""Cells along a side of its masks."""
KEPT = 0.5
"""Share of them that stays visible."""
BATCH = 32


def plain(pixels: torch.Tensor) -> torch.Tensor:
    """Images of one colour, the mean of each: what stands for "nothing there"."""
    return pixels.mean(dim=(2, 3), keepdim=True).expand_as(pixels)


def smoothed(image_nchw: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur, the edge continued outwards; the filter ends at three deviations."""
    reach = max(1, min(round(3 * sigma), min(image_nchw.shape[-2:]) - 1))
    place = torch.arange(-reach, reach + 1, dtype=image_nchw.dtype, device=image_nchw.device)
    weight = torch.exp(-0.5 * (place / sigma) ** 2)
    weight = weight / weight.sum()
    n, c, h, w = image_nchw.shape
    x = image_nchw.reshape(n * c, 1, h, w)
    for shape, margin in (
        ((1, 1, -1, 1), (0, 0, reach, reach)),
        ((1, 1, 1, -1), (reach, reach, 0, 0)),
    ):
        x = torch.nn.functional.pad(x, margin, mode="replicate")
        x = torch.nn.functional.conv2d(x, weight.view(shape))
    return x.view(n, c, h, w)


@dataclass(frozen=True)
class Attribution:
    """One method.

    Attributes:
        name: as commands and addresses have it.
        title: as it is shown.
        summary: what it does, one sentence.
        run: value, pixels, seed and progress to maps ``(n, h, w)``.
    """

    name: str
    title: str
    summary: str
    run: Callable[[Value, torch.Tensor, int, Progress], torch.Tensor]


def gradient(value: Value, x: torch.Tensor, seed: int, progress: Progress) -> torch.Tensor:
    """The gradient at every pixel times what the image has there beyond its mean colour."""
    from captum.attr import InputXGradient

    base = plain(x)
    beyond = (x - base).requires_grad_()
    found = InputXGradient(lambda given: value(base + given)).attribute(beyond)
    return _smooth(found.sum(1))


def integrated_gradients(
    value: Value, x: torch.Tensor, seed: int, progress: Progress
) -> torch.Tensor:
    """Gradients along the way from the plain image, times what the image adds to it."""
    from captum.attr import IntegratedGradients

    way = IntegratedGradients(value)
    found = way.attribute(x, plain(x), n_steps=N_STEPS, internal_batch_size=max(BATCH, len(x)))
    return _smooth(found.sum(1))


def gradient_shap(value: Value, x: torch.Tensor, seed: int, progress: Progress) -> torch.Tensor:
    """The same at random points of the way, with noise on the image: expected gradients."""
    from captum.attr import GradientShap

    parts = []
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        numpy_before = np.random.get_state()  # noqa: NPY002 - captum draws from here
        try:
            for one in x.split(1):  # each alone: a map does not depend on its company
                torch.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                shap = GradientShap(value).attribute(
                    one, plain(one), n_samples=N_SAMPLES, stdevs=NOISE
                )
                parts.append(shap.sum(1))
        finally:
            np.random.set_state(numpy_before)  # noqa: NPY002
    return _smooth(torch.cat(parts))


def occlusion(value: Value, x: torch.Tensor, seed: int, progress: Progress) -> torch.Tensor:
    """By how much the value falls where a window is made plain, mean over a place's windows."""
    from captum.attr import Occlusion

    _, c, h, w = x.shape
    window = (c, max(1, round(WINDOW * h)), max(1, round(WINDOW * w)))
    stride = (c, max(1, window[1] // 2), max(1, window[2] // 2))
    with torch.no_grad():
        found = Occlusion(value).attribute(
            x, window, stride, baselines=plain(x), perturbations_per_eval=1
        )
    return found[:, 0]


def rise(value: Value, x: torch.Tensor, seed: int, progress: Progress) -> torch.Tensor:
    """Mean of random smooth masks, weighted by the value that the masked image has.

    ``sum_m s(m · x + (1 - m) · plain(x)) (m - p) / (M p (1 - p))``, which is RISE (Petsiuk et al.
    2018) with what every mask has in common taken off. The same masks serve all images.
    """
    mask_mhw = mask_bank(x.shape[-2], x.shape[-1], N_MASKS, seed).to(x)
    base = plain(x)
    found = torch.zeros(len(x), *x.shape[-2:], device=x.device)
    n_done, n_all = 0, len(x) * len(mask_mhw)
    with torch.no_grad():
        for at, (image, dull) in enumerate(zip(x, base, strict=True)):
            for start in range(0, len(mask_mhw), BATCH):
                part = mask_mhw[start : start + BATCH]
                mixed = dull + part[:, None] * (image - dull)
                found[at] += torch.einsum("m,mhw->hw", value(mixed), part - KEPT)
                n_done += len(part)
                progress("RISE", n_done, n_all)
    return found / (len(mask_mhw) * KEPT * (1 - KEPT))


def mask_bank(height: int, width: int, n: int, seed: int) -> torch.Tensor:
    """``n`` masks of 0 to 1: a coarse grid of on and off, enlarged, each shifted by itself."""
    rng = np.random.default_rng(seed)
    grid = torch.from_numpy(rng.random((n, 1, CELLS + 1, CELLS + 1)) < KEPT).float()
    cell_h, cell_w = -(-height // CELLS), -(-width // CELLS)
    size = ((CELLS + 1) * cell_h, (CELLS + 1) * cell_w)
    large = torch.nn.functional.interpolate(grid, size, mode="bilinear", align_corners=False)
    tops, lefts = rng.integers(cell_h, size=n), rng.integers(cell_w, size=n)
    return torch.stack(
        [
            one[0, top : top + height, left : left + width]
            for one, top, left in zip(large, tops, lefts, strict=True)
        ]
    )


ATTRIBUTIONS = {
    each.name: each
    for each in (
        Attribution("gradient", "Gradient", "Gradient times the image, pixel by pixel.", gradient),
        Attribution(
            "integrated", "Integrated gradients",
            "Gradients along the way from an image of one colour.", integrated_gradients,
        ),
        Attribution(
            "shap", "Gradient-SHAP", "Gradients at random points of that way.", gradient_shap
        ),
        Attribution(
            "occlusion", "Occlusion", "What is lost where a window is made plain.", occlusion
        ),
        Attribution("rise", "RISE", "What random masks leave of the value.", rise),
    )
}  # fmt: skip
"""Every method that maps a value back onto the image."""
BY_GRADIENT = ("gradient", "integrated", "shap")


def attributed(
    method: str,
    value: Value,
    pixels: Float32[np.ndarray, "n channel height width"],
    device: torch.device,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Float32[np.ndarray, "n height width"]:
    """Maps of some images by a method; places that lower the value are 0.

    Raises:
        InputError: if there is no such method, the value has no gradient and the method asks
            for one, or a map is not finite.
    """
    if method not in ATTRIBUTIONS:
        raise InputError(
            f"There is no map {method!r:.40}; choose one of {', '.join(ATTRIBUTIONS)}."
        )
    x = torch.from_numpy(np.ascontiguousarray(pixels, np.float32)).to(device)
    with with_gradients():
        if method in BY_GRADIENT and not value(x[:1].clone().requires_grad_()).requires_grad:
            raise InputError(
                f"No gradient reaches from this layer to the pixels, so there is no {method} map; "
                "take occlusion or rise."
            )
        found = ATTRIBUTIONS[method].run(value, x, seed, progress)
    if not found.isfinite().all():
        why = (
            "the gradient on the way to the pixels is without bound somewhere; take "
            "occlusion or rise"
            if method in BY_GRADIENT
            else "the network gives values that are not finite for parts of the image"
        )
        raise InputError(f"There is no {method} map of it: {why}.")
    return found.detach().clamp_min(0).float().cpu().numpy()


def _smooth(map_nhw: torch.Tensor) -> torch.Tensor:
    sigma = SMOOTH * min(map_nhw.shape[-2:])
    return smoothed(map_nhw[:, None], sigma)[:, 0] if sigma >= 0.5 else map_nhw
