"""How much processor time does labelling take, and judging labels?

CSP, SemanticLens and CLIP-Dissect as a build runs them (500 random image sets, ranking), on the
layer of ``benchmarks.csp_plus``: 2,048 neurons x 10,000 labels, 100 exemplars of 50,000 images,
contrast images drawn at random (finding them is ``benchmarks.contrast``). The figures of
simulation with intervals for as many neurons. And, where a finished bundle with activations is
given, ``csp label`` with another vocabulary on a copy of it. Processor seconds of one process each;
``OMP_NUM_THREADS`` says with how many threads.
Run: python -m benchmarks labelling [--quick] [--bundle BUNDLE --vocabulary FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.contrast import draw_layer, load_exemplars, peak_kilobytes
from benchmarks.csp_plus import N_DRAWS, draw_labels

RESULT_PATH = Path(__file__).parent / "results" / "labelling.json"
METHODS = ("csp", "semanticlens", "clip_dissect")
JUDGED = ((1200, 438), (5000, 438))
"""Images and labels that simulation is measured with."""


def label_alone(folder: Path) -> None:
    """Body of the process that labels."""
    from csp_engine.evidence.contrast import ContrastRule
    from csp_engine.evidence.evidence import Evidence
    from csp_engine.methods import label_layer, noise_evidence
    from csp_engine.types import ContrastSet

    image_nd, label_td = np.load(folder / "image_nd.npy"), np.load(folder / "label_td.npy")
    exemplars = load_exemplars(folder)
    rng = np.random.default_rng(0)
    shape = (*exemplars.image_uk.shape, 1)
    contrast = ContrastSet(
        rng.integers(0, len(image_nd), shape, dtype=np.int32),
        np.full(shape, 0.5, np.float32), np.zeros(shape, np.float32),
        np.ones(shape[:2], np.int32), np.zeros(shape[0], np.int32), np.zeros(shape[0], np.float32),
    )  # fmt: skip
    evidence = Evidence(exemplars, contrast, image_nd)
    null = noise_evidence(
        image_nd, n_draws=N_DRAWS, n_exemplars=shape[1], rule=ContrastRule(), n_paired=30
    )
    found = {}
    for method in METHODS:
        start, cpu = time.perf_counter(), time.process_time()
        label_layer(method, evidence, null, label_td, {})
        spent = {"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - start}
        found[method] = {name: round(value, 2) for name, value in spent.items()}
    print(json.dumps({**found, "peak_gib": round(peak_kilobytes() / 2**20, 2)}))


def simulate_alone(n_units: int, n_images: int, n_labels: int) -> None:
    """Body of the process that judges labels."""
    from csp_engine.evaluation.faithfulness.simulation import simulate

    rng = np.random.default_rng(0)
    shared = rng.standard_normal((20, n_images), dtype=np.float32)

    def mixed(n: int, noise: float) -> np.ndarray:
        own = rng.standard_normal((n, n_images), dtype=np.float32)
        return rng.standard_normal((n, 20), dtype=np.float32) @ shared + np.float32(noise) * own

    predicted_tn, activation_un = mixed(n_labels, 2), np.maximum(mixed(n_units, 3), 0)
    label_u = rng.integers(0, n_labels, n_units)
    start, cpu = time.perf_counter(), time.process_time()
    done = simulate(activation_un, predicted_tn, label_u, np.ones(n_units, bool))
    spent = {"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - start}
    spent = {name: round(value, 2) for name, value in spent.items()}
    print(json.dumps({**spent, "images": n_images, "draws": done.n_draws}))


def relabel(bundle: Path, vocabulary: Path, folder: Path) -> dict[str, float]:
    """Seconds of ``csp label`` on a copy; what it says is on the screen."""
    copied = folder / bundle.name
    shutil.copytree(bundle, copied)
    for beside in ("encoder", "captioner"):
        if (bundle.parent / beside).is_dir():
            shutil.copytree(bundle.parent / beside, folder / beside)
    command = [sys.executable, "-m", "csp_engine", "label", str(copied)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(
        [*command, "--vocabulary", str(vocabulary), "--set", "caption_modes="],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": round(cpu, 2), "seconds": round(seconds, 2)}


def alone(*options: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.labelling", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small layer, for seconds")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keep the layer here, and take what is there")
    parser.add_argument("--bundle", type=Path, help="a finished bundle to label again")
    parser.add_argument("--vocabulary", type=Path, help="with what, for --bundle")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--judge", type=int, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        label_alone(args.alone)
        return
    if args.judge:
        simulate_alone(*args.judge)
        return
    if bool(args.bundle) != bool(args.vocabulary):
        parser.error("--bundle and --vocabulary go together.")
    width, judged = 512, JUDGED
    if args.quick:
        args.images, args.units, args.labels, width = 3000, 64, 500, 64
        judged = ((400, 50),)
    result: dict = {"images": args.images, "neurons": args.units, "labels": args.labels}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "layer"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "texts.json").exists():
            draw_layer(folder, args.images, args.units, 100, width, 0)
            draw_labels(folder, args.labels, 0)
        result["methods"] = alone("--alone", str(folder))
        result["methods together, cpu"] = sum(result["methods"][name]["cpu"] for name in METHODS)
        result["simulation"] = [
            alone("--judge", str(args.units), *map(str, each)) for each in judged
        ]
        if args.bundle:
            result["csp label"] = relabel(args.bundle, args.vocabulary, Path(temporary))
    result |= {
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "cores": os.cpu_count(), "load_average": [round(x, 2) for x in os.getloadavg()],
    }  # fmt: skip
    for name, value in result.items():
        print(f"{name:24} {value}")
    if args.quick:
        print("quick run: numbers not kept")
        return
    RESULT_PATH.parent.mkdir(exist_ok=True)
    RESULT_PATH.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {RESULT_PATH}")


if __name__ == "__main__":
    main()
