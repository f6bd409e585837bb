"""Tiny real objects for tests of the whole pipeline: drawn images, a small network, an encoder.

Nothing here is a mock: the network is a network with fixed random weights, the encoder embeds
images by their colours and texts by their words, and both fulfil the product's own protocols.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from csp_engine.bundle import Bundle, StoredFix
from csp_engine.evaluation.ground_truth import TruthRule
from csp_engine.evaluation.paired_effects import Bounded
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import TargetModel, load_model
from csp_engine.pasting.gate import Area, Gate
from csp_engine.pipeline import (
    BuildRequest,
    Target,
    add_faithfulness,
    add_trust,
    add_truth,
    judge_probe,
)
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.fixing import Trials, try_fix
from csp_engine.pipeline.added.gating import Gated
from csp_engine.pipeline.added.photographs import listed_photographs
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.listing import ProbeSet, read_probe_set
from csp_engine.stats.intervals import auroc_interval
from csp_engine.words.vocabularies import Vocabulary, read_vocabulary

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 220), "grey": (128,) * 3}
WORDS = ["red", "green", "blue", "grey", "bright", "dark", "square", "stripe", "noise", "corner"]
PREPROCESSING = {
    "resize": 32,
    "crop": 32,
    "interpolation": "bilinear",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
# Tests that look at "the first method" mean CSP, whose gamma moves; the default has CSP+ in front.
METHODS = ("csp", "semanticlens", "clip_dissect")
SMALL = Recipe(n_exemplars=6, n_score=4, n_partners=2, n_null=30, n_labels=4, methods=METHODS)


def draw_images(folder: Path, n_images: int = 28, side: int = 40, seed: int = 0) -> Path:
    """Class folders of plain colours with noise and a brighter square somewhere."""
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    for i in range(n_images):
        colour = names[i % len(names)]
        pixels = np.array(COLOURS[colour]) + rng.normal(0, 25, (side, side, 3))
        x, y = rng.integers(0, side - 10, 2)
        pixels[y : y + 10, x : x + 10] += 70 * rng.random()
        (folder / colour).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / colour / f"{i:04d}.png")
    return folder


class SmallNet(nn.Module):
    """Two convolutions and a linear head that reads the mean of ``last``."""

    def __init__(self, n_classes: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.last = nn.ReLU()
        self.head = nn.Linear(12, n_classes)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        maps = self.last(self.second(torch.relu(self.first(pixels))))
        return self.head(maps.mean(dim=(2, 3)))


def network() -> nn.Module:
    """The factory behind ``python:tests.worlds.toys:network``."""
    torch.manual_seed(3)
    return SmallNet()


def lively() -> nn.Module:
    """The same, with a head that decides for all classes: ``python:tests.worlds.toys:lively``."""
    net = SmallNet()
    torch.manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
    colours = torch.tensor(list(COLOURS.values()), dtype=torch.float32)[:, :, None, None]
    shown = (colours.expand(-1, -1, 32, 32) / 255 - 0.5) / 0.5
    with torch.no_grad():
        seen = net.last(net.second(torch.relu(net.first(shown)))).mean(dim=(2, 3)).double()
        centred = seen - seen.mean(0)
        # Least squares: each colour's own output is high, in the order of the class names.
        wanted = torch.eye(4)[[3, 1, 0, 2]]
        solved = torch.linalg.pinv(centred, rtol=1e-3) @ (wanted.double() - 0.25)
        weight = (6 * solved.T).round(decimals=2)  # the same to the last bit everywhere
        net.head.weight.copy_(weight)
        net.head.bias.copy_((-weight @ seen.mean(0)).round(decimals=2))
    return net


class ColourEncoder:
    """Images by the colours of a 3 x 3 grid, texts by their words, in one 16-dimensional space."""

    spec = "python:tests.worlds.toys:ColourEncoder"
    dim = 16
    needs_pixels = True

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self._projection = rng.normal(size=(27, self.dim)).astype(np.float32)
        self.description: dict[str, Any] = {"kind": "toy", "seed": 5}
        self.fingerprint = hashlib.sha256(json.dumps(self.description).encode()).hexdigest()
        self.n_text_calls = 0

    def preprocess(self, image: Image.Image) -> np.ndarray:
        small = image.resize((3, 3), Image.Resampling.BOX)
        return np.asarray(small, np.float32).transpose(2, 0, 1) / 255

    def embed_images(self, pixels: np.ndarray) -> np.ndarray:
        flat = pixels.reshape(len(pixels), -1) - 0.5
        rows = flat @ self._projection + 0.05
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.n_text_calls += 1
        rows = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                if word in COLOURS:
                    colour = np.repeat(np.array(COLOURS[word]) / 255 - 0.5, 9)
                    row += colour.astype(np.float32) @ self._projection
                else:
                    digest = hashlib.sha256(word.encode()).digest()[: self.dim]
                    row += np.frombuffer(digest, np.uint8).astype(np.float32) / 255 - 0.5
        rows += 0.01
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def words(folder: Path, texts: Sequence[str] = WORDS) -> Vocabulary:
    """A vocabulary file of the given texts, read back."""
    path = folder / "words.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return read_vocabulary([str(path)])


def target(
    patterns: Sequence[str] = ("first", "second"), name: str = "small", factory: str = "network"
) -> Target:
    """The small network with the given layers."""
    model: TargetModel = load_model(
        f"python:tests.worlds.toys:{factory}",
        name=name,
        preprocessing=PREPROCESSING,
        class_names=list(sorted(COLOURS)),
    )
    return Target(model, tuple(select_layers(model, list(patterns))))


def sparse_target(folder: Path, n_latents: int = 60) -> Target:
    """A layer, and latents of another: silent, rare (some alike: they tie), never silent."""
    file = folder / "latents.safetensors"
    if not file.exists():
        rng = np.random.default_rng(4)
        encoder = rng.normal(size=(8, n_latents)).astype(np.float32)
        encoder[:, 1::7] = encoder[:, 0::7][:, : len(range(1, n_latents, 7))]
        bias = -rng.uniform(1.2, 2.6, n_latents).astype(np.float32)
        bias[:4], bias[4:6] = -50, 3
        save_file({"W_enc": torch.tensor(encoder), "b_enc": torch.tensor(bias)}, file)
    model = target().model
    return Target(model, tuple(select_layers(model, ["second"], saes={"first": file})))


def request(folder: Path, out: Path, **changes: Any) -> BuildRequest:
    """A whole build in about a second: 28 images, 20 units, 10 labels."""
    images = folder / "images"
    if not images.exists():
        draw_images(images)
    base = BuildRequest(
        out=out,
        probe=read_probe_set(images),
        targets=(target(),),
        encoder=ColourEncoder(),
        vocabulary=words(folder),
        recipe=SMALL,
        batch_size=8,
        n_influence_images=12,
    )
    return replace(base, **changes)


def with_truth(bundle: Bundle, planted_layer: str | None = None, **changes: Any) -> Bundle:
    """The bundle with ground truth: 120 images, of which unit 0 shows "red" and unit 1 "square"."""
    rng = np.random.default_rng(0)
    truth_nc = rng.random((120, 3)) < 0.4
    names = ["red", "square", "stripe"]
    held_out, planted = {}, {}
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            values = rng.normal(size=(bundle.n_units(model, layer), 120))
            values[:2] += 6 * truth_nc.T[:2]
            held_out[model, layer] = values.astype(np.float32)
            if layer == planted_layer:
                planted[model, layer] = pd.DataFrame(
                    {
                        "unit": [0, 1, 2],
                        "kind": ["single", "either", "noise"],
                        "formula": ["red", "red or square", "noise"],
                        "concepts": [["red"], ["red", "square"], []],
                    }
                )
    arguments: dict[str, Any] = {
        "truth": held_out,
        "truth_nc": truth_nc,
        "concept_names": names,
        "phrases": {"red": ["red", "crimson"], "square": ["square", "box"], "stripe": ["stripe"]},
        "provenance": {"images": "random numbers"},
        "kinds": {"red": "colour"},
        "planted": planted,
        "rule": TruthRule(n_resamples=100),
    }
    return add_truth(bundle.path, **arguments | changes)


class Judge(ColourEncoder):
    """The same with another projection: an encoder that chose no label."""

    spec = "python:tests.worlds.toys:Judge"

    def __init__(self) -> None:
        super().__init__()
        self._projection = np.random.default_rng(9).normal(size=(27, self.dim)).astype(np.float32)
        self.description = {"kind": "toy", "seed": 9}
        self.fingerprint = hashlib.sha256(json.dumps(self.description).encode()).hexdigest()


class CornerPairs:
    """Noise with and without a red corner; the neutral version has a grey one."""

    name = "40 pairs of noise"
    fingerprint = "corners"

    def __init__(self, n: int = 40) -> None:
        self.table = pd.DataFrame(
            {
                "artefact": ["red corner"] * n,
                "file": [f"{i}.png" for i in range(n)],
                "group": [f"g{i // 2}" for i in range(n)],
            }
        )

    def images(self, row: int) -> tuple[Image.Image, Image.Image, Image.Image]:
        """Without, with, neutral."""
        plain = np.random.default_rng(row).integers(0, 160, (40, 40, 3)).astype(np.uint8)
        marked, dim = plain.copy(), plain.copy()
        marked[:16, :16] = (255, 30, 30)
        dim[:16, :16] = plain.mean((0, 1)).astype(np.uint8)
        without, with_it, neutral = map(Image.fromarray, (plain, marked, dim))
        return without, with_it, neutral


def open_gate() -> dict[str, Gated]:
    """What real photographs would say of pasted red corners: that they pass for real."""
    area = Area(0.9, *map(float, auroc_interval(np.asarray(0.9), 20, 20)))
    gate = Gate("red corner", area, area, area, 0.8)
    return {"red corner": Gated("red corner", gate, "", Bounded(0.2, -0.1, 0.5), 20, 20)}


def photographs(folder: Path, n: int = 72) -> Path:
    """A table of drawn images of four classes in two slices, two of a group."""
    images = draw_images(folder / "shots", n, seed=5)
    rows = [
        {
            "path": str(path.relative_to(folder)),
            "class": path.parent.name,
            "slice": "clean" if at % 3 else "marked",
            "group": f"g{at // 2}",
        }
        for at, path in enumerate(sorted(images.rglob("*.png")))
    ]
    table = folder / "shots.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table


def tried_fix(
    folder: Path, of: Target, layers: tuple[str, str] = ("last@mean", "first@mean"), **changes: Any
) -> StoredFix:
    """Three neurons and a direction of the small network held still, on drawn photographs."""
    along = np.random.default_rng(0).normal(size=8)
    pieces = [
        Piece(layers[0], np.array([0, 5, 7])),
        Piece(layers[1], (along / np.linalg.norm(along)).astype(np.float32)),
    ]
    trials = Trials(of, listed_photographs(photographs(folder)), "red")
    asked = {"chosen_on": "a test", "n_random": 4, **changes}
    return try_fix(trials, pieces, "mean", **asked)


def tried_figures() -> dict[str, Any]:
    """What became of two figures on planted units, made up but for the intervals."""
    falls = {"n_hits": 9, "n": 10, "share": 0.9, "low": 0.6, "high": 0.98}
    check = {"falls": falls, "by": 0.4, "is_passed": True}
    counts = {"n_right": 30, "n_wrong": 20, "missing": check, "extra": check}
    weak = {**check, "by": 0.1, "is_passed": False}
    rows: list[dict[str, Any]] = [
        {"metric": "pearson", "auroc": 0.8, "is_passed": True, **counts},
        {"metric": "recall", "auroc": 0.6, "is_passed": False, **counts, "extra": weak},
    ]
    for row in rows:
        low, high = auroc_interval(np.array(row["auroc"]), row["n_right"], row["n_wrong"])
        row |= {"low": float(low), "high": float(high)}
    return {"judge": Judge.spec, "n_images": 14, "n_units": 25, "rows": rows}


def with_faithfulness(bundle: Bundle) -> Bundle:
    """The bundle with how well its labels predict its neurons, on its own probe set."""
    add_faithfulness(bundle.path, judge_probe(bundle, Judge()))
    return add_trust(bundle.path, tried_figures())


def slices() -> pd.DataFrame:
    """How often a classifier is right on two test slices."""
    rows = [("clean", 10, 9, 0.9, 0.6, 0.98), ("hard", 10, 4, 0.4, 0.17, 0.69)]
    return pd.DataFrame(rows, columns=["slice", "n", "n_correct", "accuracy", "low", "high"])


def content(path: Path) -> dict[str, Any]:
    """What two bundles must agree in to be the same: keys and hashes of every stage."""
    stages = Bundle.open(path).manifest.stages
    return {
        name: (record.key, {file: entry.sha256 for file, entry in record.files.items()})
        for name, record in stages.items()
    }


def as_table(folder: Path, **columns: Sequence[Any]) -> Path:
    """A CSV probe set over the images of a folder, with extra columns."""
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    path = folder / "table.csv"
    pd.DataFrame({"file": files, **columns}).to_csv(path, index=False)
    return path


CONCEPTS = ("reddish", "sometimes", "never")


def with_columns(folder: Path) -> ProbeSet:
    """The drawn images with three concept columns: whole, with gaps, and shown by none."""
    images = folder / "images"
    if not images.exists():
        draw_images(images)
    files = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    n = len(files)
    return read_probe_set(
        as_table(
            images,
            reddish=[int(file.startswith("red")) for file in files],
            sometimes=["" if i % 4 == 0 else int(i % 5 == 1) for i in range(n)],
            never=[0] * n,
        )
    )
