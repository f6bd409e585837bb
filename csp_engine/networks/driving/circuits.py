"""Which neurons feed which: gradient times activation from one layer to units of the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int, Int32

from csp_engine.errors import InputError
from csp_engine.networks.activations import pooled
from csp_engine.networks.driving.gradients import (
    GradientPass,
    chosen_outputs,
    products,
    require_steady_outputs,
    rows_of_outputs,
)
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.models import TargetModel


@dataclass(frozen=True, slots=True, eq=False)
class Feeding:
    """What chosen units ``i`` of one layer do to chosen units ``j`` of a later one.

    ``effect_cji`` is the mean, over the images of output ``c``, of gradient times activation of
    unit ``i``, where the gradient is that of the pooled activation of unit ``j``.
    """

    source: str
    target: str
    effect_cji: Float32[np.ndarray, "c j i"]


@dataclass(frozen=True, slots=True, eq=False)
class Circuits:
    """Layer ids in the order in which the network runs them, what feeds what, images per output."""

    layers: tuple[str, ...]
    pairs: tuple[Feeding, ...]
    n_image_c: Int32[np.ndarray, " c"]


def circuits(
    model: TargetModel,
    taps: Sequence[LayerTap],
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    unit_ci: Mapping[str, Int[np.ndarray, "c _"]],
    outputs: Sequence[int | str] | None = None,
) -> Circuits:
    """How much the chosen units of each layer feed those of the next layer that they reach.

    For an image of output ``c``: ``sum over positions p of a_i[p] * d pool(a_j) / d a_i[p]``, the
    first-order estimate by which neurons drive outputs, too (Shrikumar et al. 2016), through all
    ways between the two layers. Layers follow one another in the order in which the network runs
    them. A pair is one of a layer and the next one that it reaches, or the last one that reaches
    it: branches that run beside one another are fed by what comes before them and feed what comes
    after, and do not feed one another.

    Args:
        model: a classifier.
        taps: layers without autoencoders, each of a module of its own.
        batches: pixels ``(n, channel, height, width)`` and each image's output number, or None to
            take the output of highest value (among ``outputs``).
        unit_ci: by layer id, the units looked at for each output; the rows follow ``outputs``.
        outputs: numbers or class names, all by default.

    Returns:
        One pair of layers after the other, by target from the first to the last.

    Raises:
        InputError: there is no batch, or what ``influence`` refuses.
    """
    tap_of = {tap.id.module: tap for tap in taps}
    sums: dict[tuple[str, str], torch.Tensor] = {}
    n_image_c: np.ndarray | None = None
    chosen: list[int] = []
    order: list[str] = []
    pairs_of_layers: list[tuple[str, str]] = []
    n_seen = 0
    for pixels, class_n in batches:
        require_steady_outputs(model, pixels)
        step = GradientPass(model, tap_of)
        logits = step.run(pixels)
        if n_image_c is None:
            chosen = chosen_outputs(model, outputs, logits.shape[1])
            n_image_c = np.zeros(len(chosen), np.int64)
            order = list(step.tapped)
            pairs_of_layers = _next_to_one_another(order, _reaching(step.tapped, tap_of))
        fixed = logits.detach()[: len(pixels)]
        row_n, image_n = rows_of_outputs(model, fixed, class_n, chosen, n_seen)
        n_seen += len(pixels)
        n_image_c += np.bincount(row_n.cpu().numpy(), minlength=len(chosen))
        for source, target in pairs_of_layers:
            found = _effects(step.tapped, tap_of[source], tap_of[target], row_n, image_n, unit_ci)
            if found is None:
                continue
            if not found.isfinite().all():
                raise InputError(
                    f"Gradients between {source!r} and {target!r} of {model.name} are not finite; "
                    "leave a layer out with --layer, or build with --circuit-images 0."
                )
            held = sums.setdefault((source, target), found.new_zeros(len(chosen), *found.shape[1:]))
            held.index_add_(0, row_n.cpu(), found)
    if n_image_c is None:
        raise InputError("There is no image to look for circuits with; give at least one batch.")
    share_c = torch.as_tensor(1 / np.maximum(n_image_c, 1))
    pairs = tuple(
        Feeding(
            str(tap_of[source].id),
            str(tap_of[target].id),
            (sum_cji * share_c[:, None, None]).numpy().astype(np.float32),
        )
        for (source, target), sum_cji in sums.items()
    )
    layers = tuple(str(tap_of[name].id) for name in order)
    return Circuits(layers, pairs, n_image_c.astype(np.int32))


def _reaching(
    tapped: Mapping[str, torch.Tensor], tap_of: Mapping[str, LayerTap]
) -> dict[str, list[str]]:
    """For each layer those before it that a gradient comes from, in the order of the network."""
    found: dict[str, list[str]] = {}
    for target, tensor in tapped.items():
        earlier = {name: tap_of[name] for name in list(tapped)[: len(found)]}
        values = pooled(tensor, tap_of[target])
        is_fed = bool(earlier) and values.requires_grad
        found[target] = (
            list(products(values.sum(), tapped, earlier, is_last=False)) if is_fed else []
        )
    return found


def _next_to_one_another(
    order: Sequence[str], reaching: Mapping[str, Sequence[str]]
) -> list[tuple[str, str]]:
    """Each layer with the last one that reaches it, and with the next one that it reaches."""
    kept = {(sources[-1], target) for target, sources in reaching.items() if sources}
    for source in order:
        reached = [target for target in order if source in reaching[target]]
        kept |= {(source, target) for target in reached[:1]}
    return sorted(kept, key=lambda pair: (order.index(pair[1]), order.index(pair[0])))


def _effects(
    tapped: Mapping[str, torch.Tensor],
    source: LayerTap,
    target: LayerTap,
    row_n: torch.Tensor,
    image_n: torch.Tensor,
    unit_ci: Mapping[str, np.ndarray],
) -> torch.Tensor | None:
    """Effect of every image, ``(n, j, i)``; None where no gradient goes from one to the other."""
    device = tapped[source.id.module].device
    of_target = torch.as_tensor(unit_ci[str(target.id)], dtype=torch.long, device=device)[row_n]
    of_source = torch.as_tensor(unit_ci[str(source.id)], dtype=torch.long, device=device)[row_n]
    pooled_nu = pooled(tapped[target.id.module], target)
    found = []
    for j in range(of_target.shape[1]):
        picked = pooled_nu[image_n, of_target[:, j]].sum()
        if not picked.requires_grad or not len(image_n):
            return None
        driven = products(picked, tapped, {source.id.module: source}, is_last=False)
        if not driven:
            return None
        found.append(driven[source.id.module][image_n].gather(1, of_source))
    return torch.stack(found, 1).cpu().double()
