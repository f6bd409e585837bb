"""Activations of several layers from one forward pass, one number per unit and image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from csp_engine.errors import InputError
from csp_engine.networks.layers import LayerTap, hooks_on
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import first_tensor
from csp_engine.networks.steadiness import require_steady


class _Stop(Exception):
    """Raised by the last hook: nothing after it is needed."""


def positions_last(tensor: torch.Tensor, tap: LayerTap) -> torch.Tensor:
    """A layer's output as ``(n, channels, positions)``; a vector has one position."""
    if tap.tokens_first:
        tensor = tensor.transpose(0, 1)
    if tap.kind == "vector":
        return tensor.unsqueeze(-1)
    if tap.channels_last:
        return tensor.flatten(1, -2).transpose(1, 2)
    return tensor.flatten(2)


def pool(tensor: torch.Tensor, tap: LayerTap) -> torch.Tensor:
    """A layer's output as ``(n, units)`` float32, in memory of its own, without its gradient.

    Autoencoder latents are computed at every position and pooled afterwards. ``absmax`` is the
    value of largest magnitude with its sign; a tie goes to the positive one.
    """
    return pooled(tensor.detach(), tap)


def pooled(tensor: torch.Tensor, tap: LayerTap) -> torch.Tensor:
    """The same, as part of what gradients flow through."""
    x = positions_last(tensor.float(), tap)
    pooling = tap.id.pooling
    if pooling == "cls":
        x = x[..., :1]
    elif pooling == "token_mean":
        x = x[..., tap.n_prefix_tokens : x.shape[-1] - tap.n_suffix_tokens]
    if tap.sae is not None:
        x = tap.sae(x.transpose(1, 2)).transpose(1, 2)
    if pooling in ("none", "cls"):
        # A copy: the network may go on to change its own tensor in place.
        return x[..., 0].clone(memory_format=torch.contiguous_format)
    if pooling in ("mean", "token_mean"):
        return x.mean(-1)
    high = x.amax(-1)
    if pooling == "max":
        return high
    low = x.amin(-1)
    return torch.where(high >= -low, high, low)


def require_rows(tensor: torch.Tensor | None, tap: LayerTap, n_images: int) -> torch.Tensor:
    """A layer's output, if it has one row per image and the shape that the layer declared.

    Raises:
        InputError: it gave no tensor, or one of another shape.
    """
    if tensor is None:
        raise InputError(f"Layer {tap.id.module!r} gave no tensor; choose another layer.")
    expected = (n_images, *tap.shape)
    if tap.tokens_first:
        expected = (tap.shape[0], n_images, *tap.shape[1:])
    if tuple(tensor.shape) != expected:
        raise InputError(
            f"Layer {tap.id.module!r} gave {_size(tensor.shape)} for a batch of {n_images} images "
            f"where {_size(expected)} was expected, so its rows cannot be told apart; choose "
            "another layer, or another --batch-size."
        )
    return tensor


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"


def to_device(pixels: np.ndarray, model: TargetModel) -> torch.Tensor:
    """Pixels as a tensor where the network is."""
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    if not pixels.flags.writeable:
        pixels = pixels.copy()
    return torch.from_numpy(pixels).to(model.device)


