"""All parts of the demo, in order, each made once: ``csp demo build``."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from csp_engine.cells import csv_text
from csp_engine.demo.shipping.adopting import adopt_parts
from csp_engine.demo.shipping.bundling import (
    blocks,
    build_bundle,
    held_out,
    held_out_cases,
    load_demo_encoder,
)
from csp_engine.demo.shipping.parts import FULL, Plan, World, sole_builder
from csp_engine.demo.shipping.quality import quality
from csp_engine.demo.simulator import captions
from csp_engine.demo.simulator.cases import concept_table, draw_cases
from csp_engine.demo.simulator.drawing import draw
from csp_engine.demo.simulator.photographs import shares_of, strengths
from csp_engine.demo.training import captioner, classifiers, encoder, planted
from csp_engine.demo.training.pictures import Pictures, embed_pictures
from csp_engine.demo.training.steps import keep_freed_memory
from csp_engine.encoders.threads import threads
from csp_engine.types import Progress, silent

PROBE = "probe"
"""The scenario of the shipped probe set, and the part of the work folder that holds it."""

N_THREADS = 2


def probe_cases(plan: Plan) -> pd.DataFrame:
    """The cases of the shipped probe set."""
    return draw_cases(PROBE, plan.n_probe, plan.seed)


def build_world(
    folder: Path, plan: Plan = FULL, progress: Progress = silent, parts_of: Path | None = None
) -> World:
    """Make every part that is missing, and the bundle.

    Args:
        folder: the work folder.
        plan: how much of everything.
        progress: called with what is done.
        parts_of: a finished demo with the same settings; its networks are taken, none is trained.

    Raises:
        InputError: if the folder cannot be used, another process is building in it, or the other
            demo was made with other settings.
    """
    keep_freed_memory()
    with sole_builder(folder), one_order_of_sums():
        world = World(folder, plan, progress)
        if parts_of is not None:
            adopt_parts(world, parts_of)
        world.make(PROBE, partial(_write_probe, world))
        world.make("encoder", partial(_write_encoder, world))
        for number, name in enumerate(classifiers.MODELS):
            world.make(f"{name}.safetensors", partial(_write_classifier, world, name, number))
        world.make("slices.csv", partial(_write_slices, world))
        world.make("captioner", partial(_write_captioner, world))
        world.make("planted", partial(_write_planted, world))
        world.make("vocabulary.txt", _write_vocabulary)
        build_bundle(world)
        world.make("quality.json", partial(_write_quality, world))
    return world


def one_order_of_sums() -> AbstractContextManager[None]:
    """As many threads whatever the machine, so that sums run in the same order everywhere."""
    return threads(N_THREADS)


def _lessons(world: World) -> Pictures:
    """What the encoder and the captioner learn from."""
    return world.pictures("words", world.plan.n_words, 1, encoder.SIDE)


def _write_probe(world: World, target: Path) -> None:
    draw(target, PROBE, world.plan.n_probe, world.plan.seed, progress=world.progress)


def _write_encoder(world: World, target: Path) -> None:
    encoder.train_encoder(
        target,
        _lessons(world),
        seed=world.plan.seed,
        n_steps=world.plan.encoder_steps,
        checkpoint=world.checkpoint("encoder"),
        progress=world.progress,
    )


def _write_classifier(world: World, name: str, number: int, target: Path) -> None:
    scenario = classifiers.MODELS[name]
    classifiers.train_classifier(
        target,
        world.pictures(scenario, world.plan.n_lessons, 2 + number, classifiers.SIDE),
        seed=world.plan.seed,
        n_steps=world.plan.classifier_steps,
        checkpoint=world.checkpoint(name),
        progress=world.progress,
    )


def _write_slices(world: World, target: Path) -> None:
    slices = {
        name: world.pictures(scenario, world.plan.n_slice, 4 + i, classifiers.SIDE)
        for i, (name, scenario) in enumerate(classifiers.SLICES.items())
    }
    tables = []
    for name in classifiers.MODELS:
        network = classifiers.load_network(world.path(f"{name}.safetensors"))
        tables.append(classifiers.accuracy_by_slice(network, slices).assign(model=name))
    text = csv_text(pd.concat(tables, ignore_index=True))
    target.write_text(text, encoding="utf-8", newline="")


def _write_captioner(world: World, target: Path) -> None:
    loaded = load_demo_encoder(world.path("encoder"))
    lessons = _lessons(world)
    captioner.train_captioner(
        target,
        embed_pictures(loaded, lessons.image_nhwc),
        concept_table(lessons.cases).to_numpy(bool),
        captions.WORDINGS,
        encoder_fingerprint=loaded.fingerprint,
        seed=world.plan.seed,
        n_steps=world.plan.captioner_steps,
        progress=world.progress,
    )


def _write_vocabulary(target: Path) -> None:
    head = (
        "# Words of simulated dermoscopy: wordings of every concept, and words of other worlds.\n"
    )
    target.write_text(head + "\n".join(captions.vocabulary()) + "\n", encoding="utf-8")


def _write_planted(world: World, target: Path) -> None:
    """Units that read the record of the probe set and of the held-out photographs."""
    probe = pd.read_csv(world.path("probe") / "probe.csv")
    held = held_out(world)
    shares = shares_of(held.cases, world.progress)
    shown = classifiers.pixel_preprocess()
    files = [world.path("probe") / file for file in probe["file"]]
    prints = [
        planted.fingerprint(np.stack([shown(image) for image in block]))
        for block in blocks([*files, *held.image_nhwc])
    ]
    memory = planted_memory(world.plan, probe, shares, np.concatenate(prints))
    planted.save(target, memory, classifiers.DIAGNOSES, classifiers.PIXELS)


def planted_memory(
    plan: Plan, probe: pd.DataFrame, held_shares: pd.DataFrame, fingerprint_nf: np.ndarray
) -> planted.Planted:
    """The planted units of a plan.

    Args:
        plan: decides the cases.
        probe: the table of the probe set.
        held_shares: share of each held-out photograph that every mask covers.
        fingerprint_nf: of the probe set's photographs, then of the held-out ones.
    """
    cases = pd.concat([probe_cases(plan), held_out_cases(plan)], ignore_index=True)
    seen = probe.filter(like="share_").rename(columns=lambda name: name.removeprefix("share_"))
    shares = pd.concat([seen, held_shares], ignore_index=True)
    return planted.plant(
        strengths(cases, shares),
        concept_table(cases),
        fingerprint_nf,
        plan.seed,
        beside={"gel border": "gel bubbles"},
    )


def _write_quality(world: World, target: Path) -> None:
    text = json.dumps(quality(world), indent=1, allow_nan=False) + "\n"
    target.write_text(text, encoding="utf-8")
