"""An activation is a function of its image: what makes it none is switched off or refused.

Neurons are told from each other by the images that they answer to. That means nothing where a value
changes from run to run (dropout that ignores evaluation mode, random masks) or with the images that
happen to share a batch (batch statistics, attention across images). Two steps keep it out:

- *when a network is taken in*, what is known by name is switched off (``quieten``);
- *before the first batch*, a few images run again: the same ones twice, in another order beside
  others, and alone (``require_steady``). Where they disagree beyond float noise, functional dropout
  and batch statistics are switched off; where that does not help, the layer is refused by name.
  Buffers that a pass changes (counters, running means) are put back after each.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from csp_engine.errors import InputError
from csp_engine.networks.drifting import N_PASSES, drift, kept_between

logger = logging.getLogger(__name__)

N_IMAGES = 2
"""Images that run again at start."""

_DROPOUTS = frozenset(
    {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
    | {"feature_dropout", "dropout_", "alpha_dropout_", "feature_dropout_"}
)
_WITH_FLAG = frozenset({"rrelu", "rrelu_", "multi_head_attention_forward"})
_RANDOM = frozenset(
    {"rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal"}
    | {"bernoulli", "bernoulli_", "multinomial", "poisson", "normal_", "uniform_", "random_"}
    | {"exponential_", "geometric_", "cauchy_", "log_normal_", "gumbel_softmax"}
)


@dataclass(eq=False)
class Steadiness:
    """What is known of one network's conduct.

    ``is_calm`` says that functional dropout and batch statistics are kept off in every run;
    ``moving`` are the buffers that a pass changes, which are put back after each;
    ``needs_company`` that one image alone makes the network drop an axis, so that it runs twice;
    ``notices`` say what was switched off, a sentence each.
    """

    is_calm: bool = False
    needs_company: bool = False
    moving: set[str] = field(default_factory=set)
    notices: list[str] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)

    def remember(self, notices: Sequence[str]) -> None:
        """Take over what an earlier run of the same network said."""
        self.notices += [notice for notice in notices if notice not in self.notices]


class _Watch(TorchFunctionMode):
    """Notes which random functions a network calls, and keeps off those that can be."""

    def __init__(self, *, is_calming: bool) -> None:
        super().__init__()
        self.is_calming = is_calming
        self.random: set[str] = set()
        self.calmed: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _DROPOUTS and _is_on(func, args, kwargs):
            self.random.add(name)
            if self.is_calming:
                self.calmed.add(name)
                return args[0] if args else kwargs["input"]
        elif name in _RANDOM:
            self.random.add(name)
        elif self.is_calming and name in _WITH_FLAG and _argument(func, args, kwargs, "training"):
            self.calmed.add(name)
            args, kwargs = _with(func, args, kwargs, training=False)
        elif self.is_calming and name == "scaled_dot_product_attention":
            if (args[4] if len(args) > 4 else kwargs.get("dropout_p", 0)) > 0:
                self.calmed.add("dropout in attention")
                if len(args) > 4:
                    args = (*args[:4], 0.0, *args[5:])
                else:
                    kwargs["dropout_p"] = 0.0
        elif self.is_calming and name == "batch_norm" and func is nn.functional.batch_norm:
            has_statistics = _argument(func, args, kwargs, "running_mean") is not None
            if has_statistics and _argument(func, args, kwargs, "training"):
                self.calmed.add("batch statistics")
                args, kwargs = _with(func, args, kwargs, training=False)
        return func(*args, **kwargs)


def _bound(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    try:
        bound = inspect.signature(func).bind(*args, **kwargs)
    except (TypeError, ValueError):  # functions written in C have no signature
        return None
    bound.apply_defaults()
    return bound


def _argument(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Any:
    bound = _bound(func, args, kwargs)
    return None if bound is None else bound.arguments.get(name)


def _with(
    func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], **changes: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    bound = _bound(func, args, kwargs)
    bound.arguments.update(changes)
    return bound.args, bound.kwargs


def _is_on(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a dropout function is called in training mode (torch.dropout: input, p, train)."""
    flag = _argument(func, args, kwargs, "training")
    if flag is None:
        flag = kwargs.get("train", args[2] if len(args) > 2 else True)
    return bool(flag)


# --- what is switched off by name ---------------------------------------------------------------


class _Ramp(TorchFunctionMode):
    """Random scores become a ramp, so that sorting by them keeps the order."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        drawn = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("rand", "rand_like") and drawn.ndim:
            ramp = torch.arange(drawn.shape[-1], device=drawn.device, dtype=drawn.dtype)
            return (ramp / drawn.shape[-1]).expand(drawn.shape).clone()
        return drawn


def _keep_all(masking: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A ``random_masking`` method that masks nothing and keeps the order of the patches."""
    bound = inspect.signature(masking).bind(*args, **kwargs)
    for name in ("mask_ratio", "ratio"):
        if name in inspect.signature(masking).parameters:
            bound.arguments[name] = 0.0
    with _Ramp():
        return masking(*bound.args, **bound.kwargs)


