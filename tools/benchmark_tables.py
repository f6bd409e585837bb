"""The tables of docs/benchmarks.md: ``python -m tools.benchmark_tables [--write]``.

Figures come from ``benchmarks/results``: ``browser.json``, ``crowd.json`` and
``step_profile.json``.
"""

from __future__ import annotations

import json
from functools import partial
from types import ModuleType
from typing import Any

from benchmarks import browser, crowd, step_profile
from tools import tables
from tools.tables import ROOT

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


filled = partial(tables.filled, table=table)


if __name__ == "__main__":
    tables.main(PAGE, TABLES, table)
