"""From the parts of the demo to its bundle, with the truth about every neuron beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine import pipeline
from csp_engine.bundle import Bundle
from csp_engine.captioners import load_captioner
from csp_engine.demo.shipping.judging import judge_labels
from csp_engine.demo.shipping.parts import BUNDLE, Plan, World
from csp_engine.demo.simulator import captions, render
from csp_engine.demo.simulator.cases import CONCEPTS, concept_table, draw_cases
from csp_engine.demo.simulator.pairs import SimulatedPairs
from csp_engine.demo.simulator.slices import N_CHOOSING, N_SLICE, simulated_slices
from csp_engine.demo.training import classifiers, planted
from csp_engine.demo.training.pictures import Pictures
from csp_engine.encoders import load_encoder
from csp_engine.evaluation.paired_effects import IN_HALVES
from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import TargetModel
from csp_engine.pipeline.added.fixing import Trials, try_fix
from csp_engine.pipeline.factoring.finding import find_factors
from csp_engine.pipeline.factoring.keeping import add_factors
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.listing import read_probe_set
from csp_engine.types import Progress
from csp_engine.views.audit import fixes
from csp_engine.words.vocabularies import read_vocabulary

NOTICE = "Simulated images; research use; not a medical device."
HELD_OUT_LESSON = 7

METHODS = ("csp_plus", "csp", "semanticlens", "clip_dissect")
"""Label methods of the demo, the one that pages show first in front."""


def held_out(world: World) -> Pictures:
    """Photographs that no network learnt from and no bundle shows."""
    return world.pictures("probe", world.plan.n_held_out, HELD_OUT_LESSON, render.SIDE)


def held_out_cases(plan: Plan) -> pd.DataFrame:
    """The cases behind ``held_out``."""
    return draw_cases("probe", plan.n_held_out, plan.lesson_seed(HELD_OUT_LESSON))


def load_demo_encoder(folder: Path) -> Any:
    """The demo encoder, named so that a bundle beside it finds it."""
    loaded = load_encoder(f"open_clip/{folder.resolve()}")
    loaded.spec = f"open_clip/./{folder.name}"
    return loaded


def load_demo_captioner(folder: Path) -> Any:
    """The demo captioner, named so that a bundle beside it finds it."""
    loaded = load_captioner(folder)
    loaded.spec = f"./{folder.name}"
    return loaded


N_PAIRS = 200
PHOTOGRAPHS_PER_PAIR = 6
"""A small demo has fewer pairs: one for so many photographs of the probe set."""
PHOTOGRAPHS_PER_MAP = 55
"""Maps are checked on one pair for so many; on none in a small demo."""
MAPPED = ("colour patch", "dark corners", "ruler", "ink marks", "hair", "gel bubbles")
"""Artefacts that maps are checked on."""
CHECKED = ("activation", "gradient")
"""Maps that are checked: those that pages show."""
AUDITED = "melanoma"
"""The output whose score is followed where artefacts are switched on."""


N_FACTORED = 100
"""Photographs of each slice on which factors are ranked, and others that are reported on."""
SHORTCUT = "colour patch"
"""The planted shortcut whose carriers are held still."""


def blocks(sources: list[Any], size: int = 100) -> Iterator[list[Image.Image]]:
    """Images of files or arrays, some at a time."""
    for i in range(0, len(sources), size):
        yield [
            Image.open(source).convert("RGB")
            if isinstance(source, Path)
            else Image.fromarray(source)
            for source in sources[i : i + size]
        ]


def demo_targets(folder: Path) -> dict[str, tuple[TargetModel, tuple[str, ...]]]:
    """The three target models of a folder of parts, and the layers that are browsed."""
    found: dict[str, tuple[TargetModel, tuple[str, ...]]] = {
        name: (classifiers.target_model(folder / f"{name}.safetensors", name), classifiers.LAYERS)
        for name in classifiers.MODELS
    }
    found["planted"] = (planted.target_model(folder / "planted"), (f"{planted.LAYER}@none",))
    return found


def build_bundle(world: World) -> None:
    """Build or complete the bundle, then add what is known of its neurons and networks."""
    plan = world.plan
    targets = demo_targets(world.folder)
    taps = {name: tuple(select_layers(model, list(layers)))
            for name, (model, layers) in targets.items()}  # fmt: skip
    request = pipeline.BuildRequest(
        out=world.path(BUNDLE),
        probe=read_probe_set(world.path("probe") / "probe.csv"),
        targets=tuple(pipeline.Target(targets[name][0], taps[name]) for name in targets),
        encoder=load_demo_encoder(world.path("encoder")),
        captioner=load_demo_captioner(world.path("captioner")),
        vocabulary=read_vocabulary([str(world.path("vocabulary.txt"))]),
        recipe=Recipe(
            methods=METHODS,
            n_exemplars=plan.n_exemplars,
            n_score=min(30, plan.n_exemplars),
            n_partners=plan.n_partners,
            n_labels=plan.n_labels,
            seed=plan.seed,
        ),
        thumbnail_side=plan.thumbnail_side,
        notice=NOTICE,
        n_circuit_images=64,
        is_quick=False,  # tests compare the demo with what it was
    )
    pipeline.build(request, world.progress)
    held = held_out(world)
    concepts = concept_table(held.cases)
    truth = {}
    for name, (model, _) in targets.items():
        found = activations_of(model, taps[name], held.image_nhwc, world.progress)
        truth.update({(name, layer): act_un for layer, act_un in found.items()})
    images = (
        f"{plan.n_held_out} simulated photographs, scenario 'probe', not in the probe set and not "
        "trained on"
    )
    pipeline.add_truth(
        world.path(BUNDLE),
        truth,
        concepts.to_numpy(bool),
        list(concepts),
        {name: captions.WORDINGS[name] + captions.HELD_OUT[name] for name in CONCEPTS},
        {
            "images": images,
            "truth": "controls of the simulator",
            "render_version": render.VERSION,
        },
        kinds={name: kind for name, (kind, _) in CONCEPTS.items()},
        planted={("planted", f"{planted.LAYER}@none"): planted.read_units(world.path("planted"))},
        progress=world.progress,
    )
    judge_labels(world, held, truth, images)
    pairs = SimulatedPairs(min(N_PAIRS, plan.n_probe // PHOTOGRAPHS_PER_PAIR), plan.seed)
    for name in classifiers.MODELS:
        pipeline.add_interventions(
            world.path(BUNDLE),
            pipeline.Target(targets[name][0], taps[name]),
            pairs,
            AUDITED,
            seed=plan.seed,
            progress=world.progress,
        )
    _fix(world, targets, taps)
    _factors(world, targets, taps)
    n_mapped = plan.n_probe // PHOTOGRAPHS_PER_MAP
    if n_mapped >= IN_HALVES:
        marked = SimulatedPairs(n_mapped, plan.seed, MAPPED)
        for name in classifiers.MODELS:
            pipeline.add_map_checks(
                world.path(BUNDLE),
                pipeline.Target(targets[name][0], taps[name]),
                marked,
                maps=CHECKED,
                seed=plan.seed,
                progress=world.progress,
            )
    slices = pd.read_csv(world.path("slices.csv"))
    pipeline.add_performance(
        world.path(BUNDLE),
        {
            str(name): rows.drop(columns="model")
            for name, rows in slices.groupby("model", sort=False)
        },
    )


def _fix(
    world: World,
    targets: dict[str, tuple[TargetModel, tuple[str, ...]]],
    taps: dict[str, tuple[Any, ...]],
) -> None:
    """Hold still what carries the planted shortcut.

    A demo that is too small to have learnt anything has nothing to fix.
    """
    plan = world.plan
    if plan.n_slice < N_SLICE:
        return
    found = Bundle.open(world.path(BUNDLE))
    biased, retrained = (
        pipeline.Target(targets[name][0], taps[name]) for name in classifiers.MODELS
    )
    shots = simulated_slices(N_CHOOSING, plan.n_slice, plan.seed)
    trials = Trials(biased, shots, AUDITED, progress=world.progress)
    own = fixes.carriers(found, biased.model.name, SHORTCUT)
    if own is None:
        return
    stored = try_fix(
        trials, [own], "zero", chosen_on=fixes.on_pairs(found, biased.model.name),
        beside=[retrained], seed=plan.seed, progress=world.progress,
    )  # fmt: skip
    name = f"carriers of {SHORTCUT}"
    pipeline.add_fix(world.path(BUNDLE), biased.model.name, name, stored)


def _factors(
    world: World,
    targets: dict[str, tuple[TargetModel, tuple[str, ...]]],
    taps: dict[str, tuple[Any, ...]],
) -> None:
    """What pushes wrong decisions of both classifiers; a small demo has too few of them."""
    plan = world.plan
    if plan.n_slice < N_SLICE:
        return
    shots = simulated_slices(N_FACTORED, N_FACTORED, plan.seed)
    for name in classifiers.MODELS:
        first = taps[name][:1]
        target = pipeline.Target(targets[name][0], first)
        trials = Trials(target, shots, AUDITED, progress=world.progress)
        (layer,) = trials.module_of
        stored = find_factors(trials, layer, seed=plan.seed)
        add_factors(world.path(BUNDLE), name, layer, stored, plan.seed)


def activations_of(
    model: TargetModel, taps: tuple[Any, ...], image_nhwc: np.ndarray, progress: Progress
) -> dict[str, np.ndarray]:
    """Pooled activations of some layers on pictures, ``(u, n)`` by layer id."""
    parts: dict[str, list[np.ndarray]] = {str(tap.id): [] for tap in taps}
    done = 0
    with ActivationRecorder(model, taps) as recorder:
        for block in blocks(list(image_nhwc)):
            for layer, act_nu in recorder(np.stack([model.preprocess(i) for i in block])).items():
                parts[layer].append(act_nu)
            done += len(block)
            progress(f"held-out images ({model.name})", done, len(image_nhwc))
    return {layer: np.concatenate(found).T for layer, found in parts.items()}
