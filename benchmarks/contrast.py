"""How long does it take to find the contrast images of a layer, and are they the right ones?

One synthetic layer: 2,048 neurons x 50,000 images x 512 dimensions, 100 exemplars, the paper's rule
(quiet = below the probe mean, one contrast image, reuse). Image vectors sit as those of CLIP do: a
direction all share, some hundred clusters, attributes that cross them; neurons follow clusters and
attributes, so that an exemplar's neighbours tend to excite the neuron too.

In the same run, in turns with ours: the published search (one neuron at a time: read its column
from a row-chunked store, copy the quiet vectors, one product per exemplar), timed on some neurons
and *extrapolated* to the layer; and a masked search in float64 on other neurons, to compare with.
Run: python -m benchmarks.contrast [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

from benchmarks.synthetic import unit_rows
from csp_engine.evidence.contrast import ContrastRule, mine_contrast
from csp_engine.evidence.exemplars import rank_exemplars
from csp_engine.types import Exemplars

RESULT_PATH = Path(__file__).parent / "results" / "contrast.json"
# As the published code has them by default: 128 batches of 128 images make a chunk of the store,
# and quiet vectors are compared 4,096 at a time.
STORE_ROWS = 128 * 128
PUBLISHED_BATCH = 4096


def draw_layer(
    folder: Path, n_images: int, n_units: int, n_ranks: int, width: int, seed: int
) -> None:
    """Write image vectors, activations (neuron-major and as row-chunked store), exemplars."""
    rng = np.random.default_rng(seed)
    n_clusters, n_attributes = max(8, n_images // 125), 64
    direction = unit_rows(rng, 1 + n_clusters + n_attributes, width)
    cluster_n = rng.integers(0, n_clusters, n_images)
    # Each cluster has attributes of its own, each image some more.
    often_ca = rng.random((n_clusters, n_attributes)) < 0.05
    has_na = often_ca[cluster_n] & (rng.random((n_images, n_attributes)) < 0.7)
    has_na |= rng.random(has_na.shape) < 0.03
    image_nd = 1.2 * direction[0] + 0.75 * direction[1 + cluster_n]
    image_nd += 0.3 * has_na.astype(np.float32) @ direction[1 + n_clusters :]
    image_nd += 0.5 * unit_rows(rng, n_images, width)
    image_nd = (image_nd / np.linalg.norm(image_nd, axis=1, keepdims=True)).astype(np.float32)
    np.save(folder / "image_nd.npy", image_nd)

    acts_un = np.lib.format.open_memmap(
        folder / "acts_un.npy", "w+", np.float32, (n_units, n_images)
    )
    store_nu = zarr.create_array(
        folder / "acts_nu.zarr",
        shape=(n_images, n_units),
        chunks=(min(STORE_ROWS, n_images), n_units),
        dtype="float32",
    )
    centred_nd = image_nd - image_nd.mean(axis=0)
    # A neuron is one concept, some with a second, weaker one; half are sparse, half nearly dense.
    main_u = direction[rng.integers(1, len(direction), n_units)]
    attribute_u = direction[rng.integers(1 + n_clusters, len(direction), n_units)]
    main_u[: n_units // 2] = attribute_u[: n_units // 2]
    second_u = direction[rng.integers(1, len(direction), n_units)]
    weight_ud = main_u + rng.choice([0.0, 0.5], (n_units, 1)).astype(np.float32) * second_u
    bias_u = rng.choice(np.float32([-0.15, 0.1]), n_units)
    step = max(1, 8_000_000 // n_images)
    for start in range(0, n_units, step):
        block_un = weight_ud[start : start + step] @ centred_nd.T
        block_un += 0.05 * rng.standard_normal(block_un.shape, dtype=np.float32)
        block_un += bias_u[start : start + step, None]
        acts_un[start : start + step] = np.maximum(block_un, 0)
    for start in range(0, n_images, STORE_ROWS):
        store_nu[start : start + STORE_ROWS] = acts_un[:, start : start + STORE_ROWS].T
    exemplars = rank_exemplars(acts_un, n_ranks)
    np.save(folder / "exemplar_uk.npy", exemplars.image_uk)
    np.save(folder / "activation_uk.npy", exemplars.activation_uk)
    np.save(folder / "count_u.npy", exemplars.count_u)


def load_exemplars(folder: Path) -> Exemplars:
    return Exemplars(
        np.load(folder / "exemplar_uk.npy"),
        np.load(folder / "activation_uk.npy"),
        np.load(folder / "count_u.npy"),
    )


def mine_alone(folder: Path, rule: ContrastRule) -> None:
    """Body of the process whose memory is measured."""
    image_nd = np.load(folder / "image_nd.npy")
    acts_un = np.load(folder / "acts_un.npy", mmap_mode="r")
    exemplars = load_exemplars(folder)
    for start in range(0, len(acts_un), 64):
        acts_un[start : start + 64].max()  # what is timed is the search, not the disk
    start, cpu_start = time.perf_counter(), time.process_time()
    found = mine_contrast(acts_un, exemplars, image_nd, rule)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    np.save(folder / "contrast_ukj.npy", found.image_ukj)
    np.save(folder / "n_partner_uk.npy", found.n_partner_uk)
    np.save(folder / "pool_u.npy", found.pool_u)
    used = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gib": peak_kilobytes() / 2**20}
    print(json.dumps(used))


def peak_kilobytes() -> int:
    """Peak resident memory of this process, mapped files included."""
    # ru_maxrss also remembers the process that started this one; VmHWM begins anew.
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def time_ours(folder: Path, *options: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.contrast", "--mine", str(folder), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def published_search(
    store_path: Path, image_nd: np.ndarray, query_k: np.ndarray, mean: float, unit: int
) -> tuple[np.ndarray, float]:
    """One neuron as the authors' code does it; also the seconds spent reading its column.

    Written again from their description of steps: open the store, take one column of it, copy the
    quiet vectors, one product per exemplar and batch, keep the running maximum.
    """
    import torch  # Here, so that it does not count in the memory of the process that mines.

    torch.set_grad_enabled(False)
    start = time.perf_counter()
    acts_n = torch.from_numpy(zarr.open_array(store_path, mode="r").oindex[:, [unit]]).squeeze(1)
    read_seconds = time.perf_counter() - start
    quiet = torch.nonzero(acts_n < mean)[:, 0]
    vectors_nd = torch.from_numpy(image_nd)
    quiet_nd = vectors_nd[quiet]
    query_kd = vectors_nd[torch.from_numpy(query_k).long()]
    out_k = torch.empty(len(query_k), dtype=torch.long)
    for rank in range(len(query_k)):
        best, place = torch.tensor(-torch.inf), torch.tensor(0)
        for first in range(0, len(quiet), PUBLISHED_BATCH):
            batch_md = quiet_nd[first : first + PUBLISHED_BATCH]
            similarity_m = torch.einsum("d,md->m", query_kd[rank], batch_md)
            value, at = similarity_m.max(dim=0)
            if value > best:
                best, place = value, at + first
        out_k[rank] = place
    return quiet[out_k].numpy(), read_seconds


def best_product(image_nd: np.ndarray, other_nd: np.ndarray, n_rows: int) -> dict[str, float]:
    """Seconds of one product of so many rows with others, by each library; nothing is kept of it.

    Timed on the first images, at most 4,096, and extrapolated to ``n_rows``.
    """
    import torch

    step = min(4096, n_rows)
    rows_nd, out = image_nd[:step], np.empty((step, len(other_nd)), np.float32)
    left, right, into = map(torch.from_numpy, (rows_nd, other_nd, out))
    found = {}
    for name, work in (
        ("numpy", lambda: np.matmul(rows_nd, other_nd.T, out=out)),
        ("torch", lambda: torch.mm(left, right.T, out=into)),
    ):
        work()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        found[name] = min(times) * n_rows / step
    return found


def masked_search(image_nd: np.ndarray, acts_n: np.ndarray, query_k: np.ndarray) -> np.ndarray:
    """All images against all exemplars in float64, mask, first of the largest."""
    similarity_kn = image_nd[query_k].astype(np.float64) @ image_nd.T.astype(np.float64)
    similarity_kn[:, ~(acts_n < acts_n.astype(np.float64).mean())] = -np.inf
    similarity_kn[np.arange(len(query_k)), query_k] = -np.inf
    best_k = similarity_kn.max(axis=1, keepdims=True)
    return (similarity_kn >= best_k - 1e-12).argmax(axis=1)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    draw_layer(folder, args.images, args.units, args.ranks, args.width, args.seed)
    image_nd = np.load(folder / "image_nd.npy")
    acts_un = np.load(folder / "acts_un.npy", mmap_mode="r")
    exemplars = load_exemplars(folder)
    rng = np.random.default_rng(args.seed + 1)
    runs, published, ratios, search_ratios, same_as_published = [], [], [], [], []
    products: list[float] = []
    n_distinct = len(np.unique(exemplars.image_uk))
    # Once before anything counts, so that libraries are loaded and files are in memory.
    warm = exemplars.image_uk[0, : exemplars.count_u[0]]
    published_search(folder / "acts_nu.zarr", image_nd, warm, float(acts_un[0].mean()), 0)
    for _ in range(args.repeats):
        ours = time_ours(folder)
        contrast_uk = np.load(folder / "contrast_ukj.npy")[:, :, 0]
        timed = []
        for unit in rng.choice(args.units, args.published_neurons, replace=False).tolist():
            query_k = exemplars.image_uk[unit, : exemplars.count_u[unit]]
            mean = float(acts_un[unit].mean())
            start = time.perf_counter()
            found_k, read_seconds = published_search(
                folder / "acts_nu.zarr", image_nd, query_k, mean, unit
            )
            seconds = time.perf_counter() - start
            timed.append({"seconds": seconds, "searching": seconds - read_seconds})
            same_as_published.append(float((found_k == contrast_uk[unit, : len(query_k)]).mean()))
        runs.append(ours)
        products.append(min(best_product(image_nd, image_nd, n_distinct).values()))
        published += timed
        for name, kept in (("seconds", ratios), ("searching", search_ratios)):
            per_layer = statistics.mean(t[name] for t in timed) * args.units
            kept.append(round(per_layer / ours["seconds"], 1))
    checked = rng.choice(args.units, min(args.checked_neurons, args.units), replace=False).tolist()
    n_pairs = n_same = 0
    for unit in checked:
        query_k = exemplars.image_uk[unit, : exemplars.count_u[unit]]
        expected_k = masked_search(image_nd, np.asarray(acts_un[unit]), query_k)
        n_pairs += len(query_k)
        n_same += int((expected_k == contrast_uk[unit, : len(query_k)]).sum())
    per_neuron = statistics.median(p["seconds"] for p in published)
    pool_u = np.load(folder / "pool_u.npy")
    result: dict[str, object] = {
        "images": args.images,
        "neurons": args.units,
        "exemplars": args.ranks,
        "width": args.width,
        "distinct_exemplar_images": n_distinct,
        "median_quiet_share": float(np.median(pool_u / args.images)),
        "seconds": [round(r["seconds"], 2) for r in runs],
        "cpu_seconds": [round(r["cpu_seconds"], 2) for r in runs],
        "product_seconds": [round(p, 2) for p in products],
        "ratio_to_product": [
            round(r["seconds"] / p, 2) for r, p in zip(runs, products, strict=True)
        ],
        "peak_gib": round(max(r["peak_gib"] for r in runs), 2),
        "published_seconds_per_neuron": round(per_neuron, 3),
        "published_seconds_searching": round(
            statistics.median(p["searching"] for p in published), 3
        ),
        "published_neurons_timed": len(published),
        "published_seconds_extrapolated": round(per_neuron * args.units),
        "ratios": ratios,
        "ratio_median": statistics.median(ratios),
        "ratio_median_without_reading": statistics.median(search_ratios),
        "share_same_as_published": round(statistics.mean(same_as_published), 4),
        "neurons_checked": len(checked),
        "pairs_checked": n_pairs,
        "pairs_identical": n_same,
        "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    if args.no_reuse:
        result["seconds_without_reuse"] = round(time_ours(folder, "--no-reuse")["seconds"], 1)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small layer, for seconds")
    parser.add_argument("--no-reuse", action="store_true", help="also time the exact assignment")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--ranks", type=int, default=100)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--published-neurons", type=int, default=2, help="per repeat")
    parser.add_argument("--checked-neurons", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mine", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mine:
        mine_alone(args.mine, ContrastRule(reuse=not args.no_reuse))
        return
    if args.quick:
        args.images, args.units, args.ranks, args.width = 5000, 128, 30, 128
    with tempfile.TemporaryDirectory() as folder:
        result = measure(args, Path(folder))
    for name, value in result.items():
        print(f"{name:32} {value}")
    if args.quick:
        print("quick run: numbers not kept")
        return
    RESULT_PATH.parent.mkdir(exist_ok=True)
    RESULT_PATH.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {RESULT_PATH}")


if __name__ == "__main__":
    main()
