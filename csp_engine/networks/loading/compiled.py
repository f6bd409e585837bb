"""Networks as they were before ``torch.compile``, whose layers can be listened to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def uncompiled(network: Any) -> Any:
    """A network that runs from its own Python code, as do all its parts; itself if it is no module.

    Compiled code keeps to the hooks that were there when it was compiled. What it computes is the
    same; parts are put back in place.
    """
    if not isinstance(network, nn.Module) or isinstance(network, torch.jit.ScriptModule):
        return network
    before = network._modules.get("_orig_mod")
    if before is not None:
        return uncompiled(before)
    network._compiled_call_impl = None
    for name, child in list(network._modules.items()):
        network._modules[name] = uncompiled(child)
    return network
