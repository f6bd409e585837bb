"""The same photographs with and without something: scores, attribution of the effect, and swaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import nn

from csp_engine.errors import InputError, UnansweredError
from csp_engine.networks.activations import positions_last, require_rows, to_device
from csp_engine.networks.driving.gradients import (
    GradientPass,
    chosen_outputs,
    require_steady_outputs,
    with_first,
)
from csp_engine.networks.driving.reaching import passed_by
from csp_engine.networks.layers import LayerTap, hooks_on
from csp_engine.networks.models import TargetModel
from csp_engine.networks.observing import first_tensor

BATCH = 32

Part = np.ndarray
"""Part of a layer: whole numbers of units, or a direction, a unit vector over all of them.

A basis of several directions, ``(u, k)`` with orthonormal columns, is what they span.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Attributed:
    """Of one layer: what the change of each unit between two versions of an image does.

    ``effect_nu`` is the first-order estimate of every pair and unit, ``change_nu`` the mean change
    over positions, ``activation_u`` the mean activation over pairs and positions, ``influence_u``
    the mean size of gradient × activation.
    """

    effect_nu: Float32[np.ndarray, "n u"]
    change_nu: Float32[np.ndarray, "n u"]
    activation_u: Float32[np.ndarray, " u"]
    influence_u: Float32[np.ndarray, " u"]


def log_odds(logit_nc: torch.Tensor, output: int, *, are_apart: bool = False) -> torch.Tensor:
    """Log-odds of one output against all others: its logit less their log-sum-exp.

    Of a network with one output, or with outputs that are each a yes or no of their own
    (``are_apart``), that is its logit, which is one already.
    """
    if are_apart or logit_nc.shape[1] == 1:
        return logit_nc[:, output].float()
    others = torch.cat([logit_nc[:, :output], logit_nc[:, output + 1 :]], dim=1)
    return logit_nc[:, output].float() - others.float().logsumexp(1)


