"""How long until the pages could answer? Import their code and open 2,048 neurons x 50,000 images.

Writes a synthetic bundle (random numbers, real layout), then starts fresh processes that import the
page code, open the bundle, read one neuron and search once, and tell what that took and whether
torch came along. The bundle's activations are a sparse file of zeros: pages do not read them.
Run: python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.bundle import BundleWriter
from csp_engine.search import build_index

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "startup.json"
TARGET_S = 2.0
LAYER = "layer4@mean"

PROBE = """
import json, os, resource, sys, time
from pathlib import Path
start = time.perf_counter()
from pages.ui import cards, charts, finding, neurons, problems, results, sections, server, state
from pages.ui import store
imported = time.perf_counter()
name = next(iter(store.known_bundles()))
bundle = store.open_bundle(name)
view = state.read_view({"unit": "1000", "q": "word 17"}, name, bundle)
opened = time.perf_counter()
neurons.pair_tiles(bundle, view, 30)
neurons.statistics(bundle, view)
neurons.label_rows(bundle, view, "csp")
shown = time.perf_counter()
found = finding.find(bundle, view)
searched = time.perf_counter()
assert len(found.hits) == 12
status = Path("/proc/self/status")
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if status.exists():  # the line above also counts the process that started this one
    rss = next(int(line.split()[1]) for line in status.open() if line.startswith("VmRSS"))
