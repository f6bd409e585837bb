"""Weights into a network, whole or not at all, from files as trainers write them.

Trainers wrap: a Lightning module, a parallel or compiled copy, an averaged one beside the plain
one, a criterion with weights of its own. What counts is that every tensor of the network is found,
with its shape, under one prefix; what else the file holds is named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from csp_engine.errors import InputError

WRAPPERS = re.compile(r"(?:^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that compiling and sharding put in, anywhere."""
OUTER = ("module.", "model.", "net.", "network.")
"""Prefixes that a network's own names may have where its file's have none."""
AVERAGED = re.compile(r"(ema|averaged|swa|shadow|teacher|momentum|target|_k)(_|\.|$)|(^|_)ema")
COUNTER = re.compile(
    r"(?:^|\.)(num_batches_tracked|total_ops|total_params|n_averaged|num_updates|updates|decay|"
    r"position_ids|relative_position_index|attn_mask)$"
)
"""Tensors that training leaves and evaluation does not read, or that the architecture fixes."""
MAY_LACK = re.compile(
    r"(?:^|\.)(num_batches_tracked|position_ids|relative_position_index|attn_mask)$"
)
TRAINING_ONLY = re.compile(r"^(criterion|criteria|loss|losses|loss_fn|loss_func|metrics?)(_\w+)?\.")

OF_PIXELS = re.compile(r"(^|[._])(mean|std|means|stds|mu|sigma|scale|shift|offset)$")
"""Names of what a layer in front of a network normalises images by."""


IN_PARTS = {
    "adapters": (
        re.compile(r"\.lora_(A|B|embedding_A|embedding_B|magnitude_vector)(\.|$)"),
        "merge them into the weights (merge_and_unload of PEFT)",
    ),
    "normalised weights": (
        re.compile(r"\.(weight_[gv]|parametrizations\.\w+\.original[01]?)$"),
        "make them plain (torch.nn.utils.parametrize.remove_parametrizations or "
        "torch.nn.utils.remove_weight_norm)",
    ),
    "pruned weights": (
        re.compile(r"\.(weight|bias)_(orig|mask)$"),
        "make that permanent (torch.nn.utils.prune.remove)",
    ),
}
"""Weights that a network puts together from parts as it runs: how they are called, and a remedy."""


@dataclass
class Match:
    """How the tensors under one prefix compare with what a network wants.

    ``other`` is the prefix of those that the file keeps apart, such as its head.
    """

    prefix: str
    tensors: dict[str, torch.Tensor]
    other: str = ""
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether every tensor of the network is there with its shape."""
        return not (self.missing or self.mismatched)


def plain_name(name: str) -> str:
    """The name of a tensor or module without what compiling and sharding put into it."""
    return WRAPPERS.sub("", name)


def _own_prefix(wanted: Sequence[str]) -> str:
    """What all names of a network begin with and a file may leave out."""
    prefix = ""
    while True:
        more = next((p for p in OUTER if all(k.startswith(prefix + p) for k in wanted)), None)
        if more is None:
            return prefix
        prefix += more


def _ties(wanted: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Names by what they share memory with: tied tensors are stored under one of their names."""
    by_place: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in wanted.items():
        if tensor.numel():
            place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
            by_place.setdefault(place, []).append(name)
    return {name: names for names in by_place.values() for name in names}


