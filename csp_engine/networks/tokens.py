"""Which tokens of a layer are patches: counted, never concluded from the names of parameters alone.

Where tokens first appear, no attention has mixed them yet: what is the same for every image there
is a class or register token, whatever it is called. Where that shows nothing (a pooled vector that
is put before its patches), the feature maps' sizes do: tokens − patch grid = tokens before it. What
the model itself says (timm's ``num_prefix_tokens``, a configuration) must agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn

from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import (
    Candidate,
    Observed,
    first_tokens,
    noise_images,
)

CLASS_NAME = re.compile(r"(cls|class)(_?(tokens?|emb(ed(ding)?)?s?))?(_?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class TokenCount:
    """Tokens of a layer that are no patches: how many before and after the patches.

    ``has_class`` says that the first is a class token; ``question`` is not empty where the number
    cannot be told.
    """

    n_prefix: int = 0
    n_suffix: int = 0
    has_class: bool = False
    question: str = ""


def class_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Parameters that are called as class tokens are."""
    found = []
    for name, parameter in network.named_parameters():
        parts = name.split(".")
        last = parts[-2] if parts[-1] == "weight" and len(parts) > 1 else parts[-1]
        if CLASS_NAME.fullmatch(last):
            found.append(parameter)
    return found


def count_tokens(
    model: TargetModel, observed: Observed, candidate: Candidate, layout: str, stated: int | None
) -> TokenCount:
    """Count the tokens of a layer that are no patches.

    Args:
        model: the network.
        observed: what was seen of it.
        candidate: a layer that gives tokens.
        layout: how its axes are read.
        stated: what the user says stands before the patches, if anything.
    """
    n_tokens = candidate.shape[1 if layout == "nct" else 0]
    has_class = model.has_class_token
    if stated is None and model.is_prefix_stated:
        stated = model.n_prefix_tokens
    if stated is not None:
        n = 0 if _is_bare(n_tokens, stated, observed.grids) else stated
        if n > n_tokens:
            return TokenCount(question=f"has {n_tokens} tokens, fewer than {stated}")
        return TokenCount(n, has_class=n > 0 and has_class)
    still = observed.still.get((layout, n_tokens))
    if still is not None and bool(still.any()):
        return _constant(model, observed, layout, still)
    return _by_grid(model, observed, candidate, layout, n_tokens)


def _is_bare(n_tokens: int, n_prefix: int, grids: set[int]) -> bool:
    """Whether a layer has the patch grid's tokens only: some networks add class tokens late."""
    return n_tokens in grids and n_tokens - n_prefix not in grids


def _constant(
    model: TargetModel, observed: Observed, layout: str, still: torch.Tensor
) -> TokenCount:
    n_tokens = len(still)
    moving = torch.nonzero(~still).flatten()
    n_prefix, n_suffix = int(moving[0]), n_tokens - 1 - int(moving[-1])
    n_patches = n_tokens - n_prefix - n_suffix
    if len(moving) != n_patches:
        return TokenCount(
            question=f"has {n_tokens} tokens, of which {int(still.sum())} are not patches and "
            "stand among them"
        )
    says = getattr(model.network, "num_prefix_tokens", None)
    if isinstance(says, int) and not isinstance(says, bool) and says != n_prefix:
        return TokenCount(
            question=f"has {n_tokens} tokens, {n_prefix} of them before {n_patches} patches, but "
            f"the model states num_prefix_tokens={says}"
        )
    has_class = n_prefix > 0 and (model.has_class_token or bool(class_parameters(model.network)))
    if has_class and n_prefix > 1:
        has_class = _is_first(model, observed, layout, n_tokens)
    return TokenCount(n_prefix, n_suffix, has_class)


def _is_first(model: TargetModel, observed: Observed, layout: str, n_tokens: int) -> bool:
    """Whether the class token is the first token: another value of its parameter moves that."""
    parameters = class_parameters(model.network)
    if not parameters:
        return True
    if observed.moved is None:  # one pass serves every layer
        observed.moved = _moved(model, parameters)
    before, after = observed.tokens[layout, n_tokens], observed.moved.get((layout, n_tokens))
    return after is None or bool((before[:, 0] != after[:, 0]).any())


