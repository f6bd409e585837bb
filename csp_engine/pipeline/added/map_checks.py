"""Put into a finished bundle how well maps of a layer point at things whose place is known."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int
from PIL import Image

from csp_engine.bundle import Bundle, BundleWriter, stage_key
from csp_engine.bundle.checks.pointing import FIGURES
from csp_engine.bundle.kinds import MAPS, NEURONS
from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.evaluation.faithfulness.localisation import Pointed, pointed
from csp_engine.evaluation.paired_effects import IN_HALVES, LEAST_GROUPS, halves
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.attributing.geometry import Frame, frame_of, largest, onto_picture
from csp_engine.networks.attributing.methods import Value
from csp_engine.networks.attributing.neuron_maps import MAPS as EVERY_MAP
from csp_engine.networks.attributing.neuron_maps import OWN, NeuronMaps, require_map
from csp_engine.networks.attributing.removing import removal_gap
from csp_engine.networks.layers import LayerTap
from csp_engine.networks.models import TargetModel
from csp_engine.networks.random_weights import with_random_weights
from csp_engine.pasting.pairs import ImagePairs, mask_of
from csp_engine.pipeline.mapping.neuron_pixels import evidence_pixels
from csp_engine.pipeline.passing.image_pass import Target
from csp_engine.reading.groups import by_turns, group_numbers, names_of_groups
from csp_engine.types import Progress, silent

log = logging.getLogger(__name__)

N_UNITS = 2
"""Neurons of a layer whose maps are tried on an artefact: those that answer to it most."""
N_PHOTOGRAPHS = 32
"""Photographs of an artefact on which maps are tried, at most."""
N_CONTROLS = 3
"""Other neurons, and networks with random weights, of which the mean counts."""
LEAST_ANSWER = 1.0
"""A neuron answers to an artefact if its mean change is so many of its deviations."""
N_RANDOM = 8
"""Random maps of each photograph, of which the mean counts."""
N_EVIDENCE = 16
"""Exemplars, and contrast images, that COCOA compares."""
SIDE = 96
"""Pixels of the longer side at which maps and masks are compared."""
TOLERANCE = 1 / 15
"""How far beside the mask a place may lie and still be a hit, as a share of that side."""


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """Photographs with one artefact, their masks, and what the layer makes of all pairs."""

    artefact: str
    pixels: Float32[np.ndarray, "n channel height width"]
    masks: list[Bool[np.ndarray, "h w"]]
    frames: list[Frame]
    group_n: Int[np.ndarray, " n"]
    answers: dict[str, np.ndarray]
    """By layer, how strongly each unit answers on the other half: mean change over deviation."""


def add_map_checks(
    path: Path,
    target: Target,
    pairs: ImagePairs,
    *,
    maps: Sequence[str] = EVERY_MAP,
    seed: int = 0,
    progress: Progress = silent,
) -> Bundle:
    """Check maps of a network's layers on photographs where one thing was added at a known place.

    Half of the photographs, by group (lesion, patient), choose, for each artefact and layer, the
    neurons that answer to it most. On the others their maps are compared with the exact mask,
    beside four controls: a random map, a random place, another neuron of the layer, and the same
    network with random weights.

    Args:
        path: a finished bundle, changed in place; earlier checks of these layers are replaced.
        target: one of its networks, with the layers of interest.
        pairs: photographs with and without artefacts.
        maps: which maps, of ``neuron_maps.MAPS``.
        seed: decides halves and everything random.
        progress: called with what is done.

    Raises:
        InputError: if the network is not the bundle's, there is no such map, or no artefact has
            pairs of enough groups, half to choose and half to check.
        BundleError: if another process is writing the bundle.
    """
    model = target.model
    described = Bundle.open(path).manifest.inputs.get("models", {})
    if described.get(model.name, {}).get("fingerprint") != model.fingerprint:
        raise InputError(
            f"{model.name} is not the network that {path.name} was made of; its networks are "
            f"{', '.join(described)}. Give the same weights and preprocessing."
        )
    for name in maps:
        require_map(name)
    shown: list[_Shown] | None = None
    with BundleWriter(path) as writer:
        for tap in target.taps:
            stage, identity = _identity(writer, model, tap, pairs, maps, seed)
            if writer.is_fresh(stage, stage_key(stage, **identity)):
                continue
            if shown is None:
                refused: list[str] = []
                shown = list(_photographs(target, pairs, seed, refused, progress))
                if not shown:
                    raise InputError(
                        f"{pairs.name}: {'; '.join(refused)}. Checks need pairs of {IN_HALVES} "
                        "groups (lesions, patients or photographs) that can be read and show where "
                        "it is, half to choose neurons and half to check their maps; give more "
                        "with --pairs."
                    )
                for each in refused:
                    log.warning("%s, and %d are needed; it is left out.", each, IN_HALVES)
            bundle = Bundle.open(path)
            rows, units = _checked(bundle, model, tap, shown, maps, seed, progress)
            with writer.stage(stage, **identity) as folder:
                folder.table("photographs", rows)
                folder.table("units", units)
                folder.facts.update(images=pairs.name, n_artefacts=int(units["artefact"].nunique()))
    return Bundle.open(path)


def _identity(
    writer: BundleWriter,
    model: TargetModel,
    tap: LayerTap,
    pairs: ImagePairs,
    maps: Sequence[str],
    seed: int,
) -> tuple[str, dict[str, Any]]:
    stage, need = MAPS.name(model.name, str(tap.id)), NEURONS.name(model.name, str(tap.id))
    if need not in writer.manifest.stages:
        raise InputError(f"The bundle has no layer {tap.id} of {model.name}.")
    return stage, {
        "version": MAPS.version,
        "params": {
            "maps": list(maps),
            "seed": seed,
            "n_units": N_UNITS,
            "n_photographs": N_PHOTOGRAPHS,
            "n_evidence": N_EVIDENCE,
            "n_controls": N_CONTROLS,
            "n_random": N_RANDOM,
        },
        "needs": {need: writer.manifest.stages[need].key},
        "inputs": {"model": model.fingerprint, "pairs": pairs.fingerprint},
    }


def _photographs(
    target: Target, pairs: ImagePairs, seed: int, refused: list[str], progress: Progress
) -> Iterator[_Shown]:
    """Of each artefact: what half of its pairs says of units, and photographs of the other half.

    Of an artefact whose pairs are of too few groups, ``refused`` gets a clause instead.
    """
    model = target.model
    group_n = group_numbers(names_of_groups(pairs.table))
    artefact_n = pairs.table["artefact"].to_numpy(object)
    for artefact in dict.fromkeys(artefact_n):
        row_m = by_turns(np.flatnonzero(artefact_n == artefact), group_n)
        is_choosing_m = halves(group_n[row_m], seed)
        changes: dict[str, list[np.ndarray]] = {str(tap.id): [] for tap in target.taps}
        pixels, masks, frames, kept = [], [], [], []
        chose: list[int] = []
        with ActivationRecorder(model, target.taps) as recorder:
            for at, row in enumerate(row_m):
                progress(f"photographs with {artefact}", at + 1, len(row_m))
                if not is_choosing_m[at] and len(kept) == N_PHOTOGRAPHS:
                    continue
                try:
                    without, with_it, _ = pairs.images(int(row))
                    mask_hw = mask_of(pairs, int(row))
                except UnreadableImageError as error:
                    log.warning("%s is left out: %s", pairs.table["file"].iloc[row], error)
                    continue
                both = np.stack([model.preprocess(without), model.preprocess(with_it)])
                if is_choosing_m[at]:
                    chose.append(int(group_n[row]))
                    for layer, act_2u in recorder(both).items():
                        changes[layer].append(act_2u[1] - act_2u[0])
                    continue
                frame, small_hw = _compared(model, with_it, mask_hw)
                if small_hw.any():
                    kept.append(int(group_n[row]))
                    pixels.append(both[1])
                    masks.append(small_hw)
                    frames.append(frame)
        of_each = len(set(chose)), len(set(kept))
        if min(of_each) < LEAST_GROUPS:
            n = sum(of_each)
            refused.append(f"{artefact} has pairs of {n} group{'s' * (n != 1)}")
            continue
        answers = {layer: _answer(np.stack(change)) for layer, change in changes.items()}
        yield _Shown(artefact, np.stack(pixels), masks, frames, np.array(kept), answers)


def _answer(change_mu: np.ndarray) -> np.ndarray:
    """Mean change of every unit in units of its deviation over photographs."""
    deviation_u = change_mu.std(axis=0)
    typical = float(np.median(deviation_u[deviation_u > 0])) if (deviation_u > 0).any() else 1.0
    return change_mu.mean(axis=0) / np.maximum(deviation_u, 1e-3 * typical)


def _compared(
    model: TargetModel, picture: Image.Image, mask_hw: np.ndarray
) -> tuple[Frame, np.ndarray]:
    """Where the input lies in a small copy of a picture, and the mask at its size, as seen."""
    factor = SIDE / max(picture.size)
    width, height = (max(2, round(side * factor)) for side in picture.size)
    frame = frame_of(model.preprocess, *picture.size)
    small = Frame(
        frame.left * width / picture.width, frame.top * height / picture.height,
        frame.right * width / picture.width, frame.bottom * height / picture.height,
        width, height,
    )  # fmt: skip
    grey = Image.fromarray(mask_hw.astype(np.uint8) * 255)
    small_hw = np.asarray(grey.resize((width, height), Image.Resampling.BOX)) >= 128
    _, is_seen = onto_picture(np.zeros((1, 1), np.float32), small)
    return small, small_hw & is_seen


def _checked(
    bundle: Bundle,
    model: TargetModel,
    tap: LayerTap,
    shown: Sequence[_Shown],
    maps: Sequence[str],
    seed: int,
    progress: Progress,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row for each artefact, map and photograph; and which neurons were tried."""
    layer = str(tap.id)
    rng = np.random.default_rng(seed)
    random = [with_random_weights(model, seed + i) for i in range(N_CONTROLS)]
    rows, units = [], []
    n_done, n_all = 0, len(shown) * N_UNITS * len(maps)
    for one in shown:
        strength_u = one.answers[layer]
        chosen = np.argsort(-strength_u, kind="stable")[:N_UNITS]
        chosen = [int(unit) for unit in chosen if strength_u[unit] >= LEAST_ANSWER]
        for unit in chosen:
            units.append((one.artefact, unit, float(strength_u[unit])))
        others = rng.choice(len(strength_u), N_CONTROLS)
        evidence = {
            int(unit): evidence_pixels(bundle, model, layer, int(unit), N_EVIDENCE)
            for unit in [*chosen, *others]
        }
        for name in maps:
            tried = []
            for unit in chosen:
                tried.append(_tried(model, random, tap, one, name, unit, others, evidence, seed))
                n_done += 1
                progress(f"maps of {layer}", n_done, n_all)
            tried = [each for each in tried if each is not None]
            if not tried:
                continue
            for at, group in enumerate(one.group_n):
                figures = {k: float(np.mean([each[k][at] for each in tried])) for k in tried[0]}
                rows.append({"artefact": one.artefact, "map": name, "group": group,
                             **figures})  # fmt: skip
    progress(f"maps of {layer}", n_all, n_all)
    return _tables(rows, units)


