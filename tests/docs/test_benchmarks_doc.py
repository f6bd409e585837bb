"""docs/benchmarks.md quotes what was measured, misses included."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools import benchmark_tables

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_the_table_is_that_of_the_measured_figures():
    assert benchmark_tables.filled(PAGE) == PAGE, "run: python -m tools.benchmark_tables --write"


def test_every_target_of_the_browser_was_measured_often_enough_for_a_percentile():
    found = json.loads(benchmark_tables.browser.RESULT.read_text("utf-8"))
    for line in benchmark_tables.browser.TARGETS:
        measured = [each[line]["n"] for each in found["bundles"].values() if line in each]
        assert measured, line
        assert min(measured) >= 30, line


def test_what_is_missed_is_explained():
    missed = re.findall(r"^\| (.+?) \|.*\*\*missed\*\*", PAGE, re.M)
    why = PAGE.partition("### Why")[2]
    assert bool(missed) == bool(why), missed
