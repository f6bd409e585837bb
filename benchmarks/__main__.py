"""All measurements, one after the other: ``python -m benchmarks [NAME ...]``.

Each runs in a process of its own, prints a table, and writes ``benchmarks/results/NAME.json``.
Figures depend on the machine and on what else it does; ratios come from one run.
"""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = {
    "search": "exact text search over 100,000 neurons",
    "startup": "import of the pages and opening of a large bundle, without torch",
    "rescore": "new labels for 2,048 neurons x 10,000 labels",
    "contrast": "contrast mining at 50,000 images x 2,048 neurons, against the published search",
    "build": "a whole build against its unavoidable parts",
    "planted_geometry": "labels of planted neurons, by method and gamma",
    "truth_intervals": "how often the intervals of ground truth hold the true figure",
    "memory": "peak memory of builds of 5,000, 50,000 and 200,000 images (half an hour)",
}


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"No benchmark is called {unknown[0]!r}; there are {', '.join(BENCHMARKS)}.")
    failed = []
    for name in chosen:
        print(f"\n== {name}: {BENCHMARKS[name]}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
