"""The layers of a target model whose outputs can be read as neurons, by path or pattern.

Axes and tokens come from what was observed of the network (``observing``, ``tokens``). Where
nothing tells them, a layer is left out of the list, and selecting it asks for an option.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from csp_engine.errors import InputError
from csp_engine.networks.autoencoders.sae import SparseAutoencoder, load_sae
from csp_engine.networks.loading.fitting import plain_name
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import Candidate, Observed, observe
from csp_engine.networks.tokens import TokenCount, count_tokens
from csp_engine.types import POOLINGS, LayerId

logger = logging.getLogger(__name__)

LAYOUTS = {
    # name -> (kind, whether the units are on the last axis)
    "nchw": ("map", False),
    "nhwc": ("map", True),
    "ntc": ("tokens", True),
    "nct": ("tokens", False),
    "tnc": ("tokens", True),
}
AXES = {layout: len(layout) for layout in LAYOUTS}


@dataclass(frozen=True, eq=False)
class LayerTap:
    """One layer, one pooling: where to listen and how to read what comes.

    ``shape`` is that of one image's output, without the batch axis. ``n_units`` counts channels, or
    latents with an autoencoder. ``n_prefix_tokens`` tokens before the patches and
    ``n_suffix_tokens`` after them are class, register or other tokens, the first a class token if
    ``has_class_token``; ``token_question`` says why their number cannot be told. ``tokens_first``
    says that the images are on axis 1.
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
    n_suffix_tokens: int = 0
    tokens_first: bool = False
    token_question: str = ""

    @property
    def poolings(self) -> tuple[str, ...]:
        """The poolings that mean something here, the default first."""
        if self.kind == "vector":
            return ("none",)
        if self.kind == "map":
            return ("mean", "max", "absmax")
        if self.token_question:
            return ("mean", "max", "absmax")
        n_tokens = self.shape[0 if self.channels_last else 1]
        fitting = ["cls"] if self.has_class_token else []
        if n_tokens > self.n_prefix_tokens + self.n_suffix_tokens:
            fitting.append("token_mean")
        # One token before the patches that is called nothing: a pooled vector, on request.
        last = ["cls"] if self.n_prefix_tokens == 1 and not self.has_class_token else []
        return (*fitting, "mean", "max", "absmax", *last)


# --- taps -------------------------------------------------------------------------------------


def _tap(
    model: TargetModel,
    observed: Observed,
    candidate: Candidate,
    layout: str,
    prefix_tokens: int | None = None,
) -> LayerTap:
    """The tap of one layer with its default pooling."""
    dims = candidate.shape
    kind, is_last = ("vector", True) if layout == "nc" else LAYOUTS[layout]
    tokens = TokenCount()
    if kind == "tokens":
        tokens = count_tokens(model, observed, candidate, layout, prefix_tokens)
    tap = LayerTap(
        id=LayerId(candidate.name, "none"),
        kind=kind,
        channels_last=is_last,
        n_units=dims[-1] if is_last else dims[0],
        shape=dims,
        type_name=type(candidate.module).__name__,
        n_prefix_tokens=tokens.n_prefix,
        has_class_token=tokens.has_class,
        n_suffix_tokens=tokens.n_suffix,
        tokens_first=candidate.tokens_first,
        token_question=tokens.question,
    )
    return replace(tap, id=LayerId(candidate.name, tap.poolings[0]))


def list_layers(model: TargetModel) -> list[LayerTap]:
    """Every module whose output can be read as neurons, in call order, with its default pooling.

    Maps are averaged, tokens give their class token (or, without one, the mean of the patch
    tokens), vectors stay as they are. Left out are modules called more than once in a forward
    pass (their outputs are several layers in one) and those whose axes cannot be told apart.
    """
    observed = observe(model)
    taps = []
    for candidate in observed.candidates.values():
        if candidate.n_calls > 1:
            continue
        if candidate.layout is None:
            logger.info("layer %s of %s needs a layout", candidate.name, model.name)
            continue
        taps.append(_tap(model, observed, candidate, candidate.layout))
    if not taps:
        raise InputError(no_layer(model))
    return taps


def no_layer(model: TargetModel) -> str:
    """Why a network has no layer to listen to, in a sentence."""
    kind = type(model.network).__name__
    return (
        f"No module inside {model.name} ({kind}) can be listened to while it runs; return the "
        "network as a torch.nn.Module with submodules, as it was before scripting, tracing or "
        "exporting, and load the weights into it; or, where its modules see another number of "
        "images than it is given (several crops of each, a padded batch), without that step."
    )


def _pattern(text: str) -> re.Pattern[str]:
    """A glob over module paths: ``*``, ``?``, ``[0-3]`` stay within a part, ``**`` crosses dots."""
    out = ""
    for part in re.split(r"(\*\*|\*|\?|\[!?[^\]]+\])", text):
        if part.startswith("[") and part.endswith("]"):
            inside = part[1:-1].replace("\\", r"\\")
            out += f"[^.{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
        else:
            out += {"**": ".*", "*": "[^.]*", "?": "[^.]"}.get(part, re.escape(part))
    try:
        return re.compile(out)
    except re.error as error:
        raise InputError(
            f"The pattern {text!r} cannot be read ({error}); write [0-3], [abc] or [!abc]."
        ) from None


