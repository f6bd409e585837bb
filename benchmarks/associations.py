"""How long does an audit by association take? 2,048 neurons x 40 columns x 2,000 images.

Everything that a build does for one layer: ranks, exact moments, the largest statistic under
exchange of whole groups, families, suspects, and bootstrap intervals of what is kept. Some units
are planted, so that there are suspects to bound. Beside it the matrix products of the exchanges
alone. Run: python -m benchmarks associations
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from csp_engine.evaluation.associations.measuring import Asked, Rule, associate

TARGET_S = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--columns", type=int, default=40)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--exchanges", type=int, default=1000)
    parser.add_argument("--per-group", type=int, default=1, help="images of one lesion")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    n, n_units, n_columns = options.images, options.units, options.columns
    value_nc = (rng.random((n, n_columns)) < 0.2).astype(np.float32)
    activation_un = rng.normal(size=(n_units, n)).astype(np.float32)
    planted = np.arange(2 * n_columns) % n_columns
    activation_un[: len(planted)] += 3 * value_nc.T[planted]
    group_n = None if options.per_group == 1 else np.arange(n) // options.per_group
    asked = Asked(
        value_nc, np.eye(n_columns, dtype=bool), np.zeros(value_nc.shape, np.int64), group_n
    )
    start, start_cpu = time.perf_counter(), time.process_time()
    found = associate(activation_un, asked, Rule(n_permutations=options.exchanges))
    whole_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    moved = np.tile(value_nc, (1, 10))
    start = time.perf_counter()
    for _ in range(options.exchanges // 10):
        activation_un @ moved
    products_s = time.perf_counter() - start
    result = {
        "n_units": n_units,
        "n_columns": n_columns,
        "n_images": n,
        "n_exchanges": options.exchanges,
        "n_per_group": options.per_group,
        "n_cores": len(os.sched_getaffinity(0)),
        "n_suspects": int(found.kept.is_suspect_k.sum()),
        "whole_s": round(whole_s, 2),
        "cpu_s": round(cpu_s, 2),
        "products_s": round(products_s, 2),
        "target_s": TARGET_S,
    }
    print(json.dumps(result, indent=1))
    (options.out / "associations.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
