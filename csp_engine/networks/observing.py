"""What a few forward passes show of every module: calls, shapes, axes and constant tokens.

Which axis of an output holds the units is observed, never concluded from its size. Kinds of
evidence:

- *batch*: the network runs on two and on three images; the axis that follows is the images';
- *size*: it runs again on a larger, non-square image; axes that move are positions, the one that
  stays is the units' (two axes that grow alike are an attention matrix, not a map);
- *flow*: a convolution reads and writes channels on axis 1, a linear layer or layer norm on the
  last axis; the tensor objects they share with other modules (a block's output is the next norm's
  input; activations and dropout keep their input's layout) carry that knowledge on;
- *constancy*: where tokens first appear, those that are the same for every image are no patches.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.models import TargetModel
from csp_engine.networks.steadiness import undisturbed

logger = logging.getLogger(__name__)


def first_tensor(output: Any) -> torch.Tensor | None:
    """The tensor a module's output stands for: itself, or the first of a tuple or ModelOutput.

    A list of several tensors stands for none of them: they are branches that run side by side, as
    in CrossViT and HRNet, and the first alone would pass for the layer.
    """
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, list) and sum(isinstance(each, torch.Tensor) for each in output) > 1:
        return None
    if isinstance(output, tuple | list):
        return output[0] if output and isinstance(output[0], torch.Tensor) else None
    if hasattr(output, "to_tuple"):
        return first_tensor(output.to_tuple())
    return None


_FIRST = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm2d,
    nn.InstanceNorm2d,
    nn.GroupNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Dropout2d,
    nn.PixelShuffle,
    nn.Upsample,
    nn.Conv1d,
    nn.BatchNorm1d,
    nn.AdaptiveAvgPool1d,
    nn.MaxPool1d,
)
_FIRST_NAMES = {"LayerNorm2d"}  # timm's and torchvision's, which permute inside
_LAST = (nn.Linear, nn.Embedding)
_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SiLU,
    nn.GELU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Dropout,
    nn.Identity,
)
_ELEMENTWISE_NAMES = {"DropPath", "StochasticDepth", "GELUActivation", "GELUTanh", "LayerScale"}


def _channel_axis(module: nn.Module, n_axes: int) -> int | None:
    """The axis a module type defines as its features, or None where the type does not say."""
    if isinstance(module, _FIRST) or type(module).__name__ in _FIRST_NAMES:
        return 1
    if isinstance(module, nn.MultiheadAttention):
        return n_axes - 1
    if type(module) is nn.LayerNorm:  # subclasses may permute
        return n_axes - 1 if len(module.normalized_shape) == 1 else None
    if isinstance(module, _LAST):
        return n_axes - 1
    return None


@dataclass
class _Seen:
    """What one pass showed of one module."""

    n_calls: int = 0
    shape: tuple[int, ...] = ()
    is_float: bool = False
    key: tuple[Any, ...] = ()
    rank: int = 0


@dataclass
class _Pass:
    """What one forward pass showed: modules by name and what is known of tensors' channel axes."""

    seen: dict[str, _Seen] = field(default_factory=dict)
    axis: dict[tuple[Any, ...], int] = field(default_factory=dict)
    links: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = field(default_factory=list)
    kept: list[torch.Tensor] = field(default_factory=list)  # so that addresses stay unique
    error: Exception | None = None

    def key(self, tensor: torch.Tensor) -> tuple[Any, ...]:
        self.kept.append(tensor)
        return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())

    def settle(self) -> None:
        """Carry known axes along links until nothing changes."""
        is_changing = True
        while is_changing:
            is_changing = False
            for a, b in self.links:
                for source, target in ((a, b), (b, a)):
                    if source in self.axis and target not in self.axis:
                        self.axis[target] = self.axis[source]
                        is_changing = True