class ActivationRecorder:
    """Record the pooled activations of some layers of a network.

    ``with ActivationRecorder(model, taps) as recorder: recorder(pixels)``. Hooks live only during a
    call, so none is left behind by an error; layers are pooled inside their hook, so in-place
    operations further on cannot reach the record, and nothing is kept from batch to batch but
    ``logits``.
    """

    def __init__(
        self, model: TargetModel, taps: Sequence[LayerTap], *, keep_logits: bool = False
    ) -> None:
        """Prepare to listen.

        Args:
            model: the network.
            taps: from ``select_layers``; the same module may appear with several poolings.
            keep_logits: keep the classifier's output of the last batch in ``logits``. Without it
                the pass ends at the last tapped layer.
        """
        if not taps:
            raise InputError("There is no layer to record; choose at least one.")
        self.model = model
        self.taps = tuple(taps)
        self.keep_logits = keep_logits
        self.logits: Float32[np.ndarray, "n c"] | None = None
        self._by_module: dict[str, list[LayerTap]] = {}
        for tap in self.taps:
            self._by_module.setdefault(tap.id.module, []).append(tap)
        # transformers wraps forward passes in code that must not be left by an exception.
        self._may_stop = not keep_logits and not hasattr(model.network, "config")

    def __enter__(self) -> ActivationRecorder:
        for module in self.model.network.modules():
            module.training = False  # without calling train(), which a network may override
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.logits = None

    def __call__(
        self, pixels: Float32[np.ndarray, "n channel height width"]
    ) -> dict[str, Float32[np.ndarray, "n u"]]:
        """One forward pass; activations by layer id.

        Raises:
            InputError: an activation is not finite, is no function of its image alone, or a layer
                did not run once with a row per image.
        """
        x = to_device(pixels, self.model)
        n_images = len(x)
        self._require_steady(x)
        if n_images == 1 and self.model.steadiness.needs_company:
            x = torch.cat([x, x])
        pooled: dict[str, torch.Tensor] = {}

        def take(tap: LayerTap, tensor: torch.Tensor) -> None:
            pooled[str(tap.id)] = pool(tensor, tap)[:n_images]

        output = self._pass(x, take)
        if self.keep_logits:
            logits = self.model.logits(output)
            self.logits = None if logits is None else logits[:n_images].float().cpu().numpy()
        result = {str(tap.id): pooled[str(tap.id)].cpu().numpy() for tap in self.taps}
        for layer, act_nu in result.items():
            if not np.isfinite(act_nu).all():
                raise InputError(
                    f"Layer {layer} of {self.model.name} gives values that are not finite; check "
                    "its weights and preprocessing."
                )
        return result

    def require_steady(self, pixels: Float32[np.ndarray, "n channel height width"]) -> None:
        """Once per layer: see that its values are functions of the image alone.

        A call does that with its own images; this is for where others are to decide.

        Raises:
            InputError: they are not.
        """
        self._require_steady(to_device(pixels, self.model))

    def outline(
        self, pixels: Float32[np.ndarray, "n channel height width"]
    ) -> dict[str, torch.Tensor]:
        """What a layer says of images, to be compared with what it says of them later.

        By module path: the mean over its positions and the largest magnitude, ``(n, channels, 2)``.
        """
        x = to_device(pixels, self.model)
        n_images = len(x)
        if n_images == 1:
            x = torch.cat([x, x])
        found: dict[str, torch.Tensor] = {}

        def take(tap: LayerTap, tensor: torch.Tensor) -> None:
            values_ncp = positions_last(tensor, tap)[:n_images].float()
            found[tap.id.module] = torch.stack([values_ncp.mean(-1), values_ncp.abs().amax(-1)], -1)

        self._pass(x, take)
        return {name: values.cpu() for name, values in found.items()}

    def _pass(self, x: torch.Tensor, take: Callable[[LayerTap, torch.Tensor], None]) -> Any:
        """One forward pass that hands every tapped output on, once each and with all rows."""
        ran: set[str] = set()

        def hook_for(name: str) -> Callable[..., None]:
            def hook(module: Any, args: Any, output: Any) -> None:
                if name in ran:
                    raise InputError(
                        f"Layer {name!r} of {self.model.name} ran more than once for a batch of "
                        f"{len(x)} images; choose another layer, or another --batch-size."
                    )
                ran.add(name)
                tensor = first_tensor(output)
                for tap in self._by_module[name]:
                    take(tap, require_rows(tensor, tap, len(x)))
                if self._may_stop and len(ran) == len(self._by_module):
                    raise _Stop

            return hook

        output = None
        hooks = {name: hook_for(name) for name in self._by_module}
        with hooks_on(self.model, hooks), torch.inference_mode(), suppress(_Stop):
            output = self.model.run(x)
        missing = set(self._by_module) - ran
        if missing:
            raise InputError(
                f"Layer {min(missing)!r} of {self.model.name} did not run for this batch; "
                "choose another layer."
            )
        return output

    def _require_steady(self, x: torch.Tensor) -> None:
        steadiness = self.model.steadiness
        if steadiness.checked >= set(self._by_module):
            return

        def run(few: torch.Tensor) -> dict[str, torch.Tensor]:
            seen: dict[str, torch.Tensor] = {}

            def take(tap: LayerTap, tensor: torch.Tensor) -> None:
                if tap.id.module not in seen:
                    seen[tap.id.module] = positions_last(tensor, tap).clone()

            self._pass(few, take)
            return seen

        require_steady(
            self.model.network, self.model.name, steadiness, run, x, self.model.resolution
        )
        steadiness.checked.update(self._by_module)
