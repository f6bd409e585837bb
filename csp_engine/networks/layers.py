"""The layers of a target model whose outputs can be read as neurons.

Which axis of an output holds the units is observed, never concluded from its size. Two kinds of
evidence count:

- *size*: the network runs again on a larger, non-square image; axes that move are positions, the
  one that stays is the units' (two axes that grow alike are an attention matrix, not a map);
- *flow*: a convolution reads and writes channels on axis 1, a linear layer or layer norm on the
  last axis; the tensor objects they share with other modules (a block's output is the next norm's
  input; activations and dropout keep their input's layout) carry that knowledge on.

Where both are silent, the layer is left out of the list, and selecting it asks for ``layout=``.
"""

from __future__ import annotations

import copy
import difflib
import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.models import TargetModel
from csp_engine.networks.sae import SparseAutoencoder, load_sae
from csp_engine.types import POOLINGS, LayerId

logger = logging.getLogger(__name__)

LAYOUTS = {
    # name -> (kind, whether the units are on the last axis)
    "nchw": ("map", False),
    "nhwc": ("map", True),
    "ntc": ("tokens", True),
    "nct": ("tokens", False),
}
AXES = {"nchw": 4, "nhwc": 4, "ntc": 3, "nct": 3}


@dataclass(frozen=True, eq=False)
class LayerTap:
    """One layer, one pooling: where to listen and how to read what comes.

    ``shape`` is that of one image's output, without the batch axis. ``n_units`` counts channels, or
    latents with an autoencoder. ``n_prefix_tokens`` of this layer's tokens are class or register
    tokens, the first a class token if ``has_class_token``.
    """

    id: LayerId
    kind: str
    channels_last: bool
    n_units: int
    shape: tuple[int, ...]
    type_name: str
    sae: SparseAutoencoder | None = None
    n_prefix_tokens: int = 0
    has_class_token: bool = False

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings that mean something here, the default first."""
        if self.kind == "vector":
            return ("none",)
        if self.kind == "map":
            return ("mean", "max", "absmax")
        n_tokens = self.shape[0 if self.channels_last else 1]
        fitting = ["cls"] if self.has_class_token else []
        if n_tokens > self.n_prefix_tokens:
            fitting.append("token_mean")
        return (*fitting, "mean", "max", "absmax")


def first_tensor(output: Any) -> torch.Tensor | None:
    """The tensor a module's output stands for: itself, or the first of a tuple or ModelOutput."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple | list):
        return output[0] if output and isinstance(output[0], torch.Tensor) else None
    if hasattr(output, "to_tuple"):
        return first_tensor(output.to_tuple())
    return None


# --- observing one forward pass ---------------------------------------------------------------

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
        return n_axes - 1 if module.batch_first else None
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
        for name, module in network.named_modules():
            if name:
                handles.append(module.register_forward_hook(hook_for(name)))
        with torch.inference_mode():
            run()
    except Exception as error:  # a network may refuse an image size anywhere, in any way
        result.error = error
    finally:
        for handle in handles:
            handle.remove()
    result.settle()
    return result


