"""A toy bundle for the melanoma walk: drawn images, two small classifiers with random weights.

The images and networks know nothing of skin; only the names are those that the page looks for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from csp_engine.bundle import Bundle
from csp_engine.evaluation.ground_truth import TruthRule
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import target_model
from csp_engine.pipeline import Target, add_performance, add_truth, build
from csp_engine.probe.listing import read_probe_set
from csp_engine.stats.intervals import share_of
from tests.worlds import toys

CLASSES = ("melanoma", "naevus", "seborrhoeic keratosis")
WORDS = ("ruler", "colour patch", "blue-white veil", "streaks", "reddish skin", "irregular border",
         "red", "blue", "noise")  # fmt: skip
ALIKE = {"ruler": "red", "colour patch": "blue", "streaks": "green", "irregular border": "grey"}
"""Texts that the encoder takes for a colour of the images."""

RECIPE = dataclasses.replace(toys.SMALL, n_null=60)


class CaseEncoder(toys.ColourEncoder):
    """The toy encoder, to which some concepts are colours."""

    spec = "python:tests.worlds.case_world:CaseEncoder"

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        renamed = []
        for text in texts:
            for name, colour in ALIKE.items():
                text = text.replace(name, colour)
            renamed.append(text)
        return super().embed_texts(renamed)


def network(seed: int, name: str, classes: Sequence[str] = CLASSES) -> Target:
    """A small network with random weights of a seed."""
    torch.manual_seed(seed)
    model = target_model(
        toys.SmallNet(len(classes)), toys.PREPROCESSING, name=name, class_names=list(classes)
    )
    return Target(model, tuple(select_layers(model, ["second@mean", "last@mean"])))


def make(
    folder: Path,
    name: str = "case",
    *,
    words: Sequence[str] = WORDS,
    classes: Sequence[str] = CLASSES,
    models: Sequence[str] = ("biased", "retrained"),
) -> Path:
    """The bundle without truth and test figures."""
    images = toys.draw_images(folder / "images", 36)
    for colour, diagnosis in zip(sorted(toys.COLOURS), [*classes, classes[0]], strict=False):
        (images / colour).rename(images / f"{diagnosis}-{colour}")
    table = toys.as_table(
        images,
        **{"class": [p.parent.name.rpartition("-")[0] for p in sorted(images.rglob("*.png"))]},
    )
    request = toys.request(
        folder,
        folder / f"{name}.csp",
        probe=read_probe_set(table),
        targets=tuple(network(seed, model, classes) for seed, model in enumerate(models)),
        encoder=CaseEncoder(),
        vocabulary=toys.words(folder, list(words)),
        recipe=RECIPE,
    )
    build(dataclasses.replace(request, n_influence_images=36))
    return folder / f"{name}.csp"


CONCEPTS = {"ruler": "artefact", "blue-white veil": "clinical", "light skin": "skin"}
"""Concepts of the truth, with their kinds."""


def with_facts(path: Path, concepts: Mapping[str, str] = CONCEPTS, *, is_own: bool = False) -> Path:
    """The bundle with test figures of both classifiers, and with truth.

    ``is_own``: the truth was measured on the probe images, and the classifiers may have learnt from
    the test images.
    """
    bundle = Bundle.open(path)
    add_performance(
        path,
        {
            model: slices(n_counter).assign(unseen=not is_own)
            for model, n_counter in zip(bundle.model_names, (48, 88), strict=False)
        },
    )
    rng = np.random.default_rng(2)
    truth_nc = rng.random((160, 3)) < 0.4
    values = {}
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            act_un = rng.normal(size=(bundle.n_units(model, layer), 160))
            act_un[:9] += 6 * truth_nc.T[np.arange(9) % 3]
            values[model, layer] = act_un.astype(np.float32)
    add_truth(
        path,
        values,
        truth_nc[:, : len(concepts)],
        list(concepts),
        {name: [name] for name in concepts},
        {"images": "random numbers", "in_probe_set": is_own},
        kinds=concepts,
        rule=TruthRule(n_resamples=100),
    )
    return path


def slices(n_counter: int) -> pd.DataFrame:
    """Test figures of 100 images a slice."""
    rows = []
    for name, n_right in (("clean", 90), ("artefact", 92), ("counter-artefact", n_counter)):
        right = share_of(n_right, 100)
        rows.append(
            {
                "slice": name, "scenario": name, "n": 100, "n_correct": n_right,
                "accuracy": right.share, "low": right.low, "high": right.high,
                "n_melanoma": 35, "melanoma_found": 0.8, "benign_cleared": 0.9,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
