"""Several devices of one machine: their names, a copy of a network on each, a thread for each.

Copies run side by side in threads. Whatever a copy shares with the first (a dictionary that a hook
writes to, a function that holds a module) would give values that change by chance, so one copy is
tried inside of the first before any two run at once (``require_apart``).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from csp_engine.errors import InputError

if TYPE_CHECKING:  # pages read names of devices, and start without torch
    import torch

    from csp_engine.networks.activations import ActivationRecorder

ONE = "name one device with --device"
Runs = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""Pixels to values by layer."""

# --- names ------------------------------------------------------------------------------------


def read_devices(text: str) -> tuple[str, ...]:
    """The devices that ``--device`` lists, as far as their names tell.

    Raises:
        InputError: a name is empty, they are of several kinds, or an accelerator is named twice.
    """
    devices = tuple(part.strip() for part in text.split(","))
    if "" in devices:
        raise InputError(
            f"--device {text!r:.60} has an empty name; write cpu, cuda, cuda:1 or mps, or several "
            "of one kind, such as cuda:0,cuda:1."
        )
    kinds = list(dict.fromkeys(device.partition(":")[0] for device in devices))
    if len(kinds) > 1:
        raise InputError(
            f"--device {text!r:.60} mixes {' and '.join(kinds)}, which differ in the last digits "
            "of what they compute; name devices of one kind, such as cuda:0,cuda:1."
        )
    numbers = [device.partition(":")[2] or "0" for device in devices]
    twice = [device for i, device in enumerate(devices) if numbers[i] in numbers[:i]]
    if twice and kinds != ["cpu"]:  # two copies on one processor are of no use but to try it
        raise InputError(f"--device {text!r:.60} names {twice[0]} twice; name each device once.")
    return devices


def require_devices(devices: Sequence[str]) -> None:
    """Refuse devices that cannot be used, or that may not compute the same digits.

    Raises:
        InputError: as above.
    """
    import torch

    places = [usable(device) for device in devices]
    names = [torch.cuda.get_device_name(p) if p.type == "cuda" else p.type for p in places]
    for device, name in zip(devices, names, strict=True):
        if name != names[0]:
            raise InputError(
                f"{devices[0]} is a {names[0]} and {device} a {name}, which differ in the last "
                "digits of what they compute; name devices of one kind with --device."
            )


def usable(device: str) -> torch.device:
    """A device by its name, with its number if it has one.

    Raises:
        InputError: there is none of that name, or nothing can be put on it.
    """
    import torch

    from csp_engine.networks.loading.checkpoints import short_reason

    try:
        there = torch.zeros(1, device=torch.device(device))
        there.cpu()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError) as error:
        known = " or ".join(["cpu", *accelerators()])
        raise InputError(
            f"The device {device!r:.60} cannot be used ({short_reason(error)}); give --device "
            f"{known}."
        ) from None
    return there.device


def accelerators() -> dict[str, str]:
    """Devices that networks can run on beside the processor: name to description."""
    import torch

    found = {
        f"cuda:{i}": torch.cuda.get_device_name(i)
        for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    }
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def n_cores() -> int:
    """Processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def n_threads() -> int:
    """Processor cores that one product of a network is spread over."""
    import torch

    return torch.get_num_threads()


# --- copies -----------------------------------------------------------------------------------


def own_copy(network: torch.nn.Module) -> torch.nn.Module:
    """A copy that can be changed without changing the network.

    Raises:
        InputError: the network says how it is copied, and keeps parts or tensors in common.
    """
    twin = copy.deepcopy(network)
    own, its = (
        {id(each) for each in (*net.modules(), *net.parameters(), *net.buffers())}
        for net in (network, twin)
    )
    if own & its:
        raise InputError("its __deepcopy__ shares parts with what it copies")
    return twin


def copied(network: torch.nn.Module, device: str, name: str) -> torch.nn.Module:
    """A copy of a network on another device.

    Args:
        network: what is copied.
        device: where the copy goes.
        name: what errors call it.

    Raises:
        InputError: it cannot be copied, or the copy has no room there.
    """
    import torch

    from csp_engine.networks.loading.checkpoints import short_reason

    try:
        twin = own_copy(network).to(device)
        for module in twin.modules():  # tensors that are no buffers, such as tables of positions
            for key, value in vars(module).items():
                if isinstance(value, torch.Tensor):
                    vars(module)[key] = value.to(device)
    except Exception as error:  # a network may hold anything
        raise InputError(
            f"{name} cannot be copied to {device} ({type(error).__name__}: "
            f"{short_reason(error)}); {ONE}."
        ) from error
    return twin


def worker(device: str) -> ThreadPoolExecutor:
    """A thread for what runs on one device.

    How many processor cores a product may use, and so in which order its sums are taken, is told
    to each thread on its own: this one is told what holds for the thread that asks.
    """
    import torch

    return ThreadPoolExecutor(1, f"run-{device}", torch.set_num_threads, (torch.get_num_threads(),))


def current(device: torch.device | str) -> AbstractContextManager[Any]:
    """Make a device the one that kernels which are not torch's own are launched on."""
    import torch

    place = torch.device(device)
    return torch.cuda.device(place) if place.type == "cuda" else nullcontext()


