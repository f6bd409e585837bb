"""How long do figures of concept columns take? 2,832 neurons x 7 columns x 4,000 images.

Pearson, AUROC and average precision of every neuron with every column, as a build measures them;
one column has gaps, so that its images are ranked apart. Run: python -m benchmarks columns
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from csp_engine.evaluation.column_fit import column_fit

TARGET_S = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2832)
    parser.add_argument("--columns", type=int, default=7)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    value_nc = (rng.random((options.images, options.columns)) < 0.2).astype(np.float32)
    value_nc[rng.random(options.images) < 0.3, -1] = np.nan
    activation_un = np.maximum(rng.normal(size=(options.units, options.images)), 0)
    start, start_cpu = time.perf_counter(), time.process_time()
    found = column_fit(activation_un.astype(np.float32), value_nc)
    whole_s, cpu_s = time.perf_counter() - start, time.process_time() - start_cpu
    assert np.isfinite(found.auroc_uc).all()
    result = {
        "n_units": options.units,
        "n_columns": options.columns,
        "n_images": options.images,
        "n_cores": len(os.sched_getaffinity(0)),
        "whole_s": round(whole_s, 2),
        "cpu_s": round(cpu_s, 2),
        "target_s": TARGET_S,
    }
    print(json.dumps(result, indent=1))
    (options.out / "columns.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
