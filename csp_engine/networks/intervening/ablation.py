"""A network with part of it taken out: units held at a value, directions projected out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt16
from torch import nn

from csp_engine.errors import InputError
from csp_engine.networks.activations import positions_last, require_rows
from csp_engine.networks.driving.gradients import with_first
from csp_engine.networks.intervening.pairs import PairRuns, Part, n_rows, unit_axis
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.observing import first_tensor


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Part of the layer of a module, and the activations ``at_u`` that it is held at.

    Units get their value of ``at_u`` at every position. Of a direction v, the component along it
    becomes that of ``at_u``: ``a + ((at - a) · v) v``; at 0 this projects the direction out.
    """

    module: str
    part: Part
    at_u: Float32[np.ndarray, " u"]


class AblatedRuns(PairRuns):
    """One network and one of its outputs, run with parts held still.

    The network is as it was before after every call, whatever happened in it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._can_repeat: dict[frozenset[str], bool] = {}

    def means(self, pixels: np.ndarray) -> dict[str, Float32[np.ndarray, " u"]]:
        """By module: the mean activation of every unit over images and positions.

        Raises:
            InputError: if an activation is not finite.
        """
        sums: dict[str, np.ndarray] = {}
        for rows in self._parts(len(pixels)):
            seen: dict[str, torch.Tensor] = {}
            n_images = rows.stop - rows.start
            hooks = {name: _mean(name, tap, seen, n_images) for name, tap in self.tap_of.items()}
            self._logits(pixels[rows], hooks)
            for name, sum_u in seen.items():
                if not sum_u.isfinite().all():
                    raise InputError(
                        f"Layer {name!r} of {self.model.name} gives values that are not finite; "
                        "check its weights and preprocessing, or leave it out with --layer."
                    )
                sums[name] = sums.get(name, 0.0) + sum_u.cpu().numpy().astype(np.float64)
        return _over(sums, len(pixels))

    def influences(self, pixels: np.ndarray) -> dict[str, Float32[np.ndarray, " u"]]:
        """By module: the mean size of gradient × activation of every unit, summed over positions.

        The gradient is that of the log-odds of the output.

        Raises:
            UnansweredError: for the first image whose gradients are not finite.
        """
        sums: dict[str, np.ndarray] = {}
        for rows in self._parts(len(pixels)):
            for name, (activation, grad) in self._graded(pixels, rows).items():
                each_nu = positions_last(activation * grad, self.tap_of[name]).sum(-1).abs()
                each_nu = each_nu.cpu().numpy().astype(np.float64)
                self._answered(each_nu.T, f"in the gradient at layer {name!r}", rows.start)
                sums[name] = sums.get(name, 0.0) + each_nu.sum(0)
        return _over(sums, len(pixels))

    def ablated(
        self,
        pixels: np.ndarray,
        trials: Sequence[Sequence[Cut]],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[Float32[np.ndarray, "t n"], UInt16[np.ndarray, "t n"]]:
        """Log-odds of the output and the class decided for, of every trial and image.

        A trial is any number of cuts, made together; none leaves the network as it is. What comes
        before the first layer that is cut runs once for all trials, wherever that changes nothing.
        With one output the class is 1 where its logit is above 0, and 0 otherwise.

        Args:
            pixels: ``(n, channel, height, width)``.
            trials: what is held still in each.
            progress: called with images done and all images.

        Raises:
            UnansweredError: for the first image whose log-odds are not finite.
            InputError: if a layer cannot be cut, or the network is no classifier.
        """
        hooked = [self._hooks(cuts) for cuts in trials]
        cut = {cut.module for cuts in trials for cut in cuts}
        scores, classes = [], []
        for rows in self._parts(len(pixels)):
            kept = self._kept_before(pixels[rows], cut) if len(trials) > 1 else {}
            found = []
            with repeating(self.model.network, kept):
                for hooks in hooked:
                    found.append(self._logits(pixels[rows], hooks))
            scores.append(np.stack([self._log_odds(each).cpu().numpy() for each in found]))
            classes.append(np.stack([decided(each) for each in found]))
            progress(rows.stop, len(pixels))
        if not scores:
            nothing = (len(trials), 0)
            return np.zeros(nothing, np.float32), np.zeros(nothing, np.uint16)
        score_tn = np.concatenate(scores, 1)
        # Where the network as it is has no answer, nothing that is cut is to blame.
        for at in sorted(range(len(hooked)), key=lambda at: len(hooked[at])):
            self._answered(score_tn[at], "with part of it held still" if hooked[at] else "")
        return score_tn, np.concatenate(classes, 1)

    def _hooks(self, cuts: Sequence[Cut]) -> dict[str, Callable[..., Any]]:
        steps: dict[str, list[tuple[Any, torch.Tensor]]] = {}
        for cut in cuts:
            if cut.module not in self.tap_of:
                raise InputError(
                    f"Layer {cut.module!r} cannot be cut; it can be in {', '.join(self.tap_of)}."
                )
            at_u = torch.as_tensor(np.asarray(cut.at_u, np.float32))
            mix = self._mixing(cut.part, self.tap_of[cut.module])
            steps.setdefault(cut.module, []).append((mix, at_u))
        return {name: _hold(self.tap_of[name], each) for name, each in steps.items()}

    def _kept_before(self, pixels: np.ndarray, cut: set[str]) -> dict[nn.Module, torch.Tensor]:
        """What modules gave that had finished when the first of some layers had.

        Nothing where running the rest alone does not give the same outputs, as where a network
        does its work outside of its modules.
        """
        which = frozenset(cut)
        if not cut or not self._can_repeat.get(which, True):
            return {}
        held, calls, logits = self._recorded(pixels, cut)
        modules = dict(self.model.network.named_modules())
        kept = {
            modules[name]: tensor
            for name, tensor in held.items()
            if calls[name] == 1 and name and _can_stand_in(modules[name])
        }
        if which not in self._can_repeat:
            with repeating(self.model.network, kept):
                self._can_repeat[which] = bool(torch.equal(self._logits(pixels, {}), logits))
        return kept if self._can_repeat[which] else {}

    def _recorded(
        self, pixels: np.ndarray, cut: set[str]
    ) -> tuple[dict[str, torch.Tensor], Counter[str], torch.Tensor]:
        held: dict[str, torch.Tensor] = {}
        calls: Counter[str] = Counter()
        is_over = False

        def listen(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                nonlocal is_over
                calls[name] += 1
                if is_over:
                    return
                if isinstance(output, torch.Tensor):
                    for inner in [each for each in held if each.startswith(f"{name}.")]:
                        del held[inner]
                    held[name] = output.clone()  # the network may go on to change its own
                is_over = name in cut

            return hook

        names = [name for name, _ in self.model.network.named_modules() if name]
        logits = self._logits(pixels, {name: listen(name) for name in names})
        return held, calls, logits


@contextmanager
def repeating(network: nn.Module, kept: Mapping[nn.Module, torch.Tensor]) -> Generator[None]:
    """Modules give again what they gave, without working; they are as before on the way out."""
    try:
        for module, tensor in kept.items():
            module.forward = _giver(tensor)
        yield
    finally:
        for module in kept:
            vars(module).pop("forward", None)


def _giver(tensor: torch.Tensor) -> Callable[..., torch.Tensor]:
    def forward(*args: Any, **kwargs: Any) -> torch.Tensor:
        return tensor.clone()

    return forward


def _can_stand_in(module: nn.Module) -> bool:
    """Whether a module's work can be replaced and put back: not where something else did so."""
    return "forward" not in vars(module) and not isinstance(module, torch.jit.ScriptModule)


