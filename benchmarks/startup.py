"""How long until the pages could answer? Import their code and open 2,048 neurons x 50,000 images.

Starts fresh processes that import the page code, open a synthetic bundle, read one neuron and
search once, and tell what that took and whether torch came along.
Run: python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import synthetic

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "startup.json"
TARGET_S = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    size, path = synthetic.SIZES["synthetic"], synthetic.bundle("synthetic")
    environment = {**os.environ, "CSP_BUNDLES": str(path), "PYTHONPATH": str(ROOT)}
    runs = []
    for _ in range(options.runs):
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.startup_probe"],
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
    print(f"{size.n_units:,} neurons x {size.n_images:,} images, median of {options.runs} runs")
    for key, value in middle.items():
        print(f"{key:20} {value:8.3f}")
    is_met = worst <= TARGET_S and not torch_loaded
    print(f"slowest import and open: {worst:.2f} s; torch loaded: {torch_loaded}")
    print(f"at most {TARGET_S:.0f} s without torch: {'met' if is_met else 'missed'}")
    result = {
        "units": size.n_units,
        "images": size.n_images,
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
