"""docs/methods.md says what the code does, and names tests that exist."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from csp_engine.evaluation.ground_truth import TruthRule
from csp_engine.methods import METHODS
from studies import planted_geometry, truth_intervals

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def section(name):
    found = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert found, f"docs/methods.md has no section {name!r}"
    return found[1]


@pytest.mark.parametrize("name", list(METHODS))
def test_each_method_is_described_with_its_parameters_and_defaults(name):
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section(name), re.M)
    assert {key: json.loads(value) for key, value in rows} == dict(METHODS[name].params)


def test_every_test_that_is_named_exists():
    written = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    existing = set(re.findall(r"def (test_\w+)\(", written))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    assert named <= existing


def test_the_rule_of_true_concepts_is_described_with_its_defaults():
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section("Ground truth"), re.M)
    assert {key: json.loads(value) for key, value in rows} == asdict(TruthRule())


def test_the_coverage_table_is_the_measured_one():
    records = json.loads(truth_intervals.RESULT.read_text(encoding="utf-8"))
    shown = re.search(r"<!-- truth-intervals:.*?-->\n.*?\n\|---.*?\n(.*?)<!-- end -->", PAGE, re.S)
    assert shown
    assert shown[1].strip() == truth_intervals.markdown(records)


def test_the_planted_tables_are_the_measured_ones():
    results = ROOT / "studies" / "results" / "planted_geometry.json"
    records = json.loads(results.read_text(encoding="utf-8"))
    shown = re.search(r"<!-- planted-geometry:.*?-->\n(.*?)<!-- end -->", PAGE, re.S)
    assert shown
    assert shown[1].strip() == planted_geometry.markdown(records).strip()
