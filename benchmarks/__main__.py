"""All measurements, one after the other: ``python -m benchmarks [NAME [ARGUMENT ...] ...]``.

Each runs in a process of its own, prints a table, and writes ``benchmarks/results/NAME.json``.
Figures depend on the machine and on what else it does; ratios come from one run.
"""

from __future__ import annotations

import subprocess
import sys

from studies.__main__ import STUDIES

BENCHMARKS = {
    "search": "exact text search over 100,000 neurons",
    "million": "text search over a million neurons, exact and by codes (ten minutes)",
    "browsing": "table, filters, families and map of 131,072 and of a million neurons",
    "startup": "import of the pages and opening of a large bundle, without torch",
    "browser": "what a person waits for in a real browser (half an hour)",
    "step_profile": "where the time of a step to the next neuron goes",
    "crowd": "twenty people at once, and memory per session",
    "rescore": "new labels for 2,048 neurons x 10,000 labels",
    "csp_plus": "CSP+ at 50,000 images x 2,048 neurons x 10,000 labels",
    "labelling": "processor time of three methods, of simulation, and of labelling a bundle again",
    "associations": "suspects of 40 columns among 2,048 neurons, 1,000 exchanges",
    "columns": "figures of 7 concept columns for 2,832 neurons",
    "auditing": "interventions, fixes, factors, changed images and reports of the demo",
    "contrast": "contrast mining at 50,000 images x 2,048 neurons, against the published search",
    "latents": "131,072 latents kept sparsely, to their contrast images, by number of images",
    "build": "a whole build against its unavoidable parts",
    "library": "a build against bare passes and the SemanticLens library (to be installed)",
    "shards": "a build in shards against one without, and the merge of 100",
    "publishing": "a site of 10,000 neurons: to write it, to open a neuron, to search",
    "memory": "peak memory of builds of 5,000, 50,000 and 200,000 images (half an hour)",
}


def main() -> None:
    chosen: list[list[str]] = []
    for word in sys.argv[1:]:
        if word in BENCHMARKS:
            chosen.append([word])
        elif chosen:
            chosen[-1].append(word)
        elif word in STUDIES:
            sys.exit(f"{word} is a study now: python -m studies {' '.join(sys.argv[1:])}")
        else:
            sys.exit(f"No benchmark is called {word!r}; there are {', '.join(BENCHMARKS)}.")
    failed = []
    for name, *arguments in chosen or [[name] for name in BENCHMARKS]:
        print(f"\n== {name}: {BENCHMARKS[name]}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
