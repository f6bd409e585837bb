"""A network that tells red from green, and takes blue for green, with photographs to mislead it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import load_model
from csp_engine.pipeline import Target

MIX = [[1.0, 0.2, 0.0], [0.1, 1.0, 0.1], [0.0, 0.1, 1.0], [0.6, 0.0, 0.3], [0.0, 0.7, 0.2]]
"""What each unit of ``seen`` adds up of red, green and blue."""
SIDE = 16


class Misled(nn.Module):
    """Units that mix colours, their mean over places, and a head."""

    def __init__(self, blue: float) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, len(MIX), 1, bias=False)
        self.seen = nn.ReLU()
        self.head = nn.Linear(len(MIX), 2, bias=False)
        mix = torch.tensor(MIX)
        with torch.no_grad():
            self.mix.weight.copy_(mix[:, :, None, None])
            # By least squares the outputs are red, and green with so much of blue.
            self.head.weight.copy_(
                torch.tensor([[9.0, 0, 0], [0, 9.0, 9.0 * blue]]) @ torch.linalg.pinv(mix)
            )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(self.seen(self.mix(pixels)).mean((2, 3)))


def misled() -> nn.Module:
    """The factory behind ``python:tests.worlds.misled:misled``."""
    return Misled(1.0)


def fair() -> nn.Module:
    """The same, to which blue says nothing."""
    return Misled(0.0)


def target(factory: str = "misled") -> Target:
    """One of them, with the layer ``seen``."""
    model = load_model(
        f"python:tests.worlds.misled:{factory}",
        name=factory,
        preprocessing={
            "resize": SIDE, "crop": SIDE, "interpolation": "bilinear",
            "mean": [0.0] * 3, "std": [1.0] * 3,
        },
        class_names=["green", "red"][::-1],
    )  # fmt: skip
    return Target(model, tuple(select_layers(model, ["seen"])))


def photographs(folder: Path, n: int = 160, seed: int = 0) -> Path:
    """A table of noisy red and green pictures; two in five red ones have a blue corner."""
    rng = np.random.default_rng(seed)
    (folder / "misled").mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        name = ("red", "green")[i % 2]
        pixels = rng.uniform(0, 60, (SIDE, SIDE, 3))
        pixels[..., 2] *= 0.2
        pixels[..., i % 2] += rng.uniform(-12, 40)
        if rng.random() < (0.4, 0.05)[i % 2]:
            pixels[:7, :7] = (10, 10, 250)
        file = f"misled/{i:03}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / file)
        rows.append({"path": file, "class": name})
    table = folder / "misled.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table
