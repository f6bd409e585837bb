"""The tables of what a person waits for in docs/benchmarks.md, made from what was measured.

    python docs/benchmark_tables.py           print them
    python docs/benchmark_tables.py --write   put them into docs/benchmarks.md

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. Figures come from
``benchmarks/results``: ``browser.json``, ``crowd.json`` and ``step_profile.json``.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from types import ModuleType
from typing import Any

import demo_tables
from demo_tables import ROOT

sys.path.insert(0, str(ROOT))  # run as a script, only this folder is on the path
from benchmarks import browser, crowd, step_profile

PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = (
    "| What | At most | Median | 95th percentile | Runs | |",
    "|---|---|---|---|---|---|",
)


def waits() -> list[str]:
    """Every line that was measured in the browser, then what many people at once wait for."""
    return [*HEAD, *browser.markdown(read(browser)), *crowd.markdown(read(crowd))]


def step() -> list[str]:
    """Where the time of a step to the next neuron goes."""
    return step_profile.markdown(read(step_profile))


def read(benchmark: ModuleType) -> dict[str, Any]:
    """What a benchmark wrote."""
    return json.loads(benchmark.RESULT.read_text("utf-8"))


TABLES = {"browser": waits, "step": step}


def table(name: str) -> str:
    """One table."""
    return "\n".join(TABLES[name]())


filled = partial(demo_tables.filled, table=table)


if __name__ == "__main__":
    demo_tables.main(PAGE, TABLES, table)
