"""What the cases are made of: a few drawn images, a small network, an encoder by colours."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import nn

from csp_engine.bundle import Bundle
from csp_engine.networks.models import TargetModel, target_model

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 220)}
WORDS = (*COLOURS, "bright", "dark", "square", "stripe", "corner")
PIXELS = {
    "resize": 32, "crop": 32, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3,
}  # fmt: skip
N_IMAGES = 24


class Network(nn.Module):
    """Two convolutions and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, len(COLOURS))

    def forward(self, pixels: torch.Tensor) -> Any:
        """Logits."""
        return self.head(self.second(self.first(pixels).relu()).relu().mean((2, 3)))


def network() -> Network:
    """The same weights every time."""
    torch.manual_seed(3)
    return Network()


def model(net: nn.Module, **more: Any) -> TargetModel:
    """A network as a build takes it in."""
    return target_model(net.eval(), PIXELS, name="small", **more)


class ColourEncoder:
    """Images by the colours of a grid, texts by their words."""

    spec = "python:csp_engine.cli.selftest.world:ColourEncoder"
    dim = 16
    needs_pixels = True

    def __init__(self) -> None:
        self._projection = np.random.default_rng(5).normal(size=(27, self.dim)).astype(np.float32)
        self.description: dict[str, Any] = {"kind": "self-test"}
        self.fingerprint = hashlib.sha256(b"self-test").hexdigest()

    def on(self, device: str) -> ColourEncoder:
        """A copy, which needs no device."""
        return ColourEncoder()

    def preprocess(self, image: Any) -> np.ndarray:
        """The mean colours of nine fields."""
        small = image.resize((3, 3), Image.Resampling.BOX)
        return np.asarray(small, np.float32).transpose(2, 0, 1) / 255

    def embed_images(
        self, pixels: Float32[np.ndarray, "n channel height width"]
    ) -> Float32[np.ndarray, "n d"]:
        """Unit rows."""
        return _unit((pixels.reshape(len(pixels), -1) - 0.5) @ self._projection + 0.05)

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """Unit rows: names of colours where their images are, other words anywhere."""
        rows = np.full((len(texts), self.dim), 0.01, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                if word in COLOURS:
                    colour = np.repeat(np.array(COLOURS[word], np.float32) / 255 - 0.5, 9)
                    row += colour @ self._projection
                else:
                    digest = hashlib.sha256(word.encode()).digest()[: self.dim]
                    row += np.frombuffer(digest, np.uint8).astype(np.float32) / 255 - 0.5
        return _unit(rows)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def draw(folder: Path, n: int = N_IMAGES) -> Path:
    """Folders of one colour each, with noise and a square."""
    rng = np.random.default_rng(0)
    for i in range(n):
        name = list(COLOURS)[i % len(COLOURS)]
        pixels = np.array(COLOURS[name]) + rng.normal(0, 25, (40, 40, 3))
        x, y = rng.integers(0, 30, 2)
        pixels[y : y + 10, x : x + 10] += 70
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i:03d}.png")
    return folder


@dataclass(frozen=True, slots=True)
class World:
    """A folder for one case, and what several cases share."""

    folder: Path
    shared: Path

    def request(self, out: Path, **changes: Any) -> Any:
        """A build of a second."""
        from csp_engine.networks.layers import select_layers
        from csp_engine.pipeline import BuildRequest, Target
        from csp_engine.pipeline.recipe import Recipe
        from csp_engine.probe.listing import read_probe_set
        from csp_engine.words.vocabularies import read_vocabulary

        images = self.shared / "images"
        if not images.exists():
            draw(images)
            (self.shared / "words.txt").write_text("\n".join(WORDS) + "\n", "utf-8")
        small = model(network(), spec="python:csp_engine.cli.selftest.world:network")
        given: dict[str, Any] = {
            "out": out,
            "probe": read_probe_set(images),
            "targets": (Target(small, tuple(select_layers(small, ["second"]))),),
            "encoder": ColourEncoder(),
            "vocabulary": read_vocabulary([str(self.shared / "words.txt")]),
            "recipe": Recipe(n_exemplars=5, n_score=4, n_partners=2, n_null=30, n_labels=4),
            "batch_size": 7,
            "n_influence_images": 0,
            **changes,
        }
        return BuildRequest(**given)

    def bundle(self) -> Bundle:
        """A finished bundle of this case's own, copied from one that is built once."""
        from csp_engine.pipeline import build

        whole = self.shared / "whole.csp"
        if not (whole / "manifest.json").exists():
            build(self.request(whole))
        copy = self.folder / "a.csp"
        shutil.copytree(whole, copy)
        return Bundle.open(copy)
