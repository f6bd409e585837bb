"""What some classifiers do to their logits last: a softmax, a sigmoid, or the logarithm of either.

Where a layer is found whose output is what goes into it, logits are taken from there, exact and
with their own gradient. Otherwise they are taken back from what the network returns.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Ending:
    """A function that ends a network.

    Attributes:
        name: as people call it.
        gives: of logits ``(n, c)``, what the network returns.
        undone: of what it returns the logits, in the softmax's case less one number a row.
        is_shared: whether the classes of a row share one whole.
        step: what autograd calls the operation.
    """

    name: str
    gives: Callable[[torch.Tensor], torch.Tensor]
    undone: Callable[[torch.Tensor], torch.Tensor]
    is_shared: bool = False
    step: str = ""


SOFTMAX = Ending("softmax", lambda z: z.softmax(1), torch.log, is_shared=True)
PERCENT = Ending(
    "softmax in per cent", lambda z: 100 * z.softmax(1), lambda y: (y / 100).log(), is_shared=True
)
LOG_SOFTMAX = Ending("log-softmax", lambda z: z.log_softmax(1), lambda y: y, is_shared=True)
SIGMOID = Ending("sigmoid", torch.sigmoid, lambda p: p.log() - torch.log1p(-p), step="Sigmoid")
LOG_SIGMOID = Ending(
    "log-sigmoid", F.logsigmoid, lambda y: y - torch.log(-torch.expm1(y)), step="LogSigmoid"
)
_RESHAPING = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice",
              "ToCopy", "Clone", "Alias", "AsStrided", "Transpose", "Permute")  # fmt: skip
"""Operations that move or copy numbers and leave them as they are."""


def are_shares(tensor: torch.Tensor, whole: float = 1.0, eps: float = 0.0) -> bool:
    """Whether each row of two numbers or more is nowhere below 0 and sums to a whole.

    Args:
        tensor: rows of finite numbers.
        whole: what they sum to.
        eps: relative rounding of the numbers, by default that of their type.
    """
    loss = max(1e-4, 2 * (eps or torch.finfo(tensor.dtype).eps))
    sums = tensor.float().sum(1) / whole
    return tensor.shape[1] > 1 and bool((tensor >= 0).all() and ((sums - 1).abs() <= loss).all())


def possible(tensor: torch.Tensor) -> Ending | None:
    """The ending by which a network can give these numbers, all of them finite.

    Shares of one whole are given by nothing else; what lies between 0 and 1, or below 0, may be
    logits as well.
    """
    if are_shares(tensor):
        return SOFTMAX
    if are_shares(tensor, whole=100.0):
        return PERCENT
    # Logarithms are rounded by their own size: a class as unlikely as e⁻⁸ by eight times as much.
    if are_shares(tensor.float().exp(), eps=4 * torch.finfo(tensor.dtype).eps):
        return LOG_SOFTMAX
    if ((tensor >= 0) & (tensor <= 1)).all():
        return SIGMOID
    return LOG_SIGMOID if (tensor <= 0).all() else None


@dataclass(frozen=True, slots=True)
class Source:
    """A layer that gives the logits.

    Attributes:
        module: its path in the network.
        scale: by which the network multiplies them before its ending, such as one over a
            temperature.
    """

    module: str
    scale: float


class Listener:
    """What the layers of a network give that may be logits, by path, in the order they ran."""

    def __init__(self) -> None:
        self.given: dict[str, torch.Tensor] = {}

    @contextmanager
    def on(self, network: nn.Module, only: str | None = None) -> Generator[None]:
        """Listen to a pass. Whoever changes what a layer gives must have begun before.

        Scripted parts cannot be listened to; they are layers like others otherwise.
        """
        self.given.clear()

        def hook(path: str) -> Callable[..., None]:
            def keep(module: nn.Module, args: Any, output: Any) -> None:
                # One number for each image and class: no map, which would hold much memory.
                is_number = isinstance(output, torch.Tensor) and output.is_floating_point()
                if is_number and output.ndim > 1 and output.shape[2:].numel() == 1:
                    self.given.pop(path, None)
                    self.given[path] = output

            return keep

        handles = [
            module.register_forward_hook(hook(path))
            for path, module in network.named_modules()
            if path and only in (None, path) and not isinstance(module, torch.jit.ScriptModule)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def source_of(
    returned: torch.Tensor, given: dict[str, torch.Tensor], ending: Ending
) -> Source | None:
    """The layer whose output becomes what the network returns, of several that which ran last."""
    n, value_nc = len(returned), returned.detach().float()
    if not ending.is_shared and not (ending.undone(value_nc).abs() < 12).any():
        return None  # all so near to the bounds that many tensors would become the same
    for path, output in reversed(given.items()):
        # The layer that is the ending: between 0 and 1 that is nearly a line.
        if _is_as_large(output, returned) and torch.equal(output.float().reshape(n, -1), value_nc):
            continue
        for scale in (1.0, _scale(output, returned, ending)):
            source = Source(path, scale)
            z = logits_from(output, source, returned, ending) if scale > 0 else None
            if z is None:
                continue
            if ending.is_shared:
                z = z - z.mean(1, keepdim=True)
            # Between small logits an ending is nearly a line, as other functions are.
            least = 40 * _tolerance(output, returned) if scale == 1 else 0.3
            if z[z.isfinite()].abs().max() >= least:
                return source
    return None


def _tolerance(*tensors: torch.Tensor) -> float:
    """By how much numbers may differ, as far as the arithmetic goes that gave them."""
    return max(1e-5, *(torch.finfo(each.dtype).eps for each in tensors))


def logits_from(
    output: torch.Tensor, source: Source, returned: torch.Tensor, ending: Ending
) -> torch.Tensor | None:
    """Logits ``(n, c)`` by what a layer gave, or None where these don't become what is returned."""
    if not _is_as_large(output, returned):
        return None
    z = source.scale * output.float().reshape(returned.shape)
    expected = returned.detach().float()
    is_known = expected.isfinite()
    off = (ending.gives(z.detach()) - expected).abs() / expected.abs().clamp_min(1)
    is_it = bool(is_known.any() and (off[is_known] <= _tolerance(output, returned)).all())
    return z if is_it else None


