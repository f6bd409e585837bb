"""What ``benchmarks.startup`` times in its own process: import, opening, a neuron, a search."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

START = time.perf_counter()

from csp_engine.views import lists
from csp_engine.views.address import Narrowing, read_view
from csp_engine.views.images.pairs import pair_tiles
from csp_engine.views.neuron import candidates
from csp_engine.views.neuron.statistics import statistics
from pages.ui.neuron import sections  # noqa: F401  what the pages bring in counts too
from pages.ui.routes import ours  # noqa: F401
from pages.ui.search import results  # noqa: F401
from pages.ui.shell import server, store  # noqa: F401

IMPORTED = time.perf_counter()


def main() -> None:
    name = next(iter(store.known_bundles()))
    bundle = store.open_bundle(name)
    view = read_view({"unit": "1000", "q": "word 17"}, name, bundle)
    opened = time.perf_counter()
    pair_tiles(bundle, store.MEMO, view.neuron, 30)
    statistics(bundle, view.neuron)
    candidates.stored(bundle, view.neuron, "csp")
    shown = time.perf_counter()
    found = lists.searched(bundle, store.MEMO, view, store.query_of(bundle, view))
    rows = lists.ordered(found, view, Narrowing())
    searched = time.perf_counter()
    assert len(rows) == bundle.n_units(view.model, view.layer)
    status = Path("/proc/self/status")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if status.exists():  # the line above also counts the process that started this one
        rss = next(int(line.split()[1]) for line in status.open() if line.startswith("VmRSS"))
    result = {
        "import_s": IMPORTED - START,
        "open_s": opened - IMPORTED,
        "import_and_open_s": opened - START,
        "first_neuron_s": shown - opened,
        "first_search_s": searched - shown,
        "rss_mb": rss / 1024,
        "torch_loaded": "torch" in sys.modules,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
