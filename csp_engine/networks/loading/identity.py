"""What makes a network the same network: its architecture, its weights, its pixels, its code."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from csp_engine.hashing import sha256_array

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
"""Where something lies in memory, which differs from run to run."""


def state_sha256(network: nn.Module) -> str:
    """A sha256 over name, type, shape and bytes of every parameter and buffer, in name order.

    Then over what else modules save with these, such as the weights of quantised layers.
    """
    tensors: dict[str, torch.Tensor] = dict(network.named_parameters(remove_duplicate=False))
    tensors.update(network.named_buffers(remove_duplicate=False))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        _add_tensor(digest, name, tensors[name])
    saved: dict[str, Any] = {}
    for path, module in network.named_modules():
        module._save_to_state_dict(saved, f"{path}." if path else "", False)
    for name in sorted(saved.keys() - tensors.keys()):
        _add(digest, name, saved[name])
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, value: Any) -> None:
    """Add tensors, however they are nested, and the words for everything else."""
    if isinstance(value, torch.Tensor):
        _add_tensor(digest, name, value.dequantize() if value.is_quantized else value)
    elif isinstance(value, np.ndarray):
        digest.update(f"{name}|{sha256_array(value)}|".encode())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _add(digest, f"{name}.{key}", value[key])
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            _add(digest, f"{name}.{place}", each)
    else:
        digest.update(f"{name}|{_ADDRESS.sub('0x', repr(value))}|".encode())


def _add_tensor(digest: hashlib._Hash, name: str, tensor: torch.Tensor) -> None:
    tensor = tensor.detach().cpu().contiguous()
    digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    if tensor.numel():
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _architecture_text(network: nn.Module) -> str:
    text = _ADDRESS.sub("0x", repr(network))
    config = getattr(network, "config", None)
    if hasattr(config, "to_dict"):
        settings = config.to_dict()
        for key in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
            settings.pop(key, None)
        text += json.dumps(settings, sort_keys=True, default=str)
    for key in ("transform_input",):  # steps of torchvision's Inception that repr does not show
        if hasattr(network, key):
            text += f"|{key}={getattr(network, key)}"
    return text


def model_fingerprint(
    network: nn.Module, preprocessing: Mapping[str, Any], extras: Sequence[str]
) -> str:
    """A sha256 over architecture, weights and preprocessing; ``extras`` change what is computed."""
    digest = hashlib.sha256()
    recipe = json.dumps(preprocessing, sort_keys=True, separators=(",", ":"))
    # What was switched off changes what the network computes, and is no part of its weights.
    parts = (_architecture_text(network), state_sha256(network), recipe, *extras)
    for part in (*parts, *_kept_sha256(network)):
        digest.update(f"{len(part.encode())}:".encode() + part.encode())
    return digest.hexdigest()


def _kept_sha256(network: nn.Module) -> list[str]:
    """A sha256 over tensors that own modules keep and do not name as buffers; none without any."""
    found = {
        f"{path}.{key}": value
        for path, module in network.named_modules()
        if _is_own(type(module).__module__)
        for key, value in vars(module).items()
        if isinstance(value, torch.Tensor)
        or (isinstance(value, np.ndarray) and not value.dtype.hasobject)
    }
    digest = hashlib.sha256()
    _add(digest, "", found)
    return [digest.hexdigest()] if found else []


LIBRARIES = {"torch", "torchvision", "timm", "transformers", "open_clip", "csp_engine"}
"""Whose classes need no hash of their code: the versions of what was installed are recorded."""


def code_sha256(network: nn.Module) -> str | None:
    """A sha256 over the code that a network's own classes run, and over their plain settings.

    The code is the files of its classes, of functions put in place of a forward pass or hooked to
    it, and of modules beside them that these import. Settings are numbers and words that its
    modules keep outside of their tensors, such as a factor.

    None where all of it comes from libraries; empty where a file cannot be read, so that nobody
    can know whether its forward pass is still the same.
    """
    defined: list[Any] = []
    settings: list[str] = []
    for name, module in network.named_modules():
        own = [base for base in type(module).__mro__ if _is_own(base.__module__)]
        put_in = [vars(module)[key] for key in ("forward",) if key in vars(module)]
        put_in += [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        put_in = [inspect.unwrap(getattr(each, "__func__", each)) for each in put_in]
        defined += own + [each for each in put_in if _is_own(getattr(each, "__module__", "") or "")]
        if own:
            settings += [f"{name}.{key}={value!r}" for key, value in _plain(vars(module))]
    if not defined:
        return None
    files: dict[str, bytes] = {}
    for each in {id(each): each for each in defined}.values():
        try:
            path = inspect.getsourcefile(each if inspect.isroutine(each) else _class_of(each))
            files[each.__module__] = Path(path or "").read_bytes()
        except (AttributeError, OSError, TypeError):  # typed into a console, or compiled
            return ""
    _add_imported(files)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}:{len(files[name])}:".encode() + files[name])
    digest.update("\n".join(sorted(settings)).encode())
    return digest.hexdigest()


def _is_own(module: str) -> bool:
    package = module.partition(".")[0]
    return package not in LIBRARIES and package not in sys.stdlib_module_names


def _class_of(each: Any) -> type:
    return each if isinstance(each, type) else type(each)


def _plain(attributes: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Numbers and words among attributes, and lists of them; paths are of one machine only."""

    def is_plain(value: Any) -> bool:
        if isinstance(value, tuple | list):
            return all(map(is_plain, value))
        if isinstance(value, str):
            return not {"/", "\\"} & set(value)
        return isinstance(value, bool | int | float | None)

    return [
        (key, value)
        for key, value in attributes.items()
        if is_plain(value) and key != "training" and not key.startswith("__")
    ]


def _add_imported(files: dict[str, bytes]) -> None:
    """Add the files of own modules that those of ``files`` import, and so on; no packages."""
    waiting = list(files)
    while waiting:
        held = sys.modules.get(waiting.pop())
        for value in list(vars(held).values()) if held is not None else []:
            name = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
            if not isinstance(name, str) or name in files or not _is_own(name):
                continue
            path = getattr(sys.modules.get(name), "__file__", None) or ""
            if path.endswith(".py") and not {"site-packages", "dist-packages"} & set(
                Path(path).parts
            ):
                with suppress(OSError):  # imported from an archive
                    files[name] = Path(path).read_bytes()
                    waiting.append(name)