def quieten(network: nn.Module) -> list[str]:
    """Put a network into evaluation mode for good; a sentence for everything out of the usual.

    Random masking (ViT-MAE and its kin hide three quarters of the patches in evaluation, too) is
    set to none, and modules whose own ``train`` kept them in training mode are taken out of it.
    """
    with suppress(NotImplementedError):  # exported programs have no modes
        network.eval()
    notices = []
    still = [name or "the network" for name, m in network.named_modules() if m.training]
    for module in network.modules():
        module.training = False
    if still:
        notices.append(f"Training mode of {_some(still)} was switched off.")
    masking = []
    for name, module in network.named_modules():
        config = getattr(module, "config", None)
        method = getattr(module, "random_masking", None)
        if not callable(method) or "random_masking" in vars(module):
            continue
        for holder in (module, config, getattr(network, "config", None)):
            if isinstance(getattr(holder, "mask_ratio", None), float):
                vars(holder)["mask_ratio"] = 0.0
        # Not a function that closes over the method: a copy of the network has to call its own.
        vars(module)["random_masking"] = partial(_keep_all, method)
        masking.append(name or "the network")
    if masking:
        notices.append(f"Random masking of patches in {_some(masking)} was switched off.")
    return notices


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


# --- what is tried at start ---------------------------------------------------------------------


@contextmanager
def calm(network: nn.Module, steadiness: Steadiness) -> Generator[None]:
    """Run a network as it was found to be steady."""
    with ExitStack() as stack:
        if steadiness.moving:
            stack.enter_context(undisturbed(network, steadiness.moving))
        if steadiness.is_calm:
            stack.enter_context(_Watch(is_calming=True))
        yield


Run = Callable[[torch.Tensor], dict[str, torch.Tensor]]
"""Pixels to outputs by layer, each ``(n, channels, positions)``."""


@dataclass(frozen=True)
class _Finding:
    layer: str
    size: float
    is_random: bool = False
    is_drift: bool = False


def require_steady(
    network: nn.Module,
    name: str,
    steadiness: Steadiness,
    run: Run,
    pixels: torch.Tensor,
    resolution: float,
) -> None:
    """Run a few images again and see whether every layer gives them the same values.

    Args:
        network: what is tried; its buffers are put back, whatever a pass does to them.
        name: how errors call it.
        steadiness: what is known of it; calmed where that makes it steady.
        run: one pass, with or without calm as ``steadiness`` says.
        pixels: the first images of the probe set.
        resolution: relative rounding of the arithmetic that the network runs in.

    Raises:
        InputError: a layer is random, or depends on the images that share its batch.
    """
    few = pixels[:N_IMAGES]
    if len(few) == 1:
        few = torch.cat([few, -few])
    compare = partial(_compare, run, few, steadiness, resolution)
    watch, calming = _Watch(is_calming=False), _Watch(is_calming=True)
    with undisturbed(network) as changed:
        found = compare()
    if found is not None:
        with watch, undisturbed(network):
            compare()
        with calming, undisturbed(network) as still:
            left = compare()
        if left is None and calming.calmed:
            steadiness.is_calm = True
            what = ", ".join(sorted(calming.calmed)).replace("_", " ")
            steadiness.notices.append(f"What stayed on in evaluation was switched off: {what}.")
            changed = still
        found = left
    if changed:
        steadiness.moving |= changed
        with undisturbed(network):
            found = compare()
    if found is not None:
        with undisturbed(network):
            kept = kept_between(network, partial(run, few)) if found.is_drift else []
        raise InputError(_refusal(network, name, found, watch.random, kept))
    if changed:
        what = _some(sorted(changed))
        steadiness.remember([f"Buffers that a pass changes are put back after each: {what}."])


def _refusal(
    network: nn.Module, name: str, found: _Finding, random: set[str], kept: list[str]
) -> str:
    module = dict(network.named_modules()).get(found.layer)
    kind = f" ({type(module).__name__})" if module is not None else ""
    where = f"Layer {found.layer!r}{kind} of {name}" if found.layer else f"The output of {name}"
    if found.is_drift:
        keeps = f" (it keeps {_some(kept)})" if kept else ""
        return (
            f"{where} gives the same images other values with every pass{keeps}, by "
            f"{found.size:.1e} of its largest after {2 * N_PASSES}; return a network from a "
            "python: factory that keeps nothing from pass to pass, or choose an earlier layer."
        )
    if found.is_random:
        by = f" (it calls {', '.join(sorted(random))})" if random else ""
        return (
            f"{where} gives other values for the same images in a second run{by}, by up to "
            f"{found.size:.0%} of its largest; return a network from a python: factory that is "
            "deterministic in evaluation mode, or choose an earlier layer."
        )
    quantised = [
        path for path, m in network.named_modules() if ".quantized.dynamic" in type(m).__module__
    ]
    without = [
        path
        for path, m in network.named_modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is None
    ]
    if quantised:
        reason = (
            f"{quantised[0]!r} is quantised dynamically, by the range of the whole batch; give the "
            "network as it was before it was quantised"
        )
    elif without:
        reason = (
            f"batch normalisation {without[0]!r} keeps no running statistics; give a network with "
            "them"
        )
    else:
        reason = (
            "make every image independent of its batch (a batch axis taken for another is usual)"
        )
    return (
        f"{where} gives an image other values with other images in the batch, by up to "
        f"{found.size:.0%} of its largest, so its neurons have no meaning; {reason}, or choose an "
        "earlier layer."
    )


