"""One pass through a network, with gradients between its outputs and the layers looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from csp_engine.errors import InputError, UnansweredError
from csp_engine.networks.activations import positions_last, require_rows, to_device
from csp_engine.networks.drifting import gradients_through
from csp_engine.networks.layers import LayerTap, hooks_on
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import first_tensor
from csp_engine.networks.steadiness import require_steady


def with_first(output: Any, tensor: torch.Tensor) -> Any:
    """A module's output with its first tensor replaced."""
    if isinstance(output, torch.Tensor):
        return tensor
    if isinstance(output, tuple | list):
        rest = [with_first(output[0], tensor), *output[1:]]
        return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)
    key = next(k for k, v in output.items() if v is not None)  # a transformers ModelOutput
    return type(output)(**{**output, key: with_first(output[key], tensor)})


def chosen_outputs(
    model: TargetModel, outputs: Sequence[int | str] | None, n_outputs: int
) -> list[int]:
    """Output numbers from numbers, also as text, or class names."""
    names = model.class_names or ()
    if outputs is None:
        return list(range(n_outputs))
    numbers = []
    for output in outputs:
        if isinstance(output, str) and output.isdecimal() and output not in names:
            output = int(output)
        if isinstance(output, str):
            if output not in names:
                raise InputError(
                    f"{model.name} has no output called {output!r}; give a class name or a number "
                    f"from 0 to {n_outputs - 1}."
                )
            places = [i for i, name in enumerate(names) if name == output]
            if len(places) > 1:
                raise InputError(
                    f"Outputs {' and '.join(map(str, places))} of {model.name} are both called "
                    f"{output!r}; give the number, such as --output {places[0]}."
                )
            numbers.append(places[0])
        elif 0 <= output < n_outputs:
            numbers.append(int(output))
        else:
            raise InputError(f"{model.name} has no output {output}; it has 0 to {n_outputs - 1}.")
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError("The chosen outputs are empty or name one twice; name each once.")
    return numbers


class GradientPass:
    """One forward pass with gradients from the earliest tapped layer to the logits, and no further.

    The output of a tapped layer that carries no gradient yet becomes a leaf; one behind another
    tapped layer stays in the graph. Either way the network goes on with a copy, so that in-place
    operations after the layer change neither the recorded activation nor what the gradient is of.
    """

    def __init__(self, model: TargetModel, tap_of: Mapping[str, LayerTap]) -> None:
        self.tapped: dict[str, torch.Tensor] = {}
        self._model = model
        self._n_rows = 0
        self._hooks = {name: self._tap(name, tap) for name, tap in tap_of.items()}

    def _tap(self, name: str, tap: LayerTap) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            tensor = require_rows(first_tensor(output), tap, self._n_rows)
            if not tensor.requires_grad:
                tensor = tensor.detach().clone().requires_grad_(True)
            self.tapped[name] = tensor
            return with_first(output, tensor.clone())

        return hook

    def run(self, pixels: np.ndarray) -> torch.Tensor:
        """The logits; what the layers gave is in ``tapped``, in the order in which they ran."""
        x = to_device(pixels, self._model)
        if len(x) == 1 and self._model.steadiness.needs_company:
            x = torch.cat([x, x])
        self._n_rows = len(x)
        with (
            gradients_through(self._model.network, self._model.name),
            hooks_on(self._model, self._hooks),
        ):
            logits = self._model.logits(self._model.run(x))
        if logits is not None and len(logits) != len(x):
            raise InputError(
                f"{self._model.name} gives outputs for {len(logits)} rows of a batch of {len(x)} "
                "images; build with --influence-images 0, or with another --batch-size."
            )
        if logits is None:
            raise InputError(
                f"{self._model.name} is not a classifier, so it has no outputs to drive; leave "
                "out --output and --class-names, or add --influence-images 0."
            )
        return logits


