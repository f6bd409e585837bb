"""Whether the memory of a build grows with the number of images.

Each size runs in its own process: tiny drawn images, a network of 2,048 units with next to no work,
an encoder of 512 dimensions; everything else is the real build. Reported is the peak resident
memory above what the process held with models loaded, before the build.

    python -m benchmarks.memory [--sizes 5000,50000,200000]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

RESULTS = Path(__file__).parent / "results"
SIDE = 16


class Wide(torch.nn.Module):
    """2,048 units from a tiny image by one convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = torch.nn.Conv2d(3, 2048, SIDE // 2, stride=SIDE // 2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """One map of four positions a unit."""
        return self.wide(pixels).relu()


class FlatEncoder:
    """512 dimensions from the pixels by a fixed projection; words by their hash."""

    spec, dim, needs_pixels = "python:benchmarks.memory:FlatEncoder", 512, True
    fingerprint = "f" * 64

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.description = {"kind": "flat"}
        self._projection = rng.normal(size=(3 * SIDE * SIDE, 512)).astype(np.float32)

    def preprocess(self, image: Image.Image) -> np.ndarray:
        """Pixels around zero."""
        pixels = np.asarray(image.resize((SIDE, SIDE)), np.float32).transpose(2, 0, 1)
        return pixels / 255 - 0.5

    def embed_images(self, pixels: np.ndarray) -> np.ndarray:
        """A random projection."""
        rows = pixels.reshape(len(pixels), -1) @ self._projection
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Random rows, the same for the same text."""
        seeds = [zlib.crc32(text.encode()) for text in texts]
        rows = np.stack([np.random.default_rng(s).normal(size=512) for s in seeds])
        rows = rows.astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def draw(folder: Path, n_images: int) -> None:
    """Tiny images with a few blobs of colour, all different."""
    rng = np.random.default_rng(1)
    for first in range(0, n_images, 1000):
        (folder / f"{first // 1000:04d}").mkdir()
        for i in range(first, min(first + 1000, n_images)):
            pixels = rng.integers(0, 255, (4, 4, 3), np.uint8)
            image = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            image.save(folder / f"{first // 1000:04d}" / f"{i:07d}.bmp")


def one(n_images: int, scratch: Path) -> dict:
    """Build with so many images in this process and report its peak memory."""
    from csp_engine.networks.layers import select_layers
    from csp_engine.networks.models import load_model
    from csp_engine.pipeline import BuildRequest, Target, build
    from csp_engine.pipeline.recipe import Recipe
    from csp_engine.probe.listing import read_probe_set
    from csp_engine.words.vocabularies import read_vocabulary

    preprocessing = {
        "resize": SIDE,
        "crop": SIDE,
        "interpolation": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    (scratch / "words.txt").write_text("\n".join(f"word {i}" for i in range(1000)))
    model = load_model("python:benchmarks.memory:Wide", preprocessing=preprocessing, name="wide")
    request = BuildRequest(
        out=scratch / "a.csp",
        probe=read_probe_set(scratch / "images"),
        targets=(Target(model, tuple(select_layers(model, ["wide"]))),),
        encoder=FlatEncoder(),
        vocabulary=read_vocabulary([str(scratch / "words.txt")]),
        recipe=Recipe(),
        batch_size=256,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks: dict[str, int] = {}

    def note(stage: str, done: int, total: int) -> None:
        peaks[stage] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    start = time.perf_counter()
    build(request, note)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "images": n_images,
        "peak_mb_above_models": peak / 1024,
        "models_mb": before / 1024,
        "seconds": time.perf_counter() - start,
        "peak_mb_after_stage": {stage: kb / 1024 for stage, kb in peaks.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="5000,50000,200000")
    parser.add_argument("--one", nargs=2, metavar=("N", "FOLDER"))
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(int(args.one[0]), Path(args.one[1]))))
        return
    found = []
    for size in map(int, args.sizes.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "images").mkdir()
            draw(Path(scratch) / "images", size)
            command = [sys.executable, "-m", "benchmarks.memory", "--one", str(size), scratch]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        row = found[-1]
        print(
            f"{row['images']:>8,} images: {row['peak_mb_above_models']:7.0f} MB above the models, "
            f"{row['seconds']:6.0f} s",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
