"""The demo's captioner on planted embeddings: how long it trains, how often it is right, how fast.

``python -m studies captioner``: 6,000 training and 4,000 held-out images in 96 dimensions with
40 concepts on 5 to 30 % of them each; twelve concepts come with another in 90 % of the cases. This
is geometry, not vision: it says that the captioner can do the task, not how well it does on images.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from csp_engine.captioners import ImageSet, load_captioner
from csp_engine.demo.training.captioner import N_STEPS, measure_captioner, train_captioner

N_CONCEPTS, WIDTH, N_COMPANIONS = 40, 96, 12
NOISE = 0.45
RESULTS = Path(__file__).parent / "results" / "captioner.json"


def planted_images(
    n_images: int, seed: int, world: int = 0
) -> tuple[np.ndarray, np.ndarray, dict[str, list[str]]]:
    """Unit embeddings, truth, and wordings; ``world`` decides what all draws have in common."""
    fixed, rng = np.random.default_rng([0, world]), np.random.default_rng([1, seed])
    direction_cd = fixed.normal(size=(N_CONCEPTS, WIDTH))
    direction_cd /= np.linalg.norm(direction_cd, axis=1, keepdims=True)
    cone_d = fixed.normal(size=WIDTH)
    cone_d *= 2 / np.linalg.norm(cone_d)
    prevalence_c = fixed.uniform(0.05, 0.30, N_CONCEPTS)
    truth_nc = rng.random((n_images, N_CONCEPTS)) < prevalence_c
    for c in range(N_COMPANIONS):
        follows_n = truth_nc[:, c] & (rng.random(n_images) < 0.9)
        truth_nc[:, c + N_COMPANIONS] |= follows_n
    strength_nc = truth_nc * rng.uniform(0.6, 1.4, truth_nc.shape)
    image_nd = cone_d + strength_nc @ direction_cd + rng.normal(0, NOISE, (n_images, WIDTH))
    image_nd /= np.linalg.norm(image_nd, axis=1, keepdims=True)
    phrases = {
        f"c{c}": [
            f"feature{c}",
            *(f"{word} feature{c}" for word in ("pale", "dense", "fine")),
            *(f"mark{c} of kind {k}" for k in range(c % 4)),
        ]
        for c in range(N_CONCEPTS)
    }
    return image_nd.astype(np.float32), truth_nc, phrases


def main() -> None:
    """Train, score, time; write ``studies/results/captioner.json``."""
    torch.set_num_threads(1)
    n_steps = int(sys.argv[1]) if len(sys.argv) > 1 else N_STEPS
    image_nd, truth_nc, phrases = planted_images(6000, seed=0)
    held_nd, held_nc, _ = planted_images(4000, seed=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "captioner"
        started = time.perf_counter()
        train_captioner(
            folder, image_nd, truth_nc, phrases, encoder_fingerprint="planted", n_steps=n_steps
        )
        trained = time.perf_counter() - started
        size = sum(path.stat().st_size for path in folder.iterdir())
        captioner = load_captioner(folder)
        rows = measure_captioner(captioner, held_nd, held_nc, phrases)
    rng = np.random.default_rng(0)
    sets = [
        ImageSet(held_nd[rng.integers(0, 4000, 30)], held_nd[rng.integers(0, 4000, 30)])
        for _ in range(256)
    ]
    started = time.perf_counter()
    captioner.describe(sets)
    rate = len(sets) / (time.perf_counter() - started)
    result = {
        "n_steps": n_steps,
        "train_seconds": round(trained, 1),
        "megabytes": round(size / 1e6, 2),
        "sets_per_second": round(rate, 1),
        "accuracy": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(
        f"{n_steps} steps in {trained:.0f} s, {size / 1e6:.1f} MB, {rate:.0f} sets of 60 images/s"
    )
    print(
        f"{'kind':12} {'mode':10} {'top1':>6} {'95 %':>14} {'top5':>6} {'companion':>9} "
        f"{'nothing':>8}"
    )
    for row in rows:
        span = f"{row['top1_low']:.3f}–{row['top1_high']:.3f}"
        print(
            f"{row['kind']:12} {row['mode']:10} {row['top1']:6.3f} {span:>14} {row['top5']:6.3f} "
            f"{row['companion']:9.3f} {row['nothing']:8.3f}"
        )


if __name__ == "__main__":
    main()