def _is_as_large(output: torch.Tensor, returned: torch.Tensor) -> bool:
    return output.numel() == returned.numel() and len(output) == len(returned)


def _scale(output: torch.Tensor, returned: torch.Tensor, ending: Ending) -> float:
    """By how much logits are multiplied before their ending, 0 where this cannot be told well.

    By least squares, where each number counts by how well what is returned tells it. In half
    precision a wrong function would fit as well.
    """
    n, c = returned.shape
    if not _is_as_large(output, returned) or n * (c - ending.is_shared) < 2:
        return 0.0
    if _tolerance(output, returned) > 1e-5:
        return 0.0
    x = output.detach().float().reshape(n, c)
    y = returned.detach().float()
    expected = ending.undone(y)
    share = expected.softmax(1) if ending.is_shared else expected.sigmoid() * (-expected).sigmoid()
    known = (x.isfinite() & expected.isfinite()).all(1)
    x, y, share = x[known], expected[known], share[known]
    if ending.is_shared:
        x, y = (each - (share * each).sum(1, keepdim=True) for each in (x, y))
    return float((share * x * y).sum() / (share * x * x).sum().clamp_min(1e-12))


def ends_in(returned: torch.Tensor, ending: Ending) -> bool:
    """Whether autograd says that a tensor was given by an operation, moved or copied at most."""
    step = returned.grad_fn
    while step is not None and step.name().startswith(_RESHAPING):
        step = next((before for before, _ in step.next_functions if before is not None), None)
    return bool(ending.step) and step is not None and step.name().startswith(ending.step)
