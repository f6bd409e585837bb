"""How long does CSP+ take for a layer? 2,048 neurons x 50,000 images x 10,000 labels x 512.

Images and activations are those of ``benchmarks.contrast``. A label lies between an image and
noise, so that some labels are near to many images and some score nearly alike; one in twenty joins
two others. The whole method runs as a build runs it: neighbour search, 500 random image sets,
neurons, ranking; in a process of its own, whose memory is read at the end. Beside it, in the same
run: the matrix products that nothing can do without, by numpy and by torch.
Run: python -m benchmarks csp_plus [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.contrast import best_product, draw_layer, load_exemplars, peak_kilobytes
from benchmarks.synthetic import unit_rows

RESULT_PATH = Path(__file__).parent / "results" / "csp_plus.json"
N_DRAWS = 500
N_DEPTHS, N_GAMMAS, N_PARTS = 6, 2, 3


def draw_labels(folder: Path, n_labels: int, seed: int) -> None:
    """Label vectors and texts."""
    image_nd = np.load(folder / "image_nd.npy", mmap_mode="r")
    rng = np.random.default_rng(seed)
    near_td = np.asarray(image_nd[rng.integers(0, len(image_nd), n_labels)])
    label_td = near_td + 0.8 * unit_rows(rng, n_labels, near_td.shape[1])
    label_td /= np.linalg.norm(label_td, axis=1, keepdims=True)
    np.save(folder / "label_td.npy", label_td.astype(np.float32))
    texts = [f"word {t}" for t in range(n_labels)]
    for t in range(19, n_labels, 20):
        texts[t] = f"word {t - 1} and word {t - 2}"
    (folder / "texts.json").write_text(json.dumps(texts))


def label_alone(folder: Path) -> None:
    """Body of the process that is measured."""
    from csp_engine.evidence.contrast import ContrastRule
    from csp_engine.evidence.evidence import Evidence
    from csp_engine.methods import label_layer, noise_evidence
    from csp_engine.types import ContrastSet

    image_nd, label_td = np.load(folder / "image_nd.npy"), np.load(folder / "label_td.npy")
    acts_un = np.load(folder / "acts_un.npy", mmap_mode="r")
    texts = json.loads((folder / "texts.json").read_text())
    exemplars = load_exemplars(folder)
    # Contrast images are mined for other methods; here they only have to be there.
    shape = (*exemplars.image_uk.shape, 1)
    contrast = ContrastSet(
        np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.float32),
        np.zeros(shape[:2], np.int32), np.zeros(shape[0], np.int32), np.zeros(shape[0], np.float32),
    )  # fmt: skip
    sources = {"activations": lambda units: acts_un[units], "texts": lambda _: texts}
    needs = ("exemplars", "activations", "texts")
    evidence = Evidence(exemplars, contrast, image_nd).asked_by("a benchmark", needs, sources)
    null = noise_evidence(
        image_nd, n_draws=N_DRAWS, n_exemplars=10, rule=ContrastRule(), n_paired=1
    )
    marks: list[tuple[float, float]] = []

    def note(*_: object) -> None:
        marks.append((time.perf_counter(), time.process_time()))

    common: dict = {}
    note()
    label_layer("csp_plus", evidence, null, label_td, {}, common=common, progress=note)
    note()
    # A second layer of the same bundle finds neighbours and random sets ready.
    label_layer("csp_plus", evidence, null, label_td, {}, common=common)
    note()
    seconds = {
        "all": marks[-2][0] - marks[0][0],
        "second layer": marks[-1][0] - marks[-2][0],
    }
    cpu = {"all": marks[-2][1] - marks[0][1], "second layer": marks[-1][1] - marks[-2][1]}
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak_gib": peak_kilobytes() / 2**20}))


def products(folder: Path, n_units: int) -> dict[str, float]:
    """Seconds of the matrix products: images with images, and every mean with every label."""
    image_nd, label_td = np.load(folder / "image_nd.npy"), np.load(folder / "label_td.npy")
    n_rows = N_DEPTHS * N_GAMMAS * N_PARTS * (n_units + N_DRAWS)
    found = {}
    for name, other_nd, total in (
        ("images x images", image_nd, len(image_nd)),
        ("means x labels", label_td, n_rows),
    ):
        for library, seconds in best_product(image_nd, other_nd, total).items():
            found[f"{name}, {library}"] = round(seconds, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small layer, for seconds")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the layer here, and take what is there")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        label_alone(args.alone)
        return
    if args.quick:
        args.images, args.units, args.labels, args.width = 5000, 128, 1000, 128
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "texts.json").exists():
            draw_layer(folder, args.images, args.units, 100, args.width, args.seed)
            draw_labels(folder, args.labels, args.seed)
        command = [sys.executable, "-m", "benchmarks.csp_plus", "--alone", str(folder)]
        runs = []
        for _ in range(args.repeats):
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout))
            print(runs[-1], flush=True)
        limits = products(folder, args.units)
    result = {
        "images": args.images, "neurons": args.units, "labels": args.labels, "width": args.width,
        "draws": N_DRAWS, "runs": runs, "matrix_products": limits,
        "cores": os.cpu_count(), "load_average": [round(x, 2) for x in os.getloadavg()],
    }  # fmt: skip
    for name, value in result.items():
        print(f"{name:16} {value}")
    if args.quick:
        print("quick run: numbers not kept")
        return
    RESULT_PATH.parent.mkdir(exist_ok=True)
    RESULT_PATH.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {RESULT_PATH}")


if __name__ == "__main__":
    main()
