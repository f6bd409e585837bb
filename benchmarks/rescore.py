"""How long does another gamma take? 2,048 neurons, 10,000 labels, 512 wide, 500 null draws.

Times the numeric part of re-scoring from start to end: concept vectors, scores, ranking, margins
and percentiles. Beside it, in the same run: the bare matrix products, a rewrite without blocks
(score everything, sort every row whole, compare with every draw), and labelling from scratch.
Run: python -m benchmarks rescore
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.synthetic import unit_rows
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods import METHODS, label_units, rescore
from csp_engine.methods.scoring.halves import concept_vectors
from csp_engine.types import ContrastSet, Exemplars


def random_evidence(rng: np.random.Generator, n_units: int, image_nd: np.ndarray) -> Evidence:
    shape = (n_units, 100, 5)
    n_images = len(image_nd)
    return Evidence(
        Exemplars(
            rng.integers(0, n_images, shape[:2]).astype(np.int32),
            np.ones(shape[:2], np.float32),
            np.full(n_units, 100, np.int32),
        ),
        ContrastSet(
            rng.integers(0, n_images, shape).astype(np.int32),
            np.full(shape, 0.5, np.float32),
            np.zeros(shape, np.float32),
            np.full(shape[:2], 5, np.int32),
            np.full(n_units, n_images // 2, np.int32),
            np.zeros(n_units, np.float32),
        ),
        image_nd,
    )


def plain_rescore(arrays: dict[str, np.ndarray], label_td: np.ndarray, gamma: float) -> np.ndarray:
    """The same numbers by whole arrays and full sorts."""
    z_ud = concept_vectors(arrays["anchor"], arrays["projection"], gamma)
    null_rd = concept_vectors(arrays["null_anchor"], arrays["null_projection"], gamma)
    score_ut = z_ud @ label_td.T
    null_rt = null_rd @ label_td.T
    label_uk = np.argsort(-score_ut, axis=1, kind="stable")[:, :21]
    score_uk = np.take_along_axis(score_ut, label_uk, axis=1)
    n_below = [
        (null_rt[:, labels] < scores).sum(axis=0)
        for labels, scores in zip(label_uk, score_uk, strict=True)
    ]
    return np.stack(n_below) / (len(null_rt) + 1)


def seconds(work: Callable[[], object], n_runs: int) -> list[float]:
    work()
    times = []
    for _ in range(n_runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    image_nd = unit_rows(rng, args.images, args.width)
    label_td = unit_rows(rng, args.labels, args.width)
    evidence = random_evidence(rng, args.units, image_nd)
    null = random_evidence(rng, args.draws, image_nd)
    scores, arrays = label_units("csp", evidence, null, label_td, {})
    gammas = iter(np.linspace(0.05, 0.95, 10 * args.runs).tolist())

    def products() -> None:
        concept_vectors(arrays["anchor"], arrays["projection"], next(gammas)) @ label_td.T
        arrays["null_anchor"] @ label_td.T

    work: dict[str, tuple[Callable[[], object], int]] = {
        "another gamma": (lambda: rescore(scores, arrays, label_td, next(gammas)), args.runs),
        "its matrix products alone": (products, args.runs),
        "the same by full sorts": (lambda: plain_rescore(arrays, label_td, next(gammas)), 5),
    }
    for name, method in METHODS.items():
        if method.writes or set(method.needs) - {"exemplars", "contrast"}:
            continue
        run = lambda name=name: label_units(name, evidence, null, label_td, {})  # noqa: E731
        work[f"{name} from scratch"] = (run, 1 if name == "clip_dissect" else 3)
    results = {name: seconds(run, n_runs) for name, (run, n_runs) in work.items()}
    base = statistics.median(results["another gamma"])
    print(
        f"{args.units} neurons x {args.labels} labels x {args.width}, {args.draws} draws; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| what | median s | lowest | highest | runs | against another gamma |")
    print("|---|---|---|---|---|---|")
    for name, times in results.items():
        middle = statistics.median(times)
        print(
            f"| {name} | {middle:.2f} | {min(times):.2f} | {max(times):.2f} | {len(times)} "
            f"| {middle / base:.1f} |"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    sizes = {key: value for key, value in vars(args).items() if key != "out"}
    record = {
        "sizes": sizes,
        "cpu_count": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "seconds": results,
    }
    path = args.out / "rescore.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
