"""Table, filters, orders, families and map of very many neurons: what the pages ask the engine for.

Processor time and the most memory so far, on bundles of random content (``benchmarks.synthetic``).
The first table is made once by each server and each method, and kept; all else is made for each
click. What a browser adds is measured by ``benchmarks.browser``.
Run: python -m benchmarks.browsing [--names neurons131k,neurons1m]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.dataframe_util import convert_pandas_df_to_arrow_bytes

from benchmarks import synthetic
from csp_engine.bundle import Bundle
from csp_engine.views import lists
from csp_engine.views.address import FIRST, Narrowing, View
from csp_engine.views.memo import Memo
from csp_engine.views.neuron_map import colouring, inside, points_body, points_of, written
from csp_engine.views.table.rows import csv_bytes, neuron_table
from csp_engine.views.table.summary import meanings
from pages.ui.parts.strips import strip_urls
from pages.ui.table import neuron_rows

RESULT = Path(__file__).parent / "results" / "browsing.json"
METHOD = "csp"


def measured(name: str) -> dict[str, dict[str, float]]:
    """Every line of one bundle."""
    bundle, memo = Bundle.open(synthetic.bundle(name)), Memo()
    found: dict[str, dict[str, float]] = {}

    def timed(line: str, work: Callable[[], Any]) -> Any:
        clock, own = time.perf_counter(), time.process_time()
        value = work()
        found[line] = {
            "processor_ms": round(1000 * (time.process_time() - own), 1),
            "clock_ms": round(1000 * (time.perf_counter() - clock), 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        print(f"  {line:28}", *(f"{k} {v:10,.1f}" for k, v in found[line].items()), flush=True)
        return value

    print(f"{name}: {synthetic.SIZES[name].n_units:,} neurons", flush=True)
    rows = timed("first table", lambda: neuron_table(bundle, memo, METHOD))
    view = View(name, bundle.model_names[0], synthetic.LAYER, 0, METHOD)
    family = str(rows["family"].cat.categories[0])
    for line, keep in {
        "order: first": Narrowing(sort=FIRST),
        "order: score": Narrowing(sort="-score"),
        "order: what moves outputs": Narrowing(sort="moves_rank"),
        "order: label": Narrowing(sort="label"),
        "filter: label": Narrowing(sort=FIRST, has="word 12"),
        "filter: reliable": Narrowing(sort=FIRST, only="reliable"),
        "filter: range": Narrowing(sort=FIRST, where=(("score", (0.5, None)),)),
        "filter: family": Narrowing(sort=FIRST, family=family),
    }.items():
        kept = timed(line, lambda keep=keep: lists.ordered(rows, view, keep))
    kept = lists.ordered(rows, view, Narrowing(sort=FIRST))
    columns = neuron_rows.shown_columns(kept, view, Narrowing())
    drawn = kept.iloc[: neuron_rows.MOST_DRAWN]

    def sent() -> int:
        strips = strip_urls(name, bundle, drawn)
        return len(convert_pandas_df_to_arrow_bytes(drawn[columns].assign(strip=strips)))

    found["first table"]["sent_mb"] = round(timed("rows for the browser", sent) / 1e6, 1)
    timed("file of all rows", lambda: csv_bytes(kept, columns))
    timed("meanings", lambda: meanings(rows, bundle, memo))
    points = timed("first map", lambda: points_of(bundle, memo))
    body = timed("points for the browser", lambda: points_body(bundle, points))
    found["first map"]["sent_mb"] = round(len(body) / 1e6, 1)
    on_map = rows.iloc[points.row_m]
    for column in ("family", "percentile"):
        timed(f"map by {column}", lambda column=column: colouring(on_map[column], column))
    timed("names on the map", lambda: written(points, on_map["family"]))
    corners = np.array([(9, 9), (60_000, 9), (60_000, 60_000), (9, 60_000)]).ravel().tolist()
    timed("lasso", lambda: inside(points.xy_m2, tuple(corners)).sum())
    return found


def main() -> None:
    """Measure and write; the largest last, as memory only grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", default="neurons131k,neurons1m")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    cases = {name: measured(name) for name in options.names.split(",")}
    result = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "cases": cases}
    print(f"load of the last minute: {result['load']:.1f} on {result['cores']} cores")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