def _over(sums: Mapping[str, np.ndarray], n: int) -> dict[str, Float32[np.ndarray, " u"]]:
    return {name: (each / max(n, 1)).astype(np.float32) for name, each in sums.items()}


def decided(logit_nc: torch.Tensor) -> UInt16[np.ndarray, " n"]:
    """The class decided for; with one output 1 where its logit is above 0."""
    if logit_nc.shape[1] == 1:
        return (logit_nc[:, 0] > 0).cpu().numpy().astype(np.uint16)
    return logit_nc.argmax(1).cpu().numpy().astype(np.uint16)


def _mean(
    name: str, tap: LayerTap, seen: dict[str, torch.Tensor], n_images: int
) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        values = positions_last(require_rows(tensor, tap, n_rows(tensor, tap)), tap)
        seen[name] = values[:n_images].float().mean(-1).sum(0)

    return hook


def _hold(tap: LayerTap, steps: Sequence[tuple[Any, torch.Tensor]]) -> Callable[..., Any]:
    axis = unit_axis(tap)

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        tensor = first_tensor(output)
        here = require_rows(tensor, tap, n_rows(tensor, tap))
        shape = [1] * here.ndim
        shape[axis] = -1
        for mix, at_u in steps:
            at = at_u.to(here.device, here.dtype).reshape(shape)
            here = mix(here, at.expand_as(here))
        return with_first(output, here)

    return hook
