"""What pushes the decisions of a network: towards the class decided for, along directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt16
from torch import nn

from csp_engine.networks.activations import positions_last, require_rows
from csp_engine.networks.intervening.ablation import AblatedRuns, decided
from csp_engine.networks.intervening.pairs import n_rows
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.observing import first_tensor


class PushRuns(AblatedRuns):
    """One network, and what pushes its decisions."""

    def places(
        self, pixels: np.ndarray, module: str, n_each: int, seed: int
    ) -> Float32[np.ndarray, "m u"]:
        """Activations of a layer at random places of images, up to ``n_each`` of every image."""
        tap = self.tap_of[module]
        rng = np.random.default_rng(seed)
        found: list[np.ndarray] = []
        for rows in self._parts(len(pixels)):
            seen: dict[str, torch.Tensor] = {}
            self._logits(pixels[rows], {module: _see(tap, seen)})
            value_nup = seen[""][: rows.stop - rows.start].float().cpu().numpy()
            for each_up in value_nup:
                n_places = each_up.shape[1]
                kept = rng.permutation(n_places)[: min(n_each, n_places)]
                found.append(each_up[:, np.sort(kept)].T)
        return np.concatenate(found).astype(np.float32)

    def pushes(
        self,
        pixels: np.ndarray,
        truth_n: np.ndarray,
        module: str,
        direction_uk: Float32[np.ndarray, "u k"],
    ) -> tuple[Float32[np.ndarray, "n k"], UInt16[np.ndarray, " n"]]:
        """How much each direction pushes every decision, and the class decided for.

        ``sum over places of (a · v) (v · g)``, with a the activation, v the direction and g the
        gradient of the margin: the logit decided for less that of the true class, or of the next
        one where the decision is right. It is the first-order estimate of what projecting v out of
        the layer takes from the margin.

        Raises:
            UnansweredError: for the first image whose logits or gradients are not finite.
        """
        tap = self.tap_of[module]
        direction = torch.as_tensor(np.asarray(direction_uk, np.float32))
        pushes, called = [], []
        for rows in self._parts(len(pixels)):
            truth = torch.tensor(np.asarray(truth_n[rows], np.int64))

            def value(logits: torch.Tensor, truth: torch.Tensor = truth) -> torch.Tensor:
                called.append(decided(logits))
                return margins(logits, truth.to(logits.device))

            activation, gradient = (
                positions_last(each, tap) for each in self._graded(pixels, rows, value)[module]
            )
            along = direction.to(activation.device)
            push_nk = (
                torch.einsum("nup,uk->nkp", activation, along)
                * torch.einsum("nup,uk->nkp", gradient, along)
            ).sum(-1)
            pushes.append(push_nk.cpu().numpy())
        push_nk = np.concatenate(pushes).astype(np.float32)
        self._answered(push_nk.T)
        return push_nk, np.concatenate(called)


def margins(logit_nc: torch.Tensor, truth_n: torch.Tensor) -> torch.Tensor:
    """The logit decided for less that of the true class, or of the next one where that is decided.

    Never below 0. One output is a logit for class 1 against 0.
    """
    if logit_nc.shape[1] == 1:
        logit_nc = torch.cat([torch.zeros_like(logit_nc), logit_nc], dim=1)
    called_n = logit_nc.argmax(1)
    row_n = torch.arange(len(logit_nc), device=logit_nc.device)
    others_nc = logit_nc.detach().clone()
    others_nc[row_n, called_n] = -torch.inf
    against_n = torch.where(called_n == truth_n, others_nc.argmax(1), truth_n)
    return logit_nc[row_n, called_n].float() - logit_nc[row_n, against_n].float()


def _see(tap: LayerTap, seen: dict[str, torch.Tensor]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        seen[""] = positions_last(require_rows(tensor, tap, n_rows(tensor, tap)), tap).clone()

    return hook