def _tables(rows: list[dict[str, Any]], units: list[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = ["artefact", "map", "group", *FIGURES]
    table = pd.DataFrame(rows, columns=pd.Index(names)).astype(
        {"artefact": "string", "map": "string", "group": "int32",
         **dict.fromkeys(FIGURES, "float32")}
    )  # fmt: skip
    tried = pd.DataFrame(units, columns=pd.Index(["artefact", "unit", "answer"]))
    return table, tried.astype({"artefact": "string", "unit": "int32", "answer": "float32"})


def _tried(
    model: TargetModel,
    random: Sequence[TargetModel],
    tap: LayerTap,
    one: _Shown,
    name: str,
    unit: int,
    others: np.ndarray,
    evidence: dict[int, tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> dict[str, np.ndarray] | None:
    """Figures of one neuron's maps on every photograph; None where the layer has no such map."""
    try:
        own = NeuronMaps(model, tap, unit, *evidence[unit])
        found = own.of(one.pixels, name, seed=seed)
        controls = {
            "other_": [
                NeuronMaps(model, tap, int(other), *evidence[int(other)]).of(
                    one.pixels, name, seed=seed
                )
                for other in others
            ],
            "weights_": [
                NeuronMaps(network, tap, unit, *evidence[unit]).of(one.pixels, name, seed=seed)
                for network in random
            ],
        }
    except InputError as error:
        log.info("no %s map of %s: %s", name, tap.id, error)
        return None
    controls["random_"] = list(_random_maps(found.shape, seed))
    compared = _compare(found, one)
    figures = {
        name: np.array([getattr(each, name) for each in compared])
        for name in ("base", "hit", "overlap")
    }
    for version, several in controls.items():
        drawn = [_compare(map_nhw, one) for map_nhw in several]
        for figure in ("hit", "overlap"):
            figures[f"{version}{figure}"] = np.mean(
                [[getattr(each, figure) for each in maps] for maps in drawn], axis=0
            )
    value: Value = _activation_of(own) if name == OWN else own.similarity()
    for version, map_nhw in (("", found), ("random_", controls["random_"][0])):
        figures[f"{version}removal"] = removal_gap(value, one.pixels, map_nhw, model.device)
    return figures


def _compare(map_nhw: np.ndarray, one: _Shown) -> list[Pointed]:
    return [
        pointed(onto_picture(map_hw, frame)[0], mask_hw, largest(map_hw, frame), TOLERANCE * SIDE)
        for map_hw, frame, mask_hw in zip(map_nhw, one.frames, one.masks, strict=True)
    ]


def _activation_of(neuron: NeuronMaps) -> Value:
    space = neuron.space()
    return lambda pixels: space(pixels)[:, neuron.unit]


def _random_maps(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Noise ``(maps, n, h, w)`` on as many places as the maps have, at most 16 along a side."""
    coarse = (N_RANDOM, shape[0], *(min(side, 16) for side in shape[1:]))
    return np.random.default_rng(seed).random(coarse, np.float32)
