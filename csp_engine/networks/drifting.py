"""Networks whose values creep from pass to pass, too slowly for two passes to show it.

A network that repeats itself bit by bit does not drift. Where two passes differ by less than float
noise may, many show which it is: noise stays as large as it is, and what creeps goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from csp_engine.errors import InputError

N_PASSES = 30
"""Passes, twice, after which what creeps has moved on."""

Outputs = Mapping[str, torch.Tensor]


def drift(run: Callable[[], Outputs], first: Outputs, second: Outputs) -> tuple[str, float] | None:
    """The layer that creeps most and by what share of its largest value, or None.

    Args:
        run: one more pass over the same images.
        first: what the first pass gave, by layer.
        second: what the next one gave.
    """
    step_of = _apart(first, second)
    if not any(step_of.values()):
        return None
    halfway_of, end_of = (_apart(first, [run() for _ in range(N_PASSES)][-1]) for _ in range(2))
    creeping = [
        layer
        for layer, step in step_of.items()
        if halfway_of[layer] > 4 * step and end_of[layer] > 1.2 * halfway_of[layer]
    ]
    if not creeping:
        return None
    share_of = {layer: end_of[layer] / (float(first[layer].abs().max()) or 1) for layer in creeping}
    most = max(creeping, key=share_of.__getitem__)
    return most, share_of[most]


def _apart(one: Outputs, other: Outputs) -> dict[str, float]:
    """The largest difference of each layer; 0 where all is the same bit by bit."""
    return {
        layer: 0.0
        if torch.equal(values, other[layer])
        else float(torch.nan_to_num(values.double() - other[layer].double()).abs().max())
        for layer, values in one.items()
    }


def kept_between(network: nn.Module, run: Callable[[], Any]) -> list[str]:
    """What a pass changes of a network's weights and of the numbers that its modules keep."""
    before = _held(network)
    run()
    after = _held(network)
    return [path for path, value in after.items() if not _is_same(before.get(path), value)]


@contextmanager
def gradients_through(network: nn.Module, name: str) -> Generator[None]:
    """Passes inside take gradients, also by what earlier passes without gradients left behind.

    Torch refuses to go by tensors that were made while no gradients were kept. Weights that the
    network casts and tensors among the attributes of its modules are replaced by copies.

    Raises:
        InputError: if the network keeps such a tensor elsewhere.
    """
    for module in network.modules():
        places: list[dict[str, Any]] = [module._parameters, module._buffers, vars(module)]
        for held in places:
            for key, value in list(held.items()):
                if not isinstance(value, torch.Tensor) or not value.is_inference():
                    continue
                with torch.inference_mode(False):
                    copy = value.detach().clone()
                is_weight = isinstance(value, nn.Parameter)
                held[key] = nn.Parameter(copy, value.requires_grad) if is_weight else copy
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    except RuntimeError as error:
        if "nference tensor" not in str(error):
            raise
        raise InputError(
            f"{name} goes on with a tensor that it kept from an earlier pass, so no gradient can "
            "be taken; let it make the tensor anew in each pass, or build with --influence-images "
            "0."
        ) from error


def _held(network: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, module in network.named_modules():
        own = {**vars(module), **module._parameters}
        for key, value in own.items():
            if isinstance(value, torch.Tensor):
                value = value.detach().clone()
            if isinstance(value, torch.Tensor | int | float):
                found[f"{path}.{key}".lstrip(".")] = value
    return found


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and torch.equal(one, other)
    return one is other or one == other