@contextmanager
def undisturbed(network: nn.Module, only: Collection[str] = ()) -> Generator[set[str]]:
    """Passes inside leave neither the network's buffers nor the random state changed.

    Args:
        network: what runs.
        only: paths of the buffers to look after; all by default.

    Yields:
        a set that holds, once the block is left, the paths of the buffers that were changed.
    """
    held = {
        f"{path}.{name}".lstrip("."): (module, name, buffer, buffer.detach().clone())
        for path, module in network.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
    }
    changed: set[str] = set()
    try:
        with torch.random.fork_rng(devices=[]):
            yield changed
    finally:
        with torch.no_grad():
            for path, (module, name, buffer, value) in held.items():
                now = getattr(module, name, None)
                if (only and path not in only) or (now is not None and _is_same(now, value)):
                    continue
                changed.add(path)
                buffer.copy_(value)
                if now is not buffer:  # another was put in its place
                    setattr(module, name, buffer)


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape:
        return False
    return bool(torch.equal(one, other) or ((one == other) | (one != one) & (other != other)).all())


def _compare(
    run: Run, few: torch.Tensor, steadiness: Steadiness, resolution: float
) -> _Finding | None:
    """The first layer that disagrees with itself, or None.

    The images run twice, and many times where these differ at all; then in another order, beside a
    dark and a bright one; and three of these alone. So what is scaled by the largest of a batch
    differs whichever image has it, and so does what is decided by the mean of a batch.
    """
    base, second = run(few), run(few)
    again = first_difference(base, second, resolution)
    if again is not None:
        return _Finding(*again, is_random=True)
    creeping = drift(partial(run, few), base, second)
    if creeping is not None:
        return _Finding(*creeping, is_drift=True)
    low, high = few.amin((0, 2, 3), keepdim=True), few.amax((0, 2, 3), keepdim=True)
    dark, bright = low + 0.3 * (few[:1] - low), high - 0.3 * (high - few[1:])
    mixed = torch.cat([bright, few.flip(0), dark])
    found = run(mixed)
    pairs = [(base, {key: value[1:3].flip(0) for key, value in found.items()})]
    for at in (0, 2, 3):
        here = {key: value[at : at + 1] for key, value in found.items()}
        pairs.append((here, _alone(run, mixed[at : at + 1], here, steadiness)))
    for one, other in pairs:
        difference = first_difference(one, other, resolution)
        if difference is not None:
            return _Finding(*difference)
    return None


def first_difference(
    one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], resolution: float
) -> tuple[str, float] | None:
    """The first layer whose values differ beyond float noise, and by what share of its largest.

    Sums in another order move a value by some multiples of ``resolution`` of what was summed: a
    unit may differ by a small part of its own largest value and a smaller one of the layer's.
    """
    of_unit, of_layer = max(1e-3, 32 * resolution), max(3e-5, 4 * resolution)
    for layer, values_ncp in one.items():
        if not values_ncp.numel() or torch.equal(values_ncp, other[layer]):
            continue  # mostly: a network repeats itself bit by bit
        a, b = (
            torch.nan_to_num(t if t.dtype == torch.float64 else t.float())
            for t in (values_ncp, other[layer])
        )
        difference_c = (a - b).abs().amax((0, 2))
        largest_c = a.abs().amax((0, 2))
        largest = float(largest_c.max())
        if bool((difference_c > of_unit * largest_c + of_layer * largest).any()):
            return layer, float(difference_c.max()) / (largest or 1.0)
    return None


def _alone(
    run: Run, one: torch.Tensor, expected: Collection[str], steadiness: Steadiness
) -> dict[str, torch.Tensor]:
    """An image with nothing but itself in the batch; twice, where one makes axes vanish."""
    if not steadiness.needs_company:
        try:
            found = run(one)
            if found.keys() == set(expected):
                return found
        except Exception as error:  # whatever a network raises on a batch of one
            logger.debug("one image alone: %s", error)
        steadiness.needs_company = True
    both = run(one.repeat(2, *[1] * (one.ndim - 1)))
    return {key: value[:1] for key, value in both.items()}
