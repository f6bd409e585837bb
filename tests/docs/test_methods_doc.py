"""docs/methods.md says what the code does, and names tests that exist."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from csp_engine.audits.registered import AUDITS
from csp_engine.evaluation.associations.measuring import Rule
from csp_engine.evaluation.ground_truth import TruthRule
from csp_engine.evaluation.metrics.metric import SOURCES
from csp_engine.evaluation.metrics.registered import METRICS
from csp_engine.evidence.evidence import NEEDS
from csp_engine.methods import METHODS, resolve_params
from csp_engine.registry import extensions
from studies import association_null, planted_geometry, truth_intervals
from tools import planted_tables

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
# An extension describes what it adds in a methods.md of its own.
WRITTEN = "\n".join(
    [PAGE, *(p.read_text("utf-8") for f in extensions() if (p := f / "methods.md").is_file())]
)


EVERYTHING = [*METHODS.values(), *AUDITS.values(), *METRICS.values()]


def section(name):
    """What stands under a heading, to the next one of its level or above."""
    found = re.search(rf"^(##+) {re.escape(name)}$", WRITTEN, re.M)
    assert found, f"docs/methods.md has no section {name!r}"
    rest = WRITTEN[found.end() :]
    end = re.search(rf"^#{{2,{len(found[1])}}} ", rest, re.M)
    return rest[: end.start() if end else None]


@pytest.mark.parametrize("name", list(METHODS))
def test_each_method_is_described_with_its_parameters_and_defaults(name):
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section(METHODS[name].heading), re.M)
    assert {key: json.loads(value) for key, value in rows} == dict(METHODS[name].params)


@pytest.mark.parametrize("thing", EVERYTHING, ids=lambda thing: thing.name)
def test_all_that_is_registered_has_its_equation_departures_and_weaknesses(thing):
    written = section(thing.heading)
    assert re.search(r"^    \S.*=", written, re.M), "no equation"
    assert "departures" in written.lower()
    assert "weaknesses" in written.lower()
    for name in getattr(thing, "columns", ()):
        assert f"`{name}`" in written or name == thing.name


@pytest.mark.parametrize("thing", EVERYTHING, ids=lambda thing: thing.name)
def test_what_is_declared_of_it_can_be_shown(thing):
    """Titles and sentences as pages and the command line print them; needs that exist."""
    assert thing.title
    assert thing.title == thing.title.strip()
    sentence = getattr(thing, "summary", None) or thing.meaning
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert set(getattr(thing, "needs", ())) <= set(NEEDS)
    assert set(getattr(thing, "takes", ())) <= set(SOURCES)


def test_each_measured_column_names_a_word_of_the_glossary():
    words = re.findall(
        r"^- \*\*(.+?)\*\*:", (ROOT / "docs" / "glossary.md").read_text("utf-8"), re.M
    )
    for thing in (*AUDITS.values(), *METRICS.values()):
        assert not thing.term or thing.term in words, thing.name


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_published_parameters_are_within_the_declared_bounds(method):
    published = dict(resolve_params(method, method.published))
    assert published == {**method.params, **method.published}


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


def test_the_table_of_associations_by_chance_is_the_measured_one():
    found = json.loads(association_null.RESULT.read_text(encoding="utf-8"))
    shown = re.search(r"<!-- association-null:.*?-->\n.*?\n\|---.*?\n(.*?)<!-- end -->", PAGE, re.S)
    assert shown
    assert shown[1].strip() == association_null.markdown(found)
    assert found["n_layers"] >= 1000
    assert found["whole"]["family"]["low"] <= 0.05
    assert found["whole"]["bh"]["low"] <= 0.1


def test_the_rule_of_suspects_is_described_with_its_defaults():
    rows = re.findall(r"^\| `(\w+)` \| `?([\d.]+)`? \|", section("association"), re.M)
    assert {key: json.loads(value) for key, value in rows} == asdict(Rule())


def test_the_tables_of_planted_units_are_the_measured_ones():
    assert planted_tables.filled(PAGE) == PAGE, "run: python -m tools.planted_tables --write"
    assert re.findall(r"<!-- table: ([\w-]+) -->", PAGE) == list(planted_tables.TABLES)


def test_the_picture_of_planted_units_is_of_the_same_figures():
    drawn = planted_tables.PICTURE.read_text("utf-8")
    assert drawn == planted_tables.picture(), "run: python -m tools.planted_tables --write"


def test_the_planted_tables_are_the_measured_ones():
    results = ROOT / "studies" / "results" / "planted_geometry.json"
    records = json.loads(results.read_text(encoding="utf-8"))
    shown = re.search(r"<!-- planted-geometry:.*?-->\n(.*?)<!-- end -->", PAGE, re.S)
    assert shown
    assert shown[1].strip() == planted_geometry.markdown(records).strip()
