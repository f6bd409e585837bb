"""The target models: one skin-lesion classifier trained with planted shortcuts, one without.

Both have the same architecture and start from the same weights; they differ in the photographs they
learn from: ``biased`` (colour patches on benign lesions only, rulers and ink leaning to melanoma)
and ``fair`` (the same artefacts at the same rates, whatever the diagnosis).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from csp_engine.demo.simulator.cases import DIAGNOSES, SCENARIOS
from csp_engine.demo.simulator.slices import SIDE, SLICES
from csp_engine.demo.training.pictures import Pictures
from csp_engine.demo.training.steps import (
    MEAN,
    STD,
    batch_rows,
    half_precision,
    in_batches,
    save_half,
    train,
    varied,
)
from csp_engine.errors import MissingModelError
from csp_engine.files import ROOT
from csp_engine.networks.loading.preprocessing import Preprocess, pixel_pipeline, pixel_recipe
from csp_engine.networks.models import TargetModel
from csp_engine.networks.models import target_model as make_target_model
from csp_engine.stats.intervals import share_of
from csp_engine.types import Progress

SHIPPED = ROOT / "assets" / "demo"
BATCH = 64
LAYERS = ("layer2@max", "layer3@mean", "layer4@mean")
"""The layers that the demo browses: 256, 512 and 768 channels."""

MODELS = {"biased": "biased", "retrained": "fair"}
"""Name of a model → scenario that it learns from."""

PIXELS: dict[str, Any] = {
    "resize": [SIDE, SIDE],
    "interpolation": "bilinear",
    "crop": None,
    "mean": list(MEAN),
    "std": list(STD),
}


class _Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def _conv(n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(n_out),
    )


def network() -> nn.Module:
    """A convolutional classifier of three diagnoses with 0.9 million weights."""

    def layer(n_in: int, n_out: int, stride: int) -> nn.Module:
        """Depthwise 3 x 3, then across channels."""
        return nn.Sequential(
            _conv(n_in, n_in, 3, stride, groups=n_in),
            nn.ReLU(),
            _conv(n_in, n_out, 1),
            nn.ReLU(),
        )

    whole = nn.Sequential()
    for name, part in {
        "stem": nn.Sequential(_conv(3, 32, 3, 2), nn.ReLU()),
        "layer1": nn.Sequential(_conv(32, 64, 3, 2), nn.ReLU(), _Residual(_conv(64, 64, 3))),
        "layer2": nn.Sequential(
            _conv(64, 128, 3, 2), nn.ReLU(), _Residual(_conv(128, 128, 3)), _conv(128, 256, 1),
            nn.ReLU(),
        ),
        "layer3": layer(256, 512, 2),
        "layer4": layer(512, 768, 1),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flat": nn.Flatten(),
        "head": nn.Linear(768, len(DIAGNOSES)),
    }.items():  # fmt: skip
        whole.add_module(name, part)
    return whole


def train_classifier(
    path: Path,
    lessons: Pictures,
    *,
    seed: int,
    n_steps: int,
    checkpoint: Path,
    progress: Progress,
) -> None:
    """Train on pictures of one scenario and write the weights to ``path``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = network()
        model.to(memory_format=torch.channels_last)
    image_nhwc, target_n = lessons.image_nhwc, torch.from_numpy(diagnosis_numbers(lessons.cases))

    def loss_at(step: int) -> torch.Tensor:
        rows = batch_rows(seed, step, len(image_nhwc), min(BATCH, len(image_nhwc)))
        with half_precision():
            logit_nc = model(varied(image_nhwc[rows], seed * 1_000_003 + step)[0])
        return nn.functional.cross_entropy(logit_nc.float(), target_n[rows], label_smoothing=0.05)

    train(
        model, loss_at, n_steps,
        rate=3e-3, checkpoint=checkpoint, stage=f"classifier {path.stem}", progress=progress,
    )  # fmt: skip
    save_half(model.state_dict(), path)


def diagnosis_numbers(cases: pd.DataFrame) -> np.ndarray:
    """Row of ``DIAGNOSES`` of every case."""
    return cases["diagnosis"].map(DIAGNOSES.index).to_numpy(np.int64)


def pixel_preprocess() -> Preprocess:
    """From an image to what the classifiers take."""
    return pixel_pipeline(pixel_recipe(PIXELS))


def load_network(path: Path) -> nn.Module:
    """The trained network of a weight file."""
    if not path.is_file():
        raise MissingModelError(f"There are no weights at {path}; make them with: csp demo build")
    model = network()
    model.load_state_dict(load_file(path))
    return model.eval()


def target_model(path: Path, name: str) -> TargetModel:
    """A trained classifier, ready to browse."""
    return make_target_model(
        load_network(path),
        PIXELS,
        name=name,
        spec=f"python:csp_engine.demo.dermoscopy.classifiers:{name}",
        class_names=DIAGNOSES,
    )


def biased() -> TargetModel:
    """The shipped classifier that learnt the planted shortcuts."""
    return target_model(SHIPPED / "biased.safetensors", "biased")


def retrained() -> TargetModel:
    """The shipped classifier that learnt without them."""
    return target_model(SHIPPED / "retrained.safetensors", "retrained")


def accuracy_by_slice(model: nn.Module, slices: Mapping[str, Pictures]) -> pd.DataFrame:
    """How often a classifier is right on each test slice, and how well it ranks melanoma.

    Returns:
        a row per slice: ``slice``, ``scenario``, ``n``, ``n_correct``, ``accuracy`` with ``low``
        and ``high`` (Wilson, 95 %); ``melanoma_found`` (share of melanomas called melanoma) and
        ``benign_cleared`` (share of the others not called melanoma), each with its count.
    """
    rows = []
    for name, shown in slices.items():
        logit_nc = in_batches(model, shown.image_nhwc)
        truth_n = diagnosis_numbers(shown.cases)
        said_n = logit_nc.argmax(1)
        is_right_n = said_n == truth_n
        right = share_of(int(is_right_n.sum()), len(truth_n))
        is_melanoma_n = truth_n == 0
        rows.append(
            {
                "slice": name,
                "scenario": SCENARIOS[SLICES[name]].name,
                "n": len(truth_n),
                "n_correct": right.n_hits,
                "accuracy": right.share,
                "low": right.low,
                "high": right.high,
                "n_melanoma": int(is_melanoma_n.sum()),
                "melanoma_found": float((said_n[is_melanoma_n] == 0).mean()),
                "benign_cleared": float((said_n[~is_melanoma_n] != 0).mean()),
            }
        )
    return pd.DataFrame(rows)