class PairRuns:
    """One network, one of its outputs, and layers in which to look and to intervene.

    Pixels are ``(n, channel, height, width)``; two versions of the same photographs have the same
    rows. A *version* goes in; a *foil* is what it is compared with.
    """

    def __init__(
        self, model: TargetModel, taps: Sequence[LayerTap], output: int | str, batch: int = BATCH
    ) -> None:
        """Prepare.

        Args:
            model: a classifier.
            taps: layers; of one module the first counts, for a swap is of the module's output,
                whatever its pooling. Autoencoder latents have no gradient and are left out.
            output: number or class name.
            batch: images of one pass.
        """
        self.model = model
        self.tap_of: dict[str, LayerTap] = {}
        for tap in taps:
            if tap.sae is None:
                self.tap_of.setdefault(tap.id.module, tap)
        self._asked = output
        self._batch = batch
        self._output: int | None = None
        self._is_known = False

    def scores(
        self, pixels: np.ndarray
    ) -> tuple[Float32[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Log-odds of the output for every image, and whether the network decides for it.

        With one output, or outputs that are each a yes or no of their own, the decision is that its
        logit is above 0.

        Raises:
            UnansweredError: for the first image whose log-odds are not finite.
        """
        score_n, is_called_n = [], []
        for part in self._parts(len(pixels)):
            logits = self._logits(pixels[part], {})
            score_n.append(self._log_odds(logits).cpu().numpy())
            is_called_n.append(self._is_called(logits))
        return self._answered(np.concatenate(score_n)), np.concatenate(is_called_n)

    def n_outputs(self, pixels: np.ndarray) -> int:
        """How many outputs the network has, for images like these."""
        return self._logits(pixels[:1], {}).shape[1]

    def attributed(self, version: np.ndarray, foil: np.ndarray) -> dict[str, Attributed]:
        """By module: how much of the effect of version less foil each unit accounts for.

        ``sum over positions of (a_version - a_foil) · (g_version + g_foil) / 2``, with g the
        gradient of the log-odds: attribution patching (Nanda 2023, Syed et al. 2023) with the
        gradient averaged over both ends, which is exact where the rest of the network is quadratic.

        Raises:
            UnansweredError: for the first pair whose effects are not finite.
        """
        held: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in self.tap_of}
        sums: dict[str, list[np.ndarray]] = {}
        for part in self._parts(len(version)):
            ends = [self._graded(pixels, part) for pixels in (version, foil)]
            for name, tap in self.tap_of.items():
                (a, grad_a), (b, grad_b) = ends[0][name], ends[1][name]
                change = positions_last(a - b, tap)
                slope = positions_last(grad_a + grad_b, tap) / 2
                held[name].append(
                    ((change * slope).sum(-1).cpu().numpy(), change.mean(-1).cpu().numpy())
                )
                influence = positions_last(a * grad_a, tap).sum(-1).abs().sum(0)
                activation = positions_last(a, tap).mean(-1).sum(0)
                now = [activation.cpu().numpy(), influence.cpu().numpy()]
                before = sums.setdefault(name, [np.zeros_like(now[0]), np.zeros_like(now[1])])
                sums[name] = [was + more for was, more in zip(before, now, strict=True)]
        n = max(len(version), 1)
        effects = {}
        for name, found in held.items():
            effects[name] = np.concatenate([each[0] for each in found])
            self._answered(effects[name].T, f"in the gradient at layer {name!r}")
        return {
            name: Attributed(
                effects[name],
                np.concatenate([each[1] for each in found]),
                sums[name][0] / n,
                sums[name][1] / n,
            )
            for name, found in held.items()
        }

    def swapped(
        self, module: str, version: np.ndarray, foil: np.ndarray, parts: Sequence[Part]
    ) -> Float32[np.ndarray, "s n"]:
        """Log-odds of every version with a part of one layer taken from its foil, for each part.

        Units are taken over at all positions; of directions, what lies in their span is. The rest
        of the layer stays as it is, and what follows runs on.

        Raises:
            UnansweredError: for the first version whose log-odds are not finite.
        """
        tap = self.tap_of[module]
        masks = [self._mixing(part, tap) for part in parts]
        score_sn: list[np.ndarray] = []
        for rows in self._parts(len(version)):
            kept: dict[str, torch.Tensor] = {}
            self._logits(foil[rows], {module: _keep(module, tap, kept)})
            found = []
            for mix in masks:
                logits = self._logits(version[rows], {module: _replace(tap, kept[module], mix)})
                found.append(self._log_odds(logits).cpu().numpy())
            score_sn.append(np.stack(found))
        return self._answered(
            np.concatenate(score_sn, axis=1), f"with part of layer {module!r} swapped"
        )

    def _answered(self, value_n: np.ndarray, under: str = "", first: int = 0) -> np.ndarray:
        """Values whose last axis is that of images from ``first`` on, if all are finite.

        A comparison with what is not a number is false, so such an answer would count as one.
        Log-odds are finite only where no logit of the image is NaN or without upper bound.
        """
        is_lost_n = ~np.isfinite(value_n)
        if is_lost_n.any():
            rows = is_lost_n.reshape(-1, is_lost_n.shape[-1]).any(axis=0)
            raise UnansweredError(self.model.name, first + int(rows.argmax()), under)
        return value_n

    def _mixing(self, part: Part, tap: LayerTap) -> Mix:
        axis = unit_axis(tap)
        values = torch.as_tensor(np.asarray(part))
        if values.is_floating_point():
            basis = values.float().reshape(len(values), -1)

            def project(here: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
                along = basis.to(here.device, here.dtype)
                gap = (other - here).movedim(axis, -1)
                return here + (gap @ along @ along.T).movedim(-1, axis)

            return project
        chosen = values.long()

        def take(here: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            mixed = here.clone()
            places: list[Any] = [slice(None)] * here.ndim
            places[axis] = chosen.to(here.device)
            mixed[tuple(places)] = other[tuple(places)]
            return mixed

        return take

    def _graded(
        self,
        pixels: np.ndarray,
        rows: slice,
        value: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Activation of every layer for some rows, and the gradient there of a value of the logits.

        The value is one number an image; without one it is the log-odds of the output.
        """
        self._require_sound(pixels[rows])
        step = GradientPass(self.model, self.tap_of)
        n = rows.stop - rows.start
        logits = step.run(pixels[rows])[:n]
        value_n = value(logits) if value else self._log_odds(logits)
        self._answered(value_n.detach().cpu().numpy(), first=rows.start)
        total = value_n.sum()
        names = list(step.tapped)
        grads = torch.autograd.grad(total, [step.tapped[k] for k in names], allow_unused=True)
        found = {}
        for name, grad in zip(names, grads, strict=True):
            if grad is None:
                raise InputError(
                    f"Outputs of {self.model.name} do not depend on layer {name!r}; leave it out "
                    "with --layer."
                )
            keep = (slice(None), slice(n)) if self.tap_of[name].tokens_first else (slice(n),)
            found[name] = step.tapped[name].detach()[keep].float(), grad[keep].float()
        return found

    def _logits(self, pixels: np.ndarray, hooks: Mapping[str, Callable[..., Any]]) -> torch.Tensor:
        """Logits of one batch under hooks, without gradients."""
        self._require_sound(pixels)
        x = to_device(pixels, self.model)
        n = len(x)
        if n == 1 and self.model.steadiness.needs_company:
            x = torch.cat([x, x])
        with torch.inference_mode(), hooks_on(self.model, hooks):
            logits = self.model.logits(self.model.run(x))
        if logits is None:
            raise InputError(f"{self.model.name} is not a classifier, so no output can be audited.")
        return logits[:n]

    def _require_sound(self, pixels: np.ndarray) -> None:
        """Once: see that outputs are functions of the image, and that changes of layers reach them.

        Raises:
            InputError: as above.
        """
        require_steady_outputs(self.model, pixels)
        if self._is_known:
            return
        past = passed_by(self.model, self.tap_of, pixels)
        if past:
            raise InputError(
                f"What layer {min(past)!r} of {self.model.name} gives is also read elsewhere in "
                "the network (a layer that works in place, or a tensor that is kept), so a change "
                "of it would reach a part only; leave it out with --layer, or make it work on a "
                "copy."
            )
        self._is_known = True

    def _number(self, logits: torch.Tensor) -> int:
        if self._output is None:
            (self._output,) = chosen_outputs(self.model, [self._asked], logits.shape[1])
        return self._output

    def _log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        return log_odds(logits, self._number(logits), are_apart=self.model.outputs.are_apart)

    def _is_called(self, logits: torch.Tensor) -> np.ndarray:
        number = self._number(logits)
        if logits.shape[1] == 1 or self.model.outputs.are_apart:
            return (logits[:, number] > 0).cpu().numpy()
        return (logits.argmax(1) == number).cpu().numpy()

    def _parts(self, n: int) -> Iterator[slice]:
        return (slice(start, min(start + self._batch, n)) for start in range(0, n, self._batch))


Mix = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From a layer's output and that of the foil to what the network goes on with."""


def unit_axis(tap: LayerTap) -> int:
    """The axis of a layer's output on which its units lie, the batch counted."""
    if tap.kind == "vector":
        return 1
    return -1 if tap.channels_last or tap.tokens_first else 1


def _keep(name: str, tap: LayerTap, kept: dict[str, torch.Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        # Copied: the network may go on to change its own tensor in place.
        kept[name] = require_rows(tensor, tap, n_rows(tensor, tap)).clone()

    return hook


def _replace(tap: LayerTap, foil: torch.Tensor, mix: Mix) -> Callable[..., Any]:
    n_images = n_rows(foil, tap)

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        return with_first(output, mix(require_rows(first_tensor(output), tap, n_images), foil))

    return hook


def n_rows(tensor: torch.Tensor | None, tap: LayerTap) -> int:
    """Images in a layer's output."""
    if tensor is None or tensor.ndim < 2:
        return 0
    return tensor.shape[1 if tap.tokens_first else 0]
