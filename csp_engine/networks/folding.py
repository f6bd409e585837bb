"""Batch normalisation as part of the convolution before it, in a copy of a network.

In evaluation a batch normalisation multiplies and shifts each channel by constants, as the weights
of a convolution can: γ(w∗x + b − μ)/σ + β = (γw/σ)∗x + γ(b − μ)/σ + β. Which normalisation reads
which convolution is observed in a pass, never concluded from names. What one pass shows holds for
other images only where no image decides what is run, so in a network that looks at numbers while it
runs, or cannot run without them, nothing is folded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from csp_engine.networks.devices import own_copy
from csp_engine.networks.steadiness import undisturbed

ACTS_TOO = "BatchNormAct2d"
"""timm's normalisation, which applies its ``drop`` and ``act`` as well."""
_READS = {
    "item", "is_nonzero", "equal", "_local_scalar_dense", "tolist", "numpy", "__array__",
    "__dlpack__", "data_ptr", "storage", "untyped_storage", "__repr__", "apply_", "map_",
    "to_sparse", "_nnz",
}  # fmt: skip
"""What hands numbers of a tensor to Python, where they may decide what is run."""
_COUNTED = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
"""Tags of operations that give a number, or a tensor as long as the numbers in it say."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one pass shows of a network's convolutions.

    Attributes:
        pairs: paths of convolutions and of the normalisation that alone reads what they give.
        n_convolutions: how many ran.
        n_products: multiplications in all of them, for one image.
    """

    pairs: tuple[tuple[str, str], ...]
    n_convolutions: int
    n_products: int


class _Reads(TorchFunctionMode):
    """Notes whether Python looks at numbers of a tensor; of ``numpy`` operations tell nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.is_any = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.is_any |= getattr(func, "__name__", "") in _READS
        return func(*args, **(kwargs or {}))


class _Uses(TorchDispatchMode):
    """Notes which of some tensors are read by an operation while nobody is excused."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[int, torch.Tensor] = {}  # held, so that no other gets its address
        self.used: set[int] = set()
        self.excused: int | None = None
        self.is_looked_at = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        is_counted = not _COUNTED.isdisjoint(func.tags)
        if name == "index":  # by a mask: as long as what it lets through; by places: as these
            masks = (torch.bool, torch.uint8)
            is_counted = any(getattr(at, "dtype", None) in masks for at in tree_leaves(args[1]))
        self.is_looked_at |= name in _READS or is_counted
        for leaf in tree_leaves((args, kwargs)):
            if id(leaf) in self.watched and id(leaf) != self.excused:
                self.used.add(id(leaf))
        return func(*args, **(kwargs or {}))


def look(network: nn.Module, run: Callable[[], Any], n_images: int) -> Seen:
    """Run a network once and see its convolutions, and which normalisations read them.

    Args:
        network: in evaluation mode.
        run: one pass.
        n_images: of that pass.
    """
    names = Counter(id(m) for _, m in network.named_modules(remove_duplicate=False))
    uses, reads, calls = _Uses(), _Reads(), Counter[str]()
    given: dict[int, str] = {}  # tensor that a convolution gave → its path
    found: list[tuple[str, str, int]] = []
    n_products = 0
    handles = []

    def after_convolution(name: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: torch.Tensor) -> None:
            nonlocal n_products
            calls[name] += 1
            n_products += output.numel() // n_images * module.weight[0].numel()
            uses.watched[id(output)] = output
            given[id(output)] = name

        return hook

    def around_norm(name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(module: Any, args: Any) -> None:
            calls[name] += 1
            if len(args) == 1 and id(args[0]) in given:
                found.append((given[id(args[0])], name, id(args[0])))
                uses.excused = id(args[0])

        def after(module: Any, args: Any, output: Any) -> None:
            uses.excused = None

        return before, after

    can_fold = set()
    for name, module in network.named_modules():
        is_own = names[id(module)] == 1 and not _has_hooks(module)
        if type(module) is nn.Conv2d:
            if is_own:
                can_fold.add(name)
            handles.append(module.register_forward_hook(after_convolution(name)))
        elif is_own and _is_constant_norm(module):
            before, after = around_norm(name)
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(after))
    try:
        # In inference mode, operations made of others would hide these.
        with undisturbed(network), torch.no_grad(), uses, reads:
            run()
    finally:
        for handle in handles:
            handle.remove()
    pairs = tuple(
        (convolution, norm)
        for convolution, norm, tensor in found
        if not (reads.is_any or uses.is_looked_at)
        and convolution in can_fold
        and calls[convolution] == calls[norm] == 1
        and tensor not in uses.used
    )
    return Seen(pairs, len(set(given.values())), n_products)


def needs_numbers(run: Callable[[torch.Tensor], Any], pixels: torch.Tensor) -> bool:
    """Whether a pass can't be made with tensors that have shapes and no numbers.

    Such a pass ends wherever numbers would decide: also where that is hidden from ``look``, as in
    operations of other libraries and in those that read memory themselves.

    Args:
        run: one pass, of a network that nobody needs afterwards, as it may keep such tensors.
        pixels: of a few images.
    """
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as mode:
        try:
            run(mode.from_tensor(pixels))
        except Exception:  # each operation has its own
            return True
    return False


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _is_constant_norm(module: nn.Module) -> bool:
    """Whether a module multiplies and shifts channels by constants, and how is known."""
    if type(module) is not nn.BatchNorm2d and type(module).__name__ != ACTS_TOO:
        return False
    return (
        isinstance(module, nn.BatchNorm2d)
        and module.running_mean is not None
        and module.running_var is not None
        and not module.training
    )


def folded(
    network: nn.Module, pairs: Collection[tuple[str, str]], listened: Collection[str]
) -> tuple[nn.Module, int]:
    """A copy of a network with normalisations folded into the convolutions before them.

    Every other module keeps its path. What a normalisation gives is given at its path, too.

    Args:
        network: in evaluation mode.
        pairs: from ``look``.
        listened: paths whose outputs must stay what they are; such convolutions are left alone.

    Returns:
        the copy, and how many normalisations were folded.

    Raises:
        InputError: the network shares parts with its copies.
    """
    twin = own_copy(network)
    n_folded = 0
    for convolution, norm in pairs:
        if convolution in listened:
            continue
        own: Any = twin.get_submodule(convolution)
        held: Any = twin.get_submodule(norm)
        twin.set_submodule(convolution, fuse_conv_bn_eval(own, held))
        rest = nn.Identity()
        if type(held).__name__ == ACTS_TOO:
            rest = nn.Sequential()
            rest.add_module("drop", held.drop)
            rest.add_module("act", held.act)
        twin.set_submodule(norm, rest.eval())
        n_folded += 1
    return twin, n_folded
