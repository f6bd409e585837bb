"""Whether all that follows a layer reads what the layer gives, so that changing it reaches all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from csp_engine.networks.activations import to_device
from csp_engine.networks.driving.gradients import with_first
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import first_tensor


class _Reads(TorchDispatchMode):
    """Notes which of some memory is read by an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, str] = {}
        self.held: list[torch.Tensor] = []  # so that no other gets its address
        self.found: set[str] = set()

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        self.held.append(tensor)
        self.watched[_place(tensor)] = name

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor) and _place(leaf) in self.watched:
                self.found.add(self.watched[_place(leaf)])
        return func(*args, **(kwargs or {}))


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def passed_by(model: TargetModel, modules: Iterable[str], pixels: np.ndarray) -> set[str]:
    """Modules whose output the network reads elsewhere than where they return it.

    A rectifier that works in place gives its input, too, which a shortcut around it may read; a
    hook of the network's own, or a module, may have kept what a layer gave. Whatever is put in the
    place of such an output reaches part of the network only.

    Args:
        model: the network.
        modules: their paths.
        pixels: of a few images.
    """
    reads = _Reads()
    entered: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            tensors = [each for each in tree_leaves(args) if isinstance(each, torch.Tensor)]
            entered[name] = [(each, each.clone()) for each in tensors]

        return hook

    def after(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            tensor = first_tensor(output)
            if tensor is None:
                return None
            given = with_first(output, tensor.clone())
            # What a layer hands on as it came, such as dropout in evaluation, is not its own.
            is_own = not any(
                _place(own) == _place(tensor) and torch.equal(own, was)
                for own, was in entered.pop(name, [])
            )
            if is_own:
                reads.watch(tensor, name)
            return given

        return hook

    handles = []
    try:
        for name in modules:
            module = model.network.get_submodule(name)
            handles.append(module.register_forward_pre_hook(before(name)))
            handles.append(module.register_forward_hook(after(name)))
        with torch.inference_mode(), reads:
            few = to_device(pixels[:2], model)
            model.run(few if len(few) > 1 else torch.cat([few, few]))
    finally:
        for handle in handles:
            handle.remove()
    return reads.found
