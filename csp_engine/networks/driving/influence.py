"""How much each neuron drives each output: gradient times activation, and direct weights."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.activations import pool, to_device
from csp_engine.networks.driving.gradients import (
    GradientPass,
    chosen_outputs,
    products,
    require_steady_outputs,
    rows_of_outputs,
    with_first,
)
from csp_engine.networks.driving.reaching import passed_by
from csp_engine.networks.layers import LayerTap, hooks_on
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import first_tensor

logger = logging.getLogger(__name__)

_CUT_OFF = (
    "the outputs depend on it, but no gradient reaches it (torch.no_grad or detach in the "
    "network's forward pass)"
)
_READ_ELSEWHERE = (
    "what it gives is also read elsewhere in the network (a layer that works in place, or a tensor "
    "that is kept)"
)


@dataclass(frozen=True, eq=False)
class Influence:
    """What the units of one layer do to the outputs ``c``.

    ``gradient_activation_cu`` is the mean, over the ``n_image_c`` images that belong to output
    ``c``, of gradient times activation (0 where there is no image). ``is_predicted`` says that
    images belong to the output the network itself gave the highest value. ``direct_weight_cu`` are
    the weights of the linear head, where the pooled layer was seen to be its input, else None.
    """

    gradient_activation_cu: Float32[np.ndarray, "c u"]
    n_image_c: Int32[np.ndarray, " c"]
    direct_weight_cu: Float32[np.ndarray, "c u"] | None
    output_names: tuple[str, ...]
    is_predicted: bool = False


@dataclass(frozen=True, eq=False)
class BatchInfluence:
    """What one batch of images adds to the influence of some layers.

    Attributes:
        n_images: of the batch, whether they count or not.
        n_outputs: of the network.
        is_predicted: whether images belong to the output the network gave the highest value.
        row_n: for each image that counts, its place among the outputs that are looked at.
        product_nu: gradient times activation of these images, by module; not of modules that no
            gradient reaches.
        agrees: for each layer and each linear layer of its shape, whether that one's weights on the
            layer's activations give the outputs of every image.
        is_seen: the same, whether there were activations other than 0.
    """

    n_images: int
    n_outputs: int
    is_predicted: bool
    row_n: Int64[np.ndarray, " n"]
    product_nu: dict[str, Float32[np.ndarray, "n u"]]
    agrees: dict[str, list[bool]]
    is_seen: dict[str, list[bool]]


def batch_influence(
    model: TargetModel,
    taps: Sequence[LayerTap],
    pixels: Float32[np.ndarray, "n channel height width"],
    class_n: np.ndarray | None,
    outputs: Sequence[int | str] | None = None,
    n_before: int = 0,
) -> BatchInfluence:
    """Gradient times activation of one batch; arguments and errors are those of ``influence``.

    Args:
        model: a classifier.
        taps: layers without an autoencoder.
        pixels: of the images.
        class_n: each image's output number, or None.
        outputs: which to look at, all by default.
        n_before: how many images went through the network in earlier batches, for errors.
    """
    tap_of = {tap.id.module: tap for tap in taps}
    require_steady_outputs(model, pixels)
    step = GradientPass(model, tap_of)
    logits = step.run(pixels)
    if set(step.tapped) != set(tap_of):
        missing = min(set(tap_of) - set(step.tapped))
        raise InputError(f"Layer {missing!r} did not run for this batch; choose another layer.")
    n_outputs = logits.shape[1]
    chosen = chosen_outputs(model, outputs, n_outputs)
    fixed = logits.detach()[: len(pixels)]
    agrees, is_seen = {}, {}
    for tap in taps:
        pooled = pool(step.tapped[tap.id.module], tap)[: len(pixels)]
        heads = _heads(model, tap, n_outputs)
        agrees[str(tap.id)] = [_agrees(head, model, pooled, fixed.float()) for head in heads]
        is_seen[str(tap.id)] = [bool((pooled != 0).any())] * len(heads)
    row_n, image_n = rows_of_outputs(model, fixed, class_n, chosen, n_before)
    picked = logits[image_n, torch.as_tensor(chosen, device=logits.device)[row_n]].sum()
    found: dict[str, torch.Tensor] = {}
    if picked.requires_grad and len(row_n):
        found = products(picked, step.tapped, tap_of)
    return BatchInfluence(
        len(pixels),
        n_outputs,
        class_n is None,
        row_n.cpu().numpy(),
        {name: product_nu[image_n].cpu().numpy() for name, product_nu in found.items()},
        agrees,
        is_seen,
    )


def influence(
    model: TargetModel,
    taps: Sequence[LayerTap],
    batches: Iterable[tuple[np.ndarray, np.ndarray | None] | BatchInfluence],
    outputs: Sequence[int | str] | None = None,
) -> dict[str, Influence]:
    """Each unit's mean gradient times activation on each output, and its direct weight if any.

    For image ``i`` of output ``c``: ``sum over positions p of a[p, u] * d logit_c / d a[p, u]``, at
    the layer's output (Shrikumar et al. 2016), whatever the pooling. For a bias-free linear
    classifier on the layer, the units of an image add up to its logit.

    Autoencoder latents are left out, with a log message: without running the network on the
    reconstruction no gradient reaches them. So are layers that the outputs depend on in ways that
    have no gradient, or whose output the network reads elsewhere than where they return it.

    Args:
        model: a classifier.
        taps: layers, from ``select_layers``.
        batches: pixels ``(n, channel, height, width)`` and each image's output number, or None to
            take the output of highest value (among ``outputs``). What ``batch_influence`` gave of
            the same layers and outputs may stand for any but the first and the last.
        outputs: numbers or class names to look at, all by default; images of others are passed
            over.

    Returns:
        By layer id; the rows ``c`` follow ``outputs``.

    Raises:
        UnansweredError: outputs for an image are not numbers, or without bound.
        InputError: the model has no logits, an output does not exist, some batches have labels
            and others none, there is no batch, or a gradient is not finite.
    """
    usable = [tap for tap in taps if tap.sae is None]
    for tap in taps:
        if tap.sae is not None:
            logger.warning("no influence for %s: autoencoder latents have no gradient", tap.id)
    if not usable:
        return {}
    modules = list(dict.fromkeys(tap.id.module for tap in usable))
    tap_of = {tap.id.module: tap for tap in usable}
    sum_cu: dict[str, torch.Tensor] = {}
    heads: dict[str, list[nn.Linear]] = {}
    agrees: dict[str, list[bool]] = {}
    is_seen: dict[str, list[bool]] = {}
    chosen: list[int] = []
    n_image_c = np.zeros(0, np.int64)
    is_predicted: bool | None = None
    reached: set[str] = set()
    few = np.zeros((0, *model.input_shape), np.float32)
    n_seen, past = 0, set[str]()

    for batch in batches:
        if isinstance(batch, BatchInfluence):
            found, pixels = batch, None
        else:
            pixels, class_n = batch
            if is_predicted is not None and is_predicted != (class_n is None):
                raise InputError(
                    "Some images have a class and others have none; give classes for all or for "
                    "none."
                )
            found = batch_influence(model, usable, pixels, class_n, outputs, n_seen)
            few = pixels[:2]
        is_predicted = found.is_predicted
        if not sum_cu:
            assert pixels is not None, "the first batch is given as pixels"
            past = passed_by(model, modules, pixels)
            chosen = chosen_outputs(model, outputs, found.n_outputs)
            n_image_c = np.zeros(len(chosen), np.int64)
            sum_cu = {
                name: torch.zeros(len(chosen), tap_of[name].n_units, dtype=torch.float64)
                for name in modules
            }
            heads = {str(tap.id): _heads(model, tap, found.n_outputs) for tap in usable}
            agrees, is_seen = dict(found.agrees), dict(found.is_seen)
        for layer, held in agrees.items():
            agrees[layer] = [a and b for a, b in zip(held, found.agrees[layer], strict=True)]
            both = zip(is_seen[layer], found.is_seen[layer], strict=True)
            is_seen[layer] = [a or b for a, b in both]
        n_seen += found.n_images
        n_image_c += np.bincount(found.row_n, minlength=len(chosen))
        for name, product_nu in found.product_nu.items():
            reached.add(name)
            row_n = torch.from_numpy(found.row_n)
            sum_cu[name].index_add_(0, row_n, torch.from_numpy(product_nu).double())

    if is_predicted is None:
        raise InputError("There is no image to measure influence on; give at least one batch.")
    cut_off = {name for name in set(modules) - reached if _reads(model, tap_of[name], few)}
    names = model.class_names
    result = {}
    why_not = dict.fromkeys(cut_off, _CUT_OFF) | dict.fromkeys(past, _READ_ELSEWHERE)
    for tap in usable:
        if tap.id.module in why_not:
            logger.warning("no influence for %s: %s", tap.id, why_not[tap.id.module])
            continue
        layer = str(tap.id)
        mean_cu = sum_cu[tap.id.module].numpy() / np.maximum(n_image_c, 1)[:, None]
        result[layer] = Influence(
            gradient_activation_cu=mean_cu.astype(np.float32),
            n_image_c=n_image_c.astype(np.int32),
            direct_weight_cu=_proven_weight(heads[layer], agrees[layer], is_seen[layer], chosen),
            output_names=tuple(names[c] if names else str(c) for c in chosen),
            is_predicted=is_predicted,
        )
    return result


def _heads(model: TargetModel, tap: LayerTap, n_outputs: int) -> list[nn.Linear]:
    """The linear layers that could lead from a layer's pooled activations to the outputs."""
    return [
        module
        for module in model.network.modules()
        if isinstance(module, nn.Linear)
        and (module.out_features, module.in_features) == (n_outputs, tap.n_units)
    ]


