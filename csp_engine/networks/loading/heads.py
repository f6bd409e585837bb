"""What the weights of a checkpoint tell of the head of its network: outputs, and simple heads."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from csp_engine.networks.loading.fitting import Match, matches, named


def n_outputs_in(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> int | None:
    """How many outputs a checkpoint of this architecture has, where that is all that differs."""
    wanted, given, _ = named(network, tensors)
    for match in matches(wanted, given):
        if match.missing or not match.mismatched:
            continue
        pairs = [(match.tensors[k].shape, wanted[k].shape) for k in match.mismatched]
        if any(len(a) != len(b) or not len(a) or a[1:] != b[1:] for a, b in pairs):
            continue
        sizes = {(a[0], b[0]) for a, b in pairs}
        if len(sizes) == 1:
            return sizes.pop()[0]
    return None


def take_head(network: nn.Module, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Give a network the head of its checkpoint, where that is one linear layer.

    Fine-tuning recipes put a linear layer, or ``Sequential(Dropout, Linear)``, in the place of the
    architecture's own, or of the sequence that ends in it; some leave out its bias. Dropout has no
    weights and does nothing in evaluation.
    """
    wanted, given, full = named(network, tensors)
    for match in matches(wanted, given):
        paths = {key.rpartition(".")[0] for key in match.missing}
        if len(paths) != 1 or f"{next(iter(paths))}.weight" not in full:
            continue
        own = paths.pop()
        path = full[f"{own}.weight"].removesuffix(".weight")
        old = network.get_submodule(path)
        if not set(match.mismatched) <= {f"{own}.weight"} or not isinstance(old, nn.Linear):
            continue
        for name in (own, own.rpartition(".")[0]):
            above = name != own
            if above and not _only_drops_before(network, path):
                continue
            notice = _put(
                network,
                path.rpartition(".")[0] if above else path,
                _head_in(match, name, old.in_features),
                name,
            )
            if notice:
                return [notice]
    return []


def _only_drops_before(network: nn.Module, path: str) -> bool:
    """Whether a linear layer ends a sequence that does nothing before it in evaluation."""
    above, _, last = path.rpartition(".")
    sequence = network.get_submodule(above) if above else None
    if not isinstance(sequence, nn.Sequential):
        return False
    names = list(dict(sequence.named_children()))
    before = [sequence.get_submodule(name) for name in names[: names.index(last)]]
    return names[-1] == last and all(isinstance(m, nn.Dropout | nn.Identity) for m in before)


def _head_in(match: Match, name: str, n_inputs: int) -> tuple[str, nn.Linear] | None:
    """The linear layer that a file has under a name, and its place if it stands in a sequence."""
    places = {
        found[1] or ""
        for key in (*match.unexpected, *match.mismatched)
        if (found := re.fullmatch(re.escape(name) + r"(?:\.(\d+))?\.(?:weight|bias)", key))
    }
    if len(places) != 1:
        return None
    place = places.pop()
    under = f"{name}.{place}" if place else name
    weight = match.tensors.get(f"{under}.weight")
    if weight is None or weight.ndim != 2 or weight.shape[1] != n_inputs:
        return None
    has_bias = f"{under}.bias" in match.tensors
    return place, nn.Linear(n_inputs, weight.shape[0], bias=has_bias)


def _put(
    network: nn.Module, path: str, found: tuple[str, nn.Linear] | None, name: str
) -> str | None:
    """Put a head in its place; what is to be said about it."""
    if found is None:
        return None
    place, head = found
    if not place:
        network.set_submodule(path, head)
        bias = "" if head.bias is not None else " without a bias"
        return f"The head {name!r} is one linear layer{bias}."
    layers: list[nn.Module] = [nn.Identity() for _ in range(int(place))]
    network.set_submodule(path, nn.Sequential(*layers, head))
    before = "; what stands before it has no weights and is taken for dropout" if layers else ""
    return f"The head {name!r} is a linear layer at place {place}{before}."