def _moved(
    model: TargetModel, parameters: list[nn.Parameter]
) -> dict[tuple[str, int], torch.Tensor]:
    """The tokens as they first appear, with other values of some parameters."""
    held = [parameter.detach().clone() for parameter in parameters]
    try:
        with torch.no_grad():
            for parameter in parameters:
                ramp = torch.linspace(-1, 1, parameter.numel(), device=parameter.device)
                parameter.add_(ramp.reshape(parameter.shape).to(parameter.dtype))
        moved, _ = first_tokens(model.run, model.network, noise_images(model, 3))
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, held, strict=True):
                parameter.copy_(value)
    return moved


def _by_grid(
    model: TargetModel, observed: Observed, candidate: Candidate, layout: str, n_tokens: int
) -> TokenCount:
    """The count where no token is seen to be constant: from the sizes of feature maps."""
    n_stated, grids = model.n_prefix_tokens, observed.grids
    smaller = [grid for grid in grids if grid < n_tokens]
    if n_stated:
        n_left = n_tokens - n_stated
        is_left_grid = n_left in grids or _may_be_grid(n_left, model.input_shape)
        if _is_bare(n_tokens, n_stated, grids):
            return TokenCount()
        if not is_left_grid and _may_be_grid(n_tokens, model.input_shape):
            return TokenCount()  # the patches alone, before class tokens join them
        if smaller and not is_left_grid:
            return TokenCount(
                question=f"has {n_tokens} tokens, {n_tokens - max(smaller)} more than a grid of "
                f"{max(smaller)} patches, where the model's names tell of {n_stated}"
            )
        return TokenCount(n_stated, has_class=model.has_class_token)
    if n_tokens in grids:
        return TokenCount()
    n_larger = None
    if candidate.larger is not None and observed.larger_grids:
        n_larger = candidate.larger[1 if layout == "nct" else 0]
    extra = [
        n_tokens - grid
        for grid in sorted(smaller, reverse=True)
        if n_larger is not None and n_larger - (n_tokens - grid) in observed.larger_grids
    ]
    if extra:
        return _pooled(observed.tokens.get((layout, n_tokens)), n_tokens, extra[0])
    n_units = candidate.shape[0 if layout == "nct" else 1]
    is_free = not any(
        p.ndim == 3 and p.shape[0] == 1 and p.shape[1] < n_tokens and p.shape[2] == n_units
        for p in model.network.parameters()
    )
    if is_free or _may_be_grid(n_tokens, model.input_shape):
        return TokenCount()  # nothing that could be a token of its own
    return TokenCount(question=f"has {n_tokens} tokens, which do not make a grid of patches")


def _may_be_grid(n_tokens: int, input_shape: tuple[int, int, int]) -> bool:
    """Whether some patch size cuts an image into so many."""
    _, height, width = input_shape
    return any(
        n_tokens in ((height // s) * (width // s), -(-height // s) * -(-width // s))
        for s in range(1, max(height, width) + 1)
    )


def _pooled(first: torch.Tensor | None, n_tokens: int, n_extra: int) -> TokenCount:
    """The one token beyond the grid, if it is the mean or maximum of the others."""
    if first is not None and n_extra == 1:
        for place, others, count in (
            (first[:, 0], first[:, 1:], TokenCount(n_prefix=1)),
            (first[:, -1], first[:, :-1], TokenCount(n_suffix=1)),
        ):
            for pooled in (others.mean(1), others.amax(1)):
                if torch.allclose(place, pooled, atol=1e-5, rtol=1e-4):
                    return count
    return TokenCount(
        question=f"has {n_tokens} tokens, {n_extra} more than its grid of {n_tokens - n_extra}, "
        "and which of them are not patches cannot be told"
    )
