"""Latents of an autoencoder, kept sparsely: from the rows of a pass to contrast images.

Images lie in 2,000 clusters. Half of the latents that fire on an image belong to its cluster, half
to any, so the nearest images of an exemplar often excite its latent, too. Rows are made as a pass
writes them, embeddings are given. Timed are, by processor and clock: turning rows into columns,
exemplars and statistics of all latents, and contrast images (100 exemplars with 5 each). Each size
is a process of its own, whose peak memory is told.
Run: python -m benchmarks.latents [--images 25000,50000] [--units 131072] [--share 0.01]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contrast import peak_kilobytes
from csp_engine.bundle import StageFolder, sparse_rows, write_activations
from csp_engine.bundle.passing.sparse import IMAGE, START, VALUE, SparseActivations
from csp_engine.evidence import exemplars
from csp_engine.evidence.contrast import mine_contrast
from csp_engine.evidence.cores import n_cores
from csp_engine.pipeline.recipe import Recipe
from csp_engine.vectors import normalise_rows

RESULT = Path(__file__).parent / "results" / "latents.json"
N_CLUSTERS, WIDTH, BLOCK_BYTES = 2_000, 512, 1 << 26


@contextmanager
def timed(step: str, found: dict[str, Any]) -> Iterator[None]:
    clock, own = time.perf_counter(), time.process_time()
    yield
    used = {"seconds": time.perf_counter() - clock, "processor": time.process_time() - own}
    found[step] = {name: round(value, 1) for name, value in used.items()}
    print(f"  {step:12} {found[step]}  peak {peak_kilobytes() / 2**20:.2f} GiB", flush=True)


def write_world(folder: Path, n_units: int, n_images: int, share: float) -> np.ndarray:
    """The rows of a pass, and the encoder vectors."""
    rng = np.random.default_rng(0)
    centre_cd = normalise_rows(rng.standard_normal((N_CLUSTERS, WIDTH)).astype(np.float32))
    cluster_n = rng.integers(0, N_CLUSTERS, n_images)
    n_own = int(share * n_units)
    own_cu = rng.integers(0, n_units, (N_CLUSTERS, n_own))
    with (folder / "rows.part").open("wb") as out:
        for cluster in cluster_n.tolist():
            own = own_cu[cluster][rng.random(n_own) < 0.5]
            unit_m = np.unique(np.concatenate([own, rng.integers(0, n_units, n_own // 2)]))
            value_m = rng.exponential(1, len(unit_m)).astype(np.float32)
            out.write(np.int32(len(unit_m)).tobytes() + unit_m.astype(np.int32).tobytes())
            out.write(value_m.tobytes())
    image_nd = np.empty((n_images, WIDTH), np.float32)
    for start in range(0, n_images, 10_000):
        part = slice(start, min(start + 10_000, n_images))
        noise = rng.standard_normal((part.stop - start, WIDTH)).astype(np.float32) / WIDTH**0.5
        image_nd[part] = normalise_rows(centre_cd[cluster_n[part]] + noise)
    return image_nd


def measure(folder: Path, n_units: int, n_images: int, share: float) -> dict[str, Any]:
    """One size, in this process."""
    found: dict[str, Any] = {"units": n_units, "images": n_images}
    with timed("world", found):
        image_nd = write_world(folder, n_units, n_images, share)
    stage = folder / "stage"
    stage.mkdir()
    with timed("turn", found):
        write_activations(StageFolder(stage), (n_units, n_images), folder / "rows.part")
    found["rows_gb"] = round((folder / "rows.part").stat().st_size / 1e9, 2)
    (folder / "rows.part").unlink()
    arrays = [np.load(stage / f"{name}.npy", mmap_mode="r") for name in (START, IMAGE, VALUE)]
    held = SparseActivations("The benchmark", n_images, *arrays)
    found["share"] = round(len(arrays[1]) / held.size, 4)
    ranked: list[Any] = []
    step = max(1, BLOCK_BYTES // (4 * n_images))
    with timed("exemplars", found):
        for start in range(0, n_units, step):
            block_un = held[start : start + step]
            ranked.append(exemplars.rank_exemplars(block_un, 100, first_unit=start))
            exemplars.unit_statistics(block_un, first_unit=start)
            exemplars.stratified_samples(block_un, seed=0, first_unit=start)
            exemplars.random_samples(block_un, seed=0, first_unit=start)
    joined = type(ranked[0])(
        *(
            np.concatenate([getattr(each, name) for each in ranked])
            for name in ("image_uk", "activation_uk", "count_u")
        )
    )
    del ranked
    recipe = Recipe(exclude_near_duplicates=False, exclude_same_group=False)
    with timed("contrast", found):
        mine_contrast(held, joined, image_nd, recipe.contrast_rule())
    found["peak_gib"] = round(peak_kilobytes() / 2**20, 2)
    return found


def check() -> None:
    """That the rows made here are those that a pass writes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_world(folder, 400, 30, 0.05)
        (folder / "s").mkdir()
        write_activations(StageFolder(folder / "s"), (400, 30), folder / "rows.part")
        arrays = (np.load(folder / "s" / f"{each}.npy") for each in (START, IMAGE, VALUE))
        held = SparseActivations("A check", 30, *arrays)
        assert sparse_rows(held[:].T) == (folder / "rows.part").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="12500,25000,50000")
    parser.add_argument("--units", type=int, default=131_072)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        size = options.units, int(options.images), options.share
        (options.folder / "found.json").write_text(json.dumps(measure(options.folder, *size)))
        return
    check()
    rows = []
    for n_images in options.images.split(","):
        print(f"{options.units:,} latents x {int(n_images):,} images", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            size = ["--images", n_images, "--units", f"{options.units}", "--share"]
            command = [sys.executable, "-m", "benchmarks.latents", *size, f"{options.share}"]
            subprocess.run([*command, "--folder", folder], check=True)
            rows.append(json.loads((Path(folder) / "found.json").read_text()))
    machine = {"cores": n_cores(), "processor": platform.processor(), "load": os.getloadavg()[0]}
    RESULT.write_text(json.dumps({"machine": machine, "sizes": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