print(json.dumps({
    "import_s": imported - start,
    "open_s": opened - imported,
    "import_and_open_s": opened - start,
    "first_neuron_s": shown - opened,
    "first_search_s": searched - shown,
    "rss_mb": rss / 1024,
    "torch_loaded": "torch" in sys.modules,
}))
"""


def unit_rows(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    rows = rng.standard_normal((n, width), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def synthetic_bundle(path: Path, n_units: int, n_images: int, width: int, n_labels: int) -> None:
    """Every stage that pages read, with random content of the right shapes."""
    rng = np.random.default_rng(0)
    vector_ud, text_td = unit_rows(rng, n_units, width), unit_rows(rng, n_labels, width)
    uk = (n_units, 100)
    encoder = {"spec": "synthetic", "fingerprint": "0" * 64, "dim": width}
    vocabulary = {"name": "synthetic", "n_labels": n_labels, "templates": ["{}"]}
    vocabulary |= {"renormalise": True, "subtract_empty": False, "sha256": "0" * 64}
    inputs = {
        "models": {
            "net": {"spec": "synthetic", "fingerprint": "0" * 64, "order": 0, "layers": [LAYER]}
        },
        "encoder": encoder,
        "vocabulary": vocabulary,
        "probe": {"name": "synthetic", "n_images": n_images, "content_sha256": "0" * 64},
    }
    with BundleWriter(path) as writer:
        writer.describe(recipe={"methods": ["csp"], "gamma": 1.0}, inputs=inputs)

        def stage(name, params=None):
            return writer.stage(name, version=1, params=params or {}, needs={}, inputs={})

        with stage("images") as f:
            buffer = io.BytesIO()
            noise = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((160, 160)).save(buffer, "WEBP", quality=75)
            thumb = buffer.getvalue()
            with (f.path / "thumbs.bin").open("wb") as out:
                out.write(thumb * n_images)
            f.array("thumb_offset", np.arange(n_images + 1, dtype=np.int64) * len(thumb))
            sizes = pd.DataFrame({"width": np.full(n_images, 500), "height": 375})
            f.table("images", sizes)
            f.table("skipped", pd.DataFrame({"file": [], "reason": []}).astype("string"))
            f.facts["n_images"] = n_images
        with stage("probe") as f:
            files = [f"class{i % 1000:04d}/image{i:06d}.jpg" for i in range(n_images)]
            classes = pd.array([f"class{i % 1000:04d}" for i in range(n_images)], "string")
            f.table("probe", pd.DataFrame({"file": files, "class": classes}))
            names = pd.array([f"class{i:04d}" for i in range(1000)], "string")
            f.table("classes", pd.DataFrame({"name": names, "n_images": n_images // 1000}))
        with stage("embeddings") as f:
            f.array("image", unit_rows(rng, n_images, width))
        with stage(f"activations:net/{LAYER}") as f:
            shape = (n_units, n_images)
            np.lib.format.open_memmap(f.path / "activation.npy", "w+", np.float32, shape)
        with stage(f"neurons:net/{LAYER}") as f:
            flags = ["is_dead", "is_dense", "is_constant", "never_positive"]
            columns = {"mean": 0.1, "std": 1.0, "min": 0.0, "max": 9.0, "density": 0.5}
            columns |= dict.fromkeys(flags, False)
            f.table("units", pd.DataFrame(columns, index=range(n_units)))
            f.array("exemplar_image", rng.integers(0, n_images, uk, dtype=np.int32))
            f.array("exemplar_activation", -np.sort(-rng.random(uk, dtype=np.float32)))
            f.array("exemplar_count", np.full(n_units, 100, np.int32))
            f.array("histogram", rng.integers(0, 999, (n_units, 32), dtype=np.int32))
            counts = {"unit": np.repeat(np.arange(n_units, dtype=np.int32), 10)}
            counts |= {"class": np.tile(np.arange(10, dtype=np.int32), n_units), "count": 10}
            f.table("class_counts", pd.DataFrame(counts))
            f.facts["n_units"] = n_units
        with stage(f"contrast:net/{LAYER}") as f:
            ukj = (*uk, 5)
            f.array("contrast_image", rng.integers(0, n_images, ukj, dtype=np.int32))
            f.array("contrast_similarity", rng.random(ukj, dtype=np.float32))
            f.array("contrast_activation", np.zeros(ukj, np.float32))
            f.array("n_partner", np.full(uk, 5, np.int32))
            f.array("pool", np.full(n_units, n_images // 2, np.int32))
            f.array("threshold", np.full(n_units, 0.1, np.float32))
        with stage("vocabulary") as f:
            texts = pd.array([f"word {i}" for i in range(n_labels)], "string")
            f.table("labels", pd.DataFrame({"text": texts, "source": "synthetic"}))
            f.array("text", text_td)
        with stage("null", {"n_draws": 500}) as f:
            f.array("exemplar_count", np.full(500, 100, np.int32))
        with stage(f"scores:net/{LAYER}/csp", {"gamma": 1.0, "n_score": 30}) as f:
            best = (n_units, 20)
            f.array("label_uk", rng.integers(0, n_labels, best, dtype=np.int32))
            f.array("score_uk", -np.sort(-rng.random(best, dtype=np.float32)))
            for name in ("raw_uk", "margin_uk", "percentile_uk"):
                f.array(name, rng.random(best, dtype=np.float32))
            f.array("count_u", np.full(n_units, 20, np.int32))
            f.array("best_percentile_u", np.full(n_units, 0.99, np.float32))
            f.array("reliable_u", rng.random(n_units) < 0.5)
            f.array("vector_ud", vector_ud)
            f.array("n_exemplar_u", np.full(n_units, 30, np.int32))
            f.array("similarity_u", np.full(n_units, 0.5, np.float32))
            f.array("pool_u", np.full(n_units, n_images // 2, np.int32))
            f.array("reuse_u", np.zeros(n_units, np.float32))
            f.array("null_anchor", unit_rows(rng, 500, width))
            f.array("null_projection", np.zeros((500, width), np.float32))
            f.array("null_size", np.full(500, 30, np.int32))
        with stage("index:csp") as f:
            build_index(vector_ud).write(f.path / "index.faiss")
            units = np.arange(n_units, dtype=np.int32)
            rows = pd.DataFrame({"model": "net", "layer": LAYER, "unit": units})
            f.table("rows", rows)
        with stage("projection:csp") as f:
            centre = rng.normal(size=(40, 2)) * 8
            xy = centre[rng.integers(0, 40, n_units)] + rng.normal(size=(n_units, 2))
            f.array("xy", xy.astype(np.float32))
            f.table("rows", rows)
            f.facts.update(kind="umap", n_distinct=n_units, neighbour_recall=0.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="write the bundle here and keep it")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = options.keep or Path(scratch) / "synthetic.csp"
        if not (path / "manifest.json").exists():
            start = time.perf_counter()
            synthetic_bundle(path, options.units, options.images, 512, 10_000)
            print(f"synthetic bundle written in {time.perf_counter() - start:.0f} s")
        environment = {**os.environ, "CSP_BUNDLES": str(path), "PYTHONPATH": str(ROOT)}
        runs = []
        for _ in range(options.runs):
            answer = subprocess.run(
                [sys.executable, "-c", PROBE],
                env=environment,
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            runs.append(json.loads(answer.stdout.splitlines()[-1]))
    middle = {
        key: round(statistics.median(run[key] for run in runs), 3)
        for key in runs[0]
        if key != "torch_loaded"
    }
    worst = round(max(run["import_and_open_s"] for run in runs), 3)
    torch_loaded = any(run["torch_loaded"] for run in runs)
    print(f"{options.units:,} neurons x {options.images:,} images, median of {options.runs} runs")
    for key, value in middle.items():
        print(f"{key:20} {value:8.3f}")
    is_met = worst <= TARGET_S and not torch_loaded
    print(f"slowest import and open: {worst:.2f} s; torch loaded: {torch_loaded}")
    print(f"at most {TARGET_S:.0f} s without torch: {'met' if is_met else 'missed'}")
    result = {
        "units": options.units,
        "images": options.images,
        "runs": options.runs,
        "machine": platform.processor() or platform.machine(),
        "median": middle,
        "slowest_import_and_open_s": worst,
        "torch_loaded": torch_loaded,
        "target_s": TARGET_S,
        "is_met": is_met,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
