"""What makes a network the same network: its architecture, its weights, its pixels, its code."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn


def state_sha256(network: nn.Module) -> str:
    """A sha256 over name, type, shape and bytes of every parameter and buffer, in name order."""
    tensors: dict[str, torch.Tensor] = dict(network.named_parameters(remove_duplicate=False))
    tensors.update(network.named_buffers(remove_duplicate=False))
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _architecture_text(network: nn.Module) -> str:
    text = re.sub(r"0x[0-9a-fA-F]+", "0x", repr(network))  # addresses differ from run to run
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
    for part in (_architecture_text(network), state_sha256(network), recipe, *extras):
        digest.update(f"{len(part.encode())}:".encode() + part.encode())
    return digest.hexdigest()


LIBRARIES = {"torch", "torchvision", "timm", "transformers", "open_clip", "csp_engine"}
"""Whose classes need no hash of their code: the versions of what was installed are recorded."""


def code_sha256(network: nn.Module) -> str | None:
    """A sha256 over the files that define a network's own classes.

    None where all its classes come from libraries; empty where a file cannot be read, so that
    nobody can know whether its forward pass is still the same.
    """
    files: dict[str, bytes] = {}
    for kind in {type(module) for module in network.modules()}:
        for base in kind.__mro__:
            package = base.__module__.partition(".")[0]
            if package in LIBRARIES or package in sys.stdlib_module_names:
                continue
            try:
                path = inspect.getsourcefile(base)
                files[base.__module__] = Path(path or "").read_bytes()
            except (OSError, TypeError):  # typed into a console, or compiled
                return ""
    if not files:
        return None
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}:{len(files[name])}:".encode() + files[name])
    return digest.hexdigest()