def _zeros(model: TargetModel, n: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.zeros(n, *shape, device=model.device)


def _larger_pass(model: TargetModel) -> list[_Pass]:
    """Passes on larger, non-square images, as far as the network accepts any."""
    c, h, w = model.input_shape
    passes = []
    for height, width in ((h + 64, w + 128), (2 * h, 3 * w)):
        x = _zeros(model, 1, (c, height, width))
        network = model.network
        runs: list[Callable[[], Any]] = [lambda network=network, x=x: network(x)]
        if hasattr(network, "config") and hasattr(network.config, "to_dict"):  # transformers
            runs.append(lambda network=network, x=x: network(x, interpolate_pos_encoding=True))
        for run in runs:
            result = _observe(run, network)
            passes.append(result)
            if result.error is None:
                return passes
        if hasattr(network, "set_input_size"):  # timm's transformers, by a resized copy
            twin: Any = copy.deepcopy(network)
            try:
                twin.set_input_size(img_size=(height, width))
            except Exception as error:
                logger.debug("set_input_size refused %s: %s", (height, width), error)
                continue
            result = _observe(lambda twin=twin, x=x: twin(x), twin)
            passes.append(result)
            if result.error is None:
                return passes
    return passes


def _by_size(small: tuple[int, ...], large: tuple[int, ...]) -> str | None:
    """The layout that a larger image reveals; "" if it shows that this is no map and no tokens."""
    if len(small) != len(large) or large[0] != 1:
        return None
    moved = [axis for axis in range(1, len(small)) if small[axis] != large[axis]]
    if not moved:
        return None
    if len(small) == 3:
        return {(1,): "ntc", (2,): "nct"}.get(tuple(moved), "")
    if len(small) == 4 and len(moved) == 2:
        if large[moved[0]] == large[moved[1]]:
            return ""  # both grew alike although height and width did not: an attention matrix
        return {(2, 3): "nchw", (1, 2): "nhwc"}.get((moved[0], moved[1]), "")
    return ""


@dataclass
class _Candidate:
    name: str
    module: nn.Module
    shape: tuple[int, ...]
    layout: str | None
    n_calls: int


def _candidates(model: TargetModel) -> dict[str, _Candidate]:
    """Every module with one float tensor per image, by name in call order, layouts where known."""
    shape = model.input_shape
    first = _observe(lambda: model.network(_zeros(model, 2, shape)), model.network, is_tracing=True)
    if first.error is not None:
        size = "x".join(map(str, shape))
        reason = " ".join(str(first.error).split())[:160]
        raise InputError(
            f"{model.name} cannot run on an image of {size} ({type(first.error).__name__}: "
            f"{reason}); check its preprocessing."
        ) from first.error
    larger = _larger_pass(model)
    modules = dict(model.network.named_modules())
    found: dict[str, _Candidate] = {}
    for name, seen in sorted(first.seen.items(), key=lambda item: item[1].rank):
        dims = seen.shape
        if not (2 <= len(dims) <= 4 and dims[0] == 2 and seen.is_float and 0 not in dims):
            continue
        layout: str | None = None
        if len(dims) == 2:
            layout = "nc"
        else:
            for result in larger:
                if layout is None and name in result.seen:
                    layout = _by_size(dims, result.seen[name].shape)
            axis = first.axis.get(seen.key)
            if layout is None and axis is not None:
                layout = {(4, 1): "nchw", (4, 3): "nhwc", (3, 1): "nct", (3, 2): "ntc"}.get(
                    (len(dims), axis)
                )
        found[name] = _Candidate(name, modules[name], dims[1:], layout or None, seen.n_calls)
    return found


# --- taps -------------------------------------------------------------------------------------


def _tap(model: TargetModel, candidate: _Candidate, layout: str, grids: set[int]) -> LayerTap:
    """The tap of one layer with its default pooling."""
    dims = candidate.shape
    kind, is_last = ("vector", True) if layout == "nc" else LAYOUTS[layout]
    n_units = dims[-1] if is_last else dims[0]
    n_prefix = 0
    if kind == "tokens" and model.n_prefix_tokens:
        n_tokens = dims[0] if is_last else dims[1]
        # Some networks add class tokens late; until then a layer has the patch grid's tokens.
        is_bare = n_tokens in grids and n_tokens - model.n_prefix_tokens not in grids
        n_prefix = 0 if is_bare else model.n_prefix_tokens
    tap = LayerTap(
        id=LayerId(candidate.name, "none"),
        kind=kind,
        channels_last=is_last,
        n_units=n_units,
        shape=dims,
        type_name=type(candidate.module).__name__,
        n_prefix_tokens=n_prefix,
        has_class_token=n_prefix > 0 and model.has_class_token,
    )
    return replace(tap, id=LayerId(candidate.name, tap.poolings[0]))


def _grids(candidates: Mapping[str, _Candidate]) -> set[int]:
    maps = [(c.shape, c.layout) for c in candidates.values() if c.layout in ("nchw", "nhwc")]
    return {s[1] * s[2] if layout == "nchw" else s[0] * s[1] for s, layout in maps}


def list_layers(model: TargetModel) -> list[LayerTap]:
    """Every module whose output can be read as neurons, in call order, with its default pooling.

    Maps are averaged, tokens give their class token (or, without one, the mean of the patch
    tokens), vectors stay as they are. Left out are modules called more than once in a forward
    pass (their outputs are several layers in one) and those whose axes cannot be told apart.
    """
    candidates = _candidates(model)
    grids = _grids(candidates)
    taps = []
    for candidate in candidates.values():
        if candidate.n_calls > 1:
            continue
        if candidate.layout is None:
            logger.info("layer %s of %s needs a layout", candidate.name, model.name)
            continue
        taps.append(_tap(model, candidate, candidate.layout, grids))
    return taps


def _pattern(text: str) -> re.Pattern[str]:
    """A glob over module paths: ``*`` and ``?`` stay within one part, ``**`` crosses dots."""
    out = ""
    for part in re.split(r"(\*\*|\*|\?)", text):
        out += {"**": ".*", "*": "[^.]*", "?": "[^.]"}.get(part, re.escape(part))
    return re.compile(out)


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or list(known[-4:])
    return ", ".join(near)


def _matching(
    model: TargetModel, text: str, candidates: Mapping[str, _Candidate], layout: str | None
) -> list[_Candidate]:
    """The usable layers a path or glob names, or a sentence why there are none."""
    usable = {
        n: c
        for n, c in candidates.items()
        if c.n_calls == 1
        and (c.layout is not None or (layout and AXES[layout] == len(c.shape) + 1))
    }
    if re.search(r"[*?]", text):
        chosen = [c for n, c in usable.items() if _pattern(text).fullmatch(n)]
        if not chosen:
            raise InputError(
                f"No layer of {model.name} matches {text!r}; the nearest are "
                f"{_near(text, list(usable))} ('**' crosses dots)."
            )
        return chosen
    if text in usable:
        return [usable[text]]
    if text in candidates and candidates[text].n_calls > 1:
        parent = text.rpartition(".")[0]
        other = f"take {parent!r} or" if parent in usable else "take"
        raise InputError(
            f"Layer {text!r} of {model.name} runs {candidates[text].n_calls} times in one pass, so "
            f"it is several layers in one; {other} a layer that runs once."
        )
    if text in candidates:
        shape = "x".join(map(str, candidates[text].shape))
        names = [k for k, n in AXES.items() if n == len(candidates[text].shape) + 1]
        raise InputError(
            f"Which axis of the {shape} output of {text!r} holds its units cannot be told; "
            f"state it with layout={' or '.join(names)}."
        )
    modules = dict(model.network.named_modules())
    if text and text in modules:
        raise InputError(
            f"Layer {text!r} of {model.name} gives no tensor with one row per image when an image "
            f"is classified; the nearest that do are {_near(text, list(usable))}."
        )
    raise InputError(
        f"{model.name} has no layer {text!r}; the nearest are {_near(text, list(usable))}."
    )


def _split(text: str) -> tuple[str, str | None]:
    module, at, pooling = text.rpartition("@")
    if not at:
        return text, None
    if pooling not in POOLINGS:
        raise InputError(
            f"Pooling {pooling!r} does not exist; choose one of {', '.join(POOLINGS)}."
        )
    return module, pooling


def _pooled(tap: LayerTap, pooling: str | None) -> LayerTap:
    if pooling is None:
        return tap
    if pooling not in tap.poolings:
        reason = {
            ("vector", "none"): "",
            ("tokens", "cls"): "has no class token",
        }.get(
            (tap.kind, pooling), f"gives a {tap.kind}" if tap.kind != "tokens" else "gives tokens"
        )
        raise InputError(
            f"Pooling {pooling!r} does not fit {tap.id.module!r}, which {reason}; "
            f"use {' or '.join(tap.poolings)}."
        )
    return replace(tap, id=replace(tap.id, pooling=pooling))


def select_layers(
    model: TargetModel,
    patterns: Sequence[str],
    *,
    pooling: str | None = None,
    saes: Mapping[str, Path] | None = None,
    layout: str | None = None,
) -> list[LayerTap]:
    """The taps that module paths or globs name, each once, in the order asked for.

    Args:
        model: the network they are paths in.
        patterns: a module path or glob (``*`` within one part of the path, ``**`` across), with
            ``@pooling`` if it shall not be the default; a glob takes what is usable and must match
            something.
        pooling: for the patterns that state none. Where it does not fit a layer it is refused.
        saes: module path or glob (``@pooling`` allowed) to an autoencoder file; each adds a tap of
            its latents beside whatever ``patterns`` choose.
        layout: ``nchw``, ``nhwc``, ``ntc`` or ``nct``, overriding what was observed of outputs
            with that many axes.

    Raises:
        InputError: a layer or pooling does not exist or does not fit, or an autoencoder has
            another number of inputs than the layer has channels.
    """
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"Layout {layout!r} does not exist; choose one of {', '.join(LAYOUTS)}.")
    if not patterns and not saes:
        raise InputError("No layer is chosen; name at least one, such as layer4 or features.*.")
    candidates = _candidates(model)
    grids = _grids(candidates)

    def raw(text: str) -> Iterator[tuple[LayerTap, str | None]]:
        module, own = _split(text)
        for candidate in _matching(model, module, candidates, layout):
            is_stated = layout is not None and AXES[layout] == len(candidate.shape) + 1
            axes = layout if is_stated else candidate.layout
            assert axes is not None
            yield _tap(model, candidate, axes, grids), own or pooling

    taps: dict[LayerId, LayerTap] = {}
    for text in patterns:
        for tap, chosen in raw(text):
            tap = _pooled(tap, chosen)
            taps.setdefault(tap.id, tap)
    for text, path in (saes or {}).items():
        sae = load_sae(Path(path))
        for tap, chosen in raw(text):
            if sae.n_inputs != tap.n_units:
                raise InputError(
                    f"The autoencoder {sae.name!r} reads {sae.n_inputs} channels, but layer "
                    f"{tap.id.module!r} has {tap.n_units}; choose the layer it was trained on."
                )
            tap = _pooled(replace(tap, sae=sae, n_units=sae.n_latents), chosen)
            tap = replace(tap, id=replace(tap.id, sae=sae.name))
            if tap.id in taps:
                raise InputError(f"Two autoencoders are called {sae.name!r}; rename one file.")
            taps[tap.id] = tap
    return list(taps.values())


@contextmanager
def hooks_on(model: TargetModel, hooks: Mapping[str, Callable[..., Any]]) -> Generator[None]:
    """Forward hooks by module path, removed on the way out whatever happens inside."""
    modules = dict(model.network.named_modules())
    handles = []
    try:
        for name, hook in hooks.items():
            handles.append(modules[name].register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