def is_glob(text: str) -> bool:
    """Whether a pattern may name several layers."""
    return re.search(r"[*?\[]", text) is not None


def _fits(layout: str, candidate: Candidate) -> bool:
    """Whether a layout has an output's number of axes and its axis of images."""
    is_tokens_first = layout == "tnc"
    return AXES[layout] == len(candidate.shape) + 1 and is_tokens_first == candidate.tokens_first


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or list(known[-4:])
    return ", ".join(near)


def _unwrapped(name: str, model: TargetModel) -> str:
    """A layer's name in the network before it was compiled or made parallel."""
    is_parallel = isinstance(model.network, torch.nn.DataParallel)
    return plain_name(name.removeprefix("module.") if is_parallel else name)


def _matching(
    model: TargetModel, text: str, candidates: Mapping[str, Candidate], layout: str | None
) -> list[Candidate]:
    """The usable layers a path or glob names, or a sentence why there are none."""
    usable = {
        n: c
        for n, c in candidates.items()
        if c.n_calls == 1 and (c.layout is not None or (layout and _fits(layout, c)))
    }
    if not usable:
        raise InputError(no_layer(model))
    if is_glob(text):
        pattern = _pattern(text)
        chosen = [
            c for n, c in usable.items() if any(map(pattern.fullmatch, {n, _unwrapped(n, model)}))
        ]
        if not chosen:
            raise InputError(
                f"No layer of {model.name} matches {text!r}; the nearest are "
                f"{_near(text, list(usable))} ('**' crosses dots)."
            )
        return chosen
    if text not in candidates:  # as the network calls it that was wrapped
        called = [name for name in candidates if _unwrapped(name, model) == plain_name(text)]
        text = called[0] if len(called) == 1 else text
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
        names = [layout for layout in LAYOUTS if _fits(layout, candidates[text])]
        raise InputError(
            f"Which axis of the {shape} output of {text!r} holds its units cannot be told; "
            f"state it with --layout {' or '.join(names)} (layout={names[0]!r} in Python)."
        )
    modules = dict(model.network.named_modules())
    if text and isinstance(modules.get(text), torch.jit.ScriptModule):
        raise InputError(
            f"Layer {text!r} of {model.name} is TorchScript, which cannot be listened to; build "
            f"that part from Python code, or take one of {_near(text, list(usable))}."
        )
    if text and text in modules:
        raise InputError(
            f"Layer {text!r} of {model.name} does not give one tensor with one row per image when "
            f"an image is classified; the nearest that do are {_near(text, list(usable))}."
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
            f"Pooling {pooling!r:.60} does not exist; choose one of {', '.join(POOLINGS)} with "
            "--pooling."
        )
    return module, pooling


def _pooled(tap: LayerTap, pooling: str | None) -> LayerTap:
    if pooling is None:
        return tap
    if pooling not in tap.poolings:
        if tap.token_question and pooling in ("cls", "token_mean"):
            raise InputError(_asking(tap))
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


def _asking(tap: LayerTap) -> str:
    return (
        f"Layer {tap.id.module!r} {tap.token_question}; say how many class and register tokens "
        "stand before the patches with --prefix-tokens N, or take all tokens with @mean."
    )


def select_layers(
    model: TargetModel,
    patterns: Sequence[str],
    *,
    pooling: str | None = None,
    saes: Mapping[str, Path] | None = None,
    layout: str | None = None,
    prefix_tokens: int | None = None,
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
        layout: ``nchw``, ``nhwc``, ``ntc``, ``nct`` or ``tnc``, overriding what was observed of
            outputs with that many axes and the images there.
        prefix_tokens: class and register tokens before the patches, where they cannot be counted.

    Raises:
        InputError: a layer or pooling does not exist or does not fit, or an autoencoder has
            another number of inputs than the layer has channels.
    """
    if layout is not None and layout not in LAYOUTS:
        raise InputError(
            f"Layout {layout!r:.60} does not exist; choose one of {', '.join(LAYOUTS)} with "
            "--layout."
        )
    if not patterns and not saes:
        raise InputError("No layer is chosen; name at least one, such as layer4 or features.*.")
    observed = observe(model)

    def raw(text: str) -> Iterator[tuple[LayerTap, str | None]]:
        module, own = _split(text)
        for candidate in _matching(model, module, observed.candidates, layout):
            is_stated = layout is not None and _fits(layout, candidate)
            axes = layout if is_stated else candidate.layout
            assert axes is not None
            tap = _tap(model, observed, candidate, axes, prefix_tokens)
            chosen = own or pooling
            if tap.token_question and chosen is None:
                if is_glob(module):
                    continue
                raise InputError(_asking(tap))
            yield tap, chosen

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
