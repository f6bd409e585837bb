"""docs/benchmarks.md quotes what was measured, misses included."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
TABLES = "benchmark_tables"


def test_the_table_is_that_of_the_measured_figures(tables):
    assert tables.filled(PAGE) == PAGE, "run: python docs/benchmark_tables.py --write"


def test_every_target_of_the_browser_was_measured_often_enough_for_a_percentile(tables):
    found = json.loads(tables.browser.RESULT.read_text("utf-8"))
    for line in tables.browser.TARGETS:
        measured = [each[line]["n"] for each in found["bundles"].values() if line in each]
        assert measured, line
        assert min(measured) >= 30, line


def test_what_is_missed_is_explained(tables):
    missed = re.findall(r"^\| (.+?) \|.*\*\*missed\*\*", PAGE, re.M)
    why = PAGE.partition("### Why")[2]
    assert bool(missed) == bool(why), missed