def products(
    picked: torch.Tensor,
    tapped: Mapping[str, torch.Tensor],
    tap_of: Mapping[str, LayerTap],
    *,
    is_last: bool = True,
) -> dict[str, torch.Tensor]:
    """Gradient times activation of every image and unit, of the layers that reach ``picked``.

    Unless it ``is_last``, others may be picked from the same pass afterwards.

    Raises:
        InputError: if a gradient, or its product with an activation, is not finite.
    """
    tensors = [tapped[name] for name in tap_of]
    grads = torch.autograd.grad(picked, tensors, allow_unused=True, retain_graph=not is_last)
    for name, grad in zip(tap_of, grads, strict=True):
        if grad is not None and not grad.isfinite().all():
            raise InputError(
                f"The gradient of the outputs at layer {name!r} is not finite; leave the layer out "
                "with --layer, or build with --influence-images 0."
            )
    found = {
        name: positions_last(tensor.detach().float() * grad.float(), tap).sum(-1)
        for (name, tap), tensor, grad in zip(tap_of.items(), tensors, grads, strict=True)
        if grad is not None
    }
    for name, product_nu in found.items():
        # Pooled by its maximum, a layer may hide a place of minus infinity.
        if not product_nu.isfinite().all():
            raise InputError(
                f"Layer {name!r} gives values that are not finite at some places, so what it does "
                "to the outputs has no number; leave the layer out with --layer, or build with "
                "--influence-images 0."
            )
    return found


def require_steady_outputs(model: TargetModel, pixels: np.ndarray) -> None:
    """Once per network: see that its outputs are functions of the image alone."""
    if "" in model.steadiness.checked:
        return

    def run(few: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            logits = model.logits(model.run(few))
        if logits is None:
            return {}
        if len(logits) != len(few):
            raise InputError(
                f"{model.name} gives {len(logits)} rows of outputs for {len(few)} images; build "
                "with --influence-images 0."
            )
        return {"": logits[..., None]}

    x = to_device(pixels, model)
    require_steady(model.network, model.name, model.steadiness, run, x, model.resolution)
    model.steadiness.checked.add("")


def rows_of_outputs(
    model: TargetModel,
    logits: torch.Tensor,
    class_n: np.ndarray | None,
    chosen: list[int],
    n_before: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """For each image that counts: its row among the chosen outputs, and its place in the batch.

    ``n_before`` images went through the network in earlier batches.

    Raises:
        UnansweredError: for the first image with an output that is not a number, or without bound.
            An output of minus infinity is a class that is ruled out; where all are, no class is
            left to decide for.
    """
    n, n_outputs = logits.shape
    is_lost_n = (logits.isnan() | logits.isposinf()).any(dim=1)
    is_lost_n |= logits[:, chosen].isneginf().all(dim=1) & (class_n is None)
    if is_lost_n.any():
        raise UnansweredError(model.name, n_before + int(is_lost_n.int().argmax()))
    if class_n is None:
        row_n = logits[:, chosen].argmax(dim=1)
        return row_n, torch.arange(n, device=logits.device)
    class_n = np.asarray(class_n)
    if class_n.shape != (n,) or not np.issubdtype(class_n.dtype, np.integer):
        raise InputError(
            f"There are {n} images and classes of shape {class_n.shape} ({class_n.dtype}); give "
            "one whole number per image."
        )
    if n and (class_n.min() < 0 or class_n.max() >= n_outputs):
        wrong = class_n[(class_n < 0) | (class_n >= n_outputs)][0]
        raise InputError(f"{model.name} has no output {wrong}; it has 0 to {n_outputs - 1}.")
    row_of = {c: row for row, c in enumerate(chosen)}
    pairs = [(row_of[c], i) for i, c in enumerate(class_n.tolist()) if c in row_of]
    rows = torch.as_tensor([p[0] for p in pairs], dtype=torch.long, device=logits.device)
    images = torch.as_tensor([p[1] for p in pairs], dtype=torch.long, device=logits.device)
    return rows, images