def _listened_to(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules inside of a network; parts that are TorchScript take no hooks."""
    return [
        (name, module)
        for name, module in network.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)
    ]


def _observe(run: Callable[[], Any], network: nn.Module, *, is_tracing: bool = False) -> _Pass:
    """Run the network once and note calls and shapes; an error is kept, not raised.

    Tracing also notes channel axes, for which every tensor of the pass must stay alive.
    """
    result = _Pass()
    handles = []
    n_calls = 0

    def hook_for(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            nonlocal n_calls
            seen = result.seen.setdefault(name, _Seen())
            seen.n_calls += 1
            n_calls += 1
            seen.rank = n_calls
            tensor = first_tensor(output)
            if tensor is None:
                seen.shape = ()
                return
            seen.shape, seen.is_float = tuple(tensor.shape), tensor.is_floating_point()
            if not is_tracing:
                return
            seen.key = result.key(tensor)
            source = first_tensor(args)
            source_key = None if source is None else result.key(source)
            for key in (seen.key, source_key):
                if key is not None and len(key[1]) >= 3:
                    axis = _channel_axis(module, len(key[1]))
                    if axis is not None:
                        result.axis.setdefault(key, axis)
            keeps = isinstance(module, _ELEMENTWISE) or type(module).__name__ in _ELEMENTWISE_NAMES
            if keeps and source_key is not None and source_key[1] == seen.key[1]:
                result.links.append((source_key, seen.key))

        return hook

    try:
        for name, module in _listened_to(network):
            handles.append(module.register_forward_hook(hook_for(name)))
        with undisturbed(network), torch.inference_mode():
            run()
    except Exception as error:  # a network may refuse an image size anywhere, in any way
        result.error = error
    finally:
        for handle in handles:
            handle.remove()
    result.settle()
    return result


def first_tokens(
    run: Callable[[torch.Tensor], Any], network: nn.Module, x: torch.Tensor
) -> tuple[dict[tuple[str, int], torch.Tensor], _Pass]:
    """Where each number of tokens first appears in a pass, read in each layout that is possible.

    By layout and number of tokens: ``(n, tokens, channels)``. Tensors that are the same for every
    image, such as position embeddings, are passed over.
    """
    found: dict[tuple[str, int], torch.Tensor] = {}
    n = len(x)

    def look(tensor: torch.Tensor | None) -> None:
        if tensor is None or tensor.ndim != 3 or not tensor.is_floating_point():
            return
        readings = {"ntc": (0, 1, 2), "nct": (0, 2, 1), "tnc": (1, 0, 2)}
        for layout, axes in readings.items():
            if tensor.shape[axes[0]] == n:
                key = (layout, tensor.shape[axes[1]])
                if key not in found and bool((tensor != tensor.narrow(axes[0], 0, 1)).any()):
                    found[key] = tensor.detach().permute(axes).clone()

    handles = []
    for _, module in _listened_to(network):
        handles.append(module.register_forward_pre_hook(lambda m, a: look(first_tensor(a))))
        handles.append(
            module.register_forward_hook(lambda m, a, output: look(first_tensor(output)))
        )
    try:
        result = _observe(lambda: run(x), network)
    finally:
        for handle in handles:
            handle.remove()
    return found, result


def noise_images(model: TargetModel, n: int) -> torch.Tensor:
    """Pixels that differ everywhere, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, *model.input_shape, generator=generator).to(model.device)