def _agrees(
    head: nn.Linear, model: TargetModel, pooled_nu: torch.Tensor, logits_nc: torch.Tensor
) -> bool:
    """Whether a linear layer on a layer's pooled activations gives the outputs of every image.

    Agreement of shapes proves nothing; the numbers must agree on every batch, and the activations
    must not all be zero.
    """
    expected = head(pooled_nu.to(head.weight.dtype)).float()
    scale = logits_nc.abs().max().clamp_min(1e-6)
    most = max(1e-4, 32 * model.resolution) * scale
    return not bool((expected - logits_nc).abs().max() > most)


def _proven_weight(
    heads: Sequence[nn.Linear],
    agrees: Sequence[bool],
    is_seen: Sequence[bool],
    chosen: Sequence[int],
) -> np.ndarray | None:
    each = zip(heads, agrees, is_seen, strict=True)
    proven = [head for head, is_one, is_run in each if is_one and is_run]
    if not proven:
        return None
    return proven[-1].weight.detach().float().cpu().numpy()[list(chosen)]


def _reads(model: TargetModel, tap: LayerTap, few: np.ndarray) -> bool:
    """Whether the outputs for a few images change with what a layer gives."""

    def moved(module: nn.Module, args: Any, output: Any) -> Any:
        tensor = first_tensor(output)
        assert tensor is not None
        ramp = torch.linspace(-1, 1, tensor.numel(), device=tensor.device).reshape(tensor.shape)
        return with_first(output, tensor + (ramp * (1 + tensor.abs().amax())).to(tensor.dtype))

    if not len(few):
        return False
    with torch.inference_mode():
        before = model.logits(model.run(to_device(few, model)))
        with hooks_on(model, {tap.id.module: moved}):
            after = model.logits(model.run(to_device(few, model)))
    return before is not None and after is not None and not torch.equal(before, after)