# --- whether copies may run side by side ------------------------------------------------------


def require_same(
    first: Runs, other: Runs, pixels: np.ndarray, name: str, device: str, resolution: float
) -> None:
    """Refuse a copy that gives other values than the first, beyond float noise.

    Args:
        first: pixels to values by layer, of the first.
        other: the same of the copy.
        pixels: of a few images.
        name: what errors call what was copied.
        device: where the copy is.
        resolution: relative rounding of the arithmetic that both run in.

    Raises:
        InputError: as above, or the copy fails.
    """
    few = _few(pixels)
    _refuse(_difference(lambda: other(few), first(few), resolution), name, device)


def require_apart(
    first: ActivationRecorder, other: ActivationRecorder, pixels: np.ndarray, device: str
) -> None:
    """Refuse a copy that changes what the first gives, or whose values change as the first runs.

    The copy runs on other images whenever the first comes to a module: what both keep in one place
    then shows for certain, where it would show by chance once they run side by side.

    Raises:
        InputError: as above.
    """
    few = _few(pixels)
    turned = np.ascontiguousarray(few[::-1])
    alone, alone_turned = first(few), first(turned)
    resolution = first.model.resolution
    reasons: list[str] = []

    def run_other(module: Any, args: Any) -> None:
        if not any(reasons):
            reasons.append(_difference(lambda: other(turned), alone_turned, resolution))

    leaves = [m for m in first.model.network.modules() if next(m.children(), None) is None]
    handles = [leaf.register_forward_pre_hook(run_other, prepend=True) for leaf in leaves]
    try:
        reasons.append(_difference(lambda: first(few), alone, resolution))
    finally:
        for handle in handles:
            handle.remove()
    _refuse(next(filter(None, reasons), ""), first.model.name, device)


def _few(pixels: np.ndarray) -> np.ndarray:
    """Two different images."""
    return pixels[:2] if len(pixels) > 1 else np.concatenate([pixels, -pixels])


def _difference(
    run: Callable[[], Mapping[str, np.ndarray]],
    expected: Mapping[str, np.ndarray],
    resolution: float,
) -> str:
    """Why what runs does not give what is expected; empty if it does."""
    from csp_engine.networks.loading.checkpoints import short_reason

    try:
        found = run()
    except Exception as error:  # whatever a network raises that is not where it was made to be
        return f"it fails ({type(error).__name__}: {short_reason(error)})"
    for layer, values in expected.items():
        largest = float(np.abs(values).max(initial=0))
        off = float(np.abs(found[layer] - values).max(initial=0))
        if not off <= max(1e-3, 32 * resolution) * largest:
            where = f" in layer {layer}" if layer else ""
            return f"it gives other values{where}, as where both keep something in one place"
    return ""


def _refuse(reason: str, name: str, device: str) -> None:
    if reason:
        raise InputError(
            f"{name} cannot run on several devices: with a copy on {device} {reason}; {ONE}."
        )