def _prefixes(wanted: Sequence[str], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Prefixes under which some name of the network stands in the file, most names first."""
    counts: dict[str, int] = {}
    names = set(wanted)
    for key in tensors:
        parts = key.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in names:
                prefix = "".join(f"{part}." for part in parts[:cut])
                counts[prefix] = counts.get(prefix, 0) + 1
    return sorted(counts, key=lambda prefix: (-counts[prefix], len(prefix)))


def matches(wanted: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> list[Match]:
    """The file's tensors under each prefix that names of the network have there."""
    ties = _ties(wanted)
    found = []
    prefixes = _prefixes(list(wanted), tensors)
    for prefix in prefixes:
        under = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        for name in wanted:
            if name not in under:
                twin = next((n for n in ties.get(name, ()) if n in under), None)
                if twin is not None:
                    under[name] = under[twin]
        match = Match(prefix, under)
        _add_head_kept_apart(match, wanted, tensors, prefixes)
        match.missing = [k for k in wanted if k not in under and not MAY_LACK.search(k)]
        match.mismatched = [k for k in wanted if k in under and under[k].shape != wanted[k].shape]
        match.unexpected = [k for k in under if k not in wanted and not COUNTER.search(k)]
        found.append(match)
    return found


def _add_head_kept_apart(
    match: Match,
    wanted: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    prefixes: Sequence[str],
) -> None:
    """Some trainers save a body under one prefix and its last layer under another."""
    lacking = [name for name in wanted if name not in match.tensors and not MAY_LACK.search(name)]
    if not lacking or len(lacking) == len(wanted):
        return
    apart = []
    for prefix in prefixes:
        held = {k[len(prefix) :] for k in tensors if k.startswith(prefix)} & set(wanted)
        if held == set(lacking):  # and no more: a second whole network is no head
            apart.append(prefix)
    if len(apart) == 1 and len({name.rpartition(".")[0] for name in lacking}) == 1:
        match.other = apart[0]
        match.tensors |= {name: tensors[match.other + name] for name in lacking}


def named(
    network: nn.Module, tensors: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, str]]:
    """Both sides without wrappers' parts in their names, and the network's full names."""
    state = network.state_dict()
    full = {plain_name(name): name for name in state}
    own = _own_prefix(list(full))
    given = {plain_name(name): tensor for name, tensor in tensors.items()}
    if own and not any(name.startswith(own) or f".{own}" in name for name in given):
        full = {name[len(own) :]: path for name, path in full.items()}
    if len(full) != len(state) or len(given) != len(tensors):  # two names fell together
        full, given = {name: name for name in state}, dict(tensors)
    return {name: state[path] for name, path in full.items()}, given, full


