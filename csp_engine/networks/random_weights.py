"""The same architecture with random weights: the control of what can be read in a network.

A network that learnt nothing still answers to colours and brightness, so labels of it can be
reliable. How many are says how much of what is read in the trained network training put there.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.devices import copied
from csp_engine.networks.loading.identity import model_fingerprint
from csp_engine.networks.models import TargetModel
from csp_engine.networks.steadiness import Steadiness

SUFFIX = "-random"


def with_random_weights(model: TargetModel, seed: int = 0) -> TargetModel:
    """A copy of a model whose weights are drawn as before training.

    Modules are asked to reset themselves (``reset_parameters``), statistics of normalisation
    included; parameters that no module resets are shuffled within each tensor.

    Raises:
        InputError: if the network has no parameters, or cannot be copied.
    """
    network = copied(model.network, "cpu", model.name)
    if not any(True for _ in network.parameters()):
        raise InputError(
            f"{model.name} has no weights, so there is no control with random ones; leave "
            "--control out."
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        _reset(network)
    name = f"{model.name}{SUFFIX}"
    return replace(
        model,
        name=name,
        spec=f"{model.spec} with random weights, seed {seed}",
        network=network.to(model.device),
        class_names=None,  # no classifier: its outputs mean nothing
        fingerprint=model_fingerprint(network, model.preprocessing, [f"random weights {seed}"]),
        steadiness=Steadiness(notices=list(model.steadiness.notices)),
    )


def _reset(network: nn.Module) -> None:
    done: set[int] = set()
    for module in network.modules():
        for name in ("reset_parameters", "_reset_parameters"):
            reset = getattr(module, name, None)
            if callable(reset):
                reset()
                done |= {id(parameter) for parameter in module.parameters(recurse=False)}
                break
    for parameter in network.parameters():
        if id(parameter) not in done:
            order = torch.randperm(parameter.numel())
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