def _zeros(model: TargetModel, n: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.zeros(n, *shape, device=model.device)


def _larger_pass(model: TargetModel) -> list[_Pass]:
    """Passes on larger, non-square images, as far as the network accepts any."""
    c, h, w = model.input_shape
    passes = []
    for height, width in ((h + 64, w + 128), (2 * h, 3 * w)):
        x = _zeros(model, 1, (c, height, width)).to(model.dtype)
        network = model.network
        runs: list[Callable[[], Any]] = [lambda x=x: model.run(x)]
        if hasattr(network, "config") and hasattr(network.config, "to_dict"):  # transformers
            runs.append(lambda network=network, x=x: network(x, interpolate_pos_encoding=True))
        for run in runs:
            result = _observe(run, network)
            passes.append(result)
            if result.error is None:
                return passes
        if hasattr(network, "set_input_size"):  # timm's transformers, by a resized copy
            try:
                twin: Any = copy.deepcopy(network)
                twin.set_input_size(img_size=(height, width))
            except Exception as error:
                logger.debug("set_input_size refused %s: %s", (height, width), error)
                continue
            result = _observe(lambda twin=twin, x=x: twin(x), twin)
            passes.append(result)
            if result.error is None:
                return passes
    return passes


def _by_size(small: tuple[int, ...], large: tuple[int, ...], batch_axis: int) -> str | None:
    """The layout that a larger image reveals; "" if it shows that this is no map and no tokens."""
    if len(small) != len(large) or large[batch_axis] != 1:
        return None
    others = [axis for axis in range(len(small)) if axis != batch_axis]
    moved = [axis for axis in others if small[axis] != large[axis]]
    if not moved:
        return None
    if len(small) == 3:
        if batch_axis == 1:
            return {(0,): "tnc"}.get(tuple(moved), "")
        return {(1,): "ntc", (2,): "nct"}.get(tuple(moved), "")
    if len(small) == 4 and len(moved) == 2:
        if large[moved[0]] == large[moved[1]]:
            return ""  # both grew alike although height and width did not: an attention matrix
        return {(2, 3): "nchw", (1, 2): "nhwc"}.get((moved[0], moved[1]), "")
    return ""


BY_AXIS = {
    # (number of axes, images' axis, units' axis) -> layout
    (4, 0, 1): "nchw",
    (4, 0, 3): "nhwc",
    (3, 0, 1): "nct",
    (3, 0, 2): "ntc",
    (3, 1, 2): "tnc",
}


@dataclass
class Candidate:
    """A module that gives one float tensor with an axis of images.

    ``shape`` is without that axis, ``larger`` of the same module for a larger image, if it took
    one. ``layout`` is None where it cannot be told.
    """

    name: str
    module: nn.Module
    shape: tuple[int, ...]
    larger: tuple[int, ...] | None
    layout: str | None
    n_calls: int
    tokens_first: bool = False


@dataclass
class Observed:
    """What was seen of a network.

    ``grids`` are the sizes (height times width) of its feature maps, ``larger_grids`` those for a
    larger image. ``tokens`` are the first that were seen of each layout and number, ``still`` says
    which of them are the same for every image; ``moved`` are the first with another class token,
    where that was tried.
    """

    candidates: dict[str, Candidate]
    tokens: dict[tuple[str, int], torch.Tensor]
    still: dict[tuple[str, int], torch.Tensor]
    grids: set[int]
    larger_grids: set[int]
    moved: dict[tuple[str, int], torch.Tensor] | None = None


def observe(model: TargetModel) -> Observed:
    """Run a network on small batches and note every module that gives a tensor per image.

    Raises:
        InputError: it cannot run on images of the size that its preprocessing gives.
    """
    shape = model.input_shape
    first = _observe(lambda: model.run(_zeros(model, 2, shape)), model.network, is_tracing=True)
    if first.error is None:
        tokens, second = first_tokens(model.run, model.network, noise_images(model, 3))
    if first.error is not None or second.error is not None:
        error = first.error or second.error
        size = "x".join(map(str, shape))
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"{model.name} cannot run on an image of {size} ({type(error).__name__}: {reason}); "
            "check its preprocessing."
        ) from error
    # Once each: the layers of a transformer nearly all share one number of tokens.
    still = {key: (first_ntc == first_ntc[:1]).all(2).all(0) for key, first_ntc in tokens.items()}
    passes = _larger_pass(model)
    modules = dict(model.network.named_modules())
    found: dict[str, Candidate] = {}
    for name, seen in sorted(first.seen.items(), key=lambda item: item[1].rank):
        dims, other = seen.shape, second.seen.get(name, _Seen()).shape
        if not (2 <= len(dims) <= 4 and seen.is_float and 0 not in dims):
            continue
        if len(other) != len(dims):
            continue
        moved = [
            axis for axis, pair in enumerate(zip(dims, other, strict=True)) if len({*pair}) > 1
        ]
        if len(moved) != 1 or (dims[moved[0]], other[moved[0]]) != (2, 3):
            continue
        batch_axis = moved[0]
        if batch_axis > int(len(dims) == 3):
            continue
        candidate = Candidate(
            name=name,
            module=modules[name],
            shape=(*dims[:batch_axis], *dims[batch_axis + 1 :]),
            larger=None,
            layout="nc" if len(dims) == 2 else None,
            n_calls=max(seen.n_calls, second.seen[name].n_calls),
            tokens_first=batch_axis == 1,
        )
        for result in passes if len(dims) > 2 else ():
            large = result.seen.get(name, _Seen()).shape
            if candidate.layout is None and large:
                candidate.layout = _by_size(dims, large, batch_axis)
                candidate.larger = (*large[:batch_axis], *large[batch_axis + 1 :])
        axis = first.axis.get(seen.key)
        if candidate.layout is None and axis is not None:
            candidate.layout = BY_AXIS.get((len(dims), batch_axis, axis))
        if candidate.layout is None and len(dims) == 3:
            candidate.layout = _by_constancy(candidate, still)
        if candidate.layout is None and candidate.tokens_first:
            candidate.layout = "tnc"  # no other order has its images in the middle
        candidate.layout = candidate.layout or None
        found[name] = candidate
    maps = [c for c in found.values() if c.layout in ("nchw", "nhwc")]
    return Observed(
        found,
        tokens,
        still,
        {_grid(c.shape, c.layout) for c in maps},
        {_grid(c.larger, c.layout) for c in maps if c.larger is not None},
    )


def _by_constancy(candidate: Candidate, still: dict[tuple[str, int], torch.Tensor]) -> str | None:
    """The reading of three axes in which some tokens are the same for every image."""
    fitting = []
    for layout, axis in (("tnc", 0),) if candidate.tokens_first else (("ntc", 0), ("nct", 1)):
        still_t = still.get((layout, candidate.shape[axis]))
        if still_t is not None and bool(still_t.any()):
            fitting.append(layout)
    return fitting[0] if len(fitting) == 1 else None


def _grid(shape: tuple[int, ...], layout: str | None) -> int:
    return shape[1] * shape[2] if layout == "nchw" else shape[0] * shape[1]