def fit_weights(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> list[str]:
    """Put a checkpoint into a network whole, or say exactly why it does not fit.

    Every tensor of the network must be in the file with its shape, under one prefix, be that empty,
    known or new; tied tensors under one of their names. Counters and index tables may be missing.
    Under that prefix nothing else may be; what stands beside it (a criterion, an averaged copy) is
    left out and named.

    Args:
        network: where they go.
        tensors: from ``read_checkpoint``.
        source: how messages call the checkpoint.

    Returns:
        What was left out, in sentences.

    Raises:
        InputError: keys are missing, unexpected or of another shape, or two different sets of
            weights fit.
    """
    wanted, given, full = named(network, tensors)
    found = matches(wanted, given)
    whole = [m for m in found if m.is_whole]
    if not whole:
        raise InputError(_misfit(network, wanted, given, found, source))
    chosen, notices = _one_of(whole, wanted, source)
    others = [m.prefix for m in whole if m is not chosen and m.prefix]
    strange = [
        key
        for key in chosen.unexpected
        if not TRAINING_ONLY.match(key)
        and not any((chosen.prefix + key).startswith(other) for other in others)
    ]
    if strange:
        chosen.unexpected = strange
        raise InputError(_misfit(network, wanted, given, [chosen], source))
    _refuse_other_kinds(wanted, chosen, source)
    if chosen.other:
        notices.append(f"The head of {source} is the one under {chosen.other.rstrip('.')!r}.")
    taken = {chosen.prefix + name for name in wanted} | {chosen.other + name for name in wanted}
    left = sorted(
        {
            key.split(".")[0] if "." in key else key
            for key in given
            if key not in taken
            and not COUNTER.search(key)
            and not any(key.startswith(other) for other in others)
        }
    )
    pixels = [k for k in given if k not in taken and OF_PIXELS.search(k) and given[k].numel() == 3]
    if pixels:
        notices.append(
            f"{source} holds {_some(pixels)} beside the network, three numbers each, as if images "
            "were normalised by them before it; give the same with --preprocessing FILE."
        )
    if left:
        notices.append(f"Left out of {source}, as no part of the network: {_some(left)}.")
    state = {full[name]: chosen.tensors[name] for name in wanted if name in chosen.tensors}
    network.load_state_dict(state, strict=False)
    return notices


def _one_of(
    whole: Sequence[Match], wanted: Mapping[str, torch.Tensor], source: str
) -> tuple[Match, list[str]]:
    """The one set of weights to take: the only one, or the plain one beside averaged copies."""
    different = [whole[0]]
    for match in whole[1:]:
        if not any(_is_same(match, other, wanted) for other in different):
            different.append(match)
    if len(different) == 1:
        return different[0], []
    plain = [m for m in different if not AVERAGED.search(m.prefix.lower())]
    named = ", ".join(repr(m.prefix.rstrip(".")) for m in different)
    if len(plain) != 1 or any("teacher" in m.prefix or "_k" in m.prefix for m in different):
        raise InputError(
            f"{source} holds {len(different)} sets of weights that fit ({named}); "
            "choose one with --weights-key NAME."
        )
    averaged = next(m for m in different if m is not plain[0])
    return plain[0], [
        f"{source} also holds averaged weights; --weights-key {averaged.prefix.rstrip('.')} takes "
        "those."
    ]


def _is_same(one: Match, other: Match, wanted: Mapping[str, torch.Tensor]) -> bool:
    return all(
        torch.equal(one.tensors[name], other.tensors[name])
        for name in wanted
        if name in one.tensors and name in other.tensors
    )


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _misfit(
    network: nn.Module,
    wanted: Mapping[str, torch.Tensor],
    given: Mapping[str, torch.Tensor],
    matches: Sequence[Match],
    source: str,
) -> str:
    name = type(network).__name__
    if not matches:
        lacking = [k for k in wanted if not MAY_LACK.search(k)]
        matches = [Match("", dict(given), missing=lacking, unexpected=list(given))]
    best = min(matches, key=lambda m: len(m.missing) + len(m.mismatched) + len(m.unexpected))
    tensors = best.tensors

    def sizes(key: str) -> str:
        there, here = ("x".join(map(str, t[key].shape)) or "a number" for t in (tensors, wanted))
        return f"{key} is {there} instead of {here}"

    parts = []
    if best.missing:
        parts.append(f"{len(best.missing)} missing ({_some(best.missing)})")
    if best.unexpected:
        parts.append(f"{len(best.unexpected)} unexpected ({_some(best.unexpected)})")
    if best.mismatched:
        shown = _some([sizes(k) for k in best.mismatched])
        parts.append(f"{len(best.mismatched)} of another shape ({shown})")
    hint = "check that the architecture is the one these weights were trained with"
    last = list(wanted)[-1]
    heads = set(list(wanted)[-2:])
    if best.mismatched and not best.missing and not best.unexpected:
        if set(best.mismatched) <= heads:
            hint = f"give n_classes={tensors[last].shape[0]} if only the number of classes differs"
    elif not best.unexpected and not best.mismatched and _lacks_head(network, best):
        hint = (
            "it has no head, so build the network without one in Python (torch.nn.Identity in its "
            "place) and name it as python:module:function"
        )
    elif _is_long_head(best):
        hint = (
            "its head has several layers, and what stands between them is not in the weights, so "
            "build the network in Python and name it as python:module:function"
        )
    for what, (pattern, remedy) in IN_PARTS.items():
        if any(map(pattern.search, best.unexpected)):
            hint = f"it holds {what}: {remedy} before you save them"
    where = f" under {best.prefix.rstrip('.')!r}" if best.prefix else ""
    return f"{source} does not fit {name}{where}: {', '.join(parts)}; {hint}."


def _refuse_other_kinds(wanted: Mapping[str, torch.Tensor], match: Match, source: str) -> None:
    """Whole numbers copied into weights would be taken for their values, without a word."""
    for name, tensor in match.tensors.items():
        here = wanted.get(name)
        if tensor.is_meta or tensor.layout != torch.strided:
            what = "without its values" if tensor.is_meta else "as a sparse tensor"
            raise InputError(
                f"{source} holds {name} {what}; save state_dict() of a loaded network, with "
                "tensor.to_dense() of what is sparse."
            )
        if here is None or not here.is_floating_point():
            continue
        if tensor.is_quantized or not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise InputError(
                f"{source} holds {name} as {kind}, and the network computes with it as a float; "
                "save the weights as they were before they were quantised or converted."
            )


def _lacks_head(network: nn.Module, match: Match) -> bool:
    """Whether all that is missing is the last linear layer."""
    linear = [name for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    paths = {key.rpartition(".")[0] for key in match.missing}
    return len(paths) == 1 and bool(linear) and linear[-1].endswith(next(iter(paths)))


def _is_long_head(match: Match) -> bool:
    """Whether what is too much are linear layers of a longer head."""
    numbered = [re.fullmatch(r"(.+)\.\d+\.(weight|bias)", key) for key in match.unexpected]
    heads = {found.group(1) for found in numbered if found}
    return bool(numbered) and all(numbered) and len(heads) == 1
