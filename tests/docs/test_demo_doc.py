"""docs/demo.md quotes the figures that were measured, and names what exists."""

from __future__ import annotations

import re
from pathlib import Path

from csp_engine.demo.simulator.cases import CLINICAL, PATCH_COLOURS, SCENARIOS
from csp_engine.demo.training.planted import KINDS
from tools import demo_tables
from tools.tables import MISSING

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")


def test_tables_are_those_of_the_measured_figures():
    assert demo_tables.filled(PAGE) == PAGE, "run: python -m tools.demo_tables --write"


def test_every_table_stands_in_the_page():
    assert re.findall(r"<!-- table: ([\w-]+) -->", PAGE) == list(demo_tables.TABLES)
    assert PAGE.count("<!-- end -->") == len(demo_tables.TABLES)


def test_a_missing_file_is_said_and_never_guessed(monkeypatch, tmp_path):
    monkeypatch.setitem(demo_tables.TABLES, "search", (tmp_path / "none.json", demo_tables.search))
    assert demo_tables.table("search") == MISSING


def test_what_it_is_and_is_not_stands_at_the_top():
    head = PAGE[: PAGE.index("\n## ")]
    assert "Simulated images; research use; not a medical device" in head


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_scenarios_structures_colours_and_kinds_are_all_named():
    for name in (*SCENARIOS, *KINDS):
        assert f"`{name}`" in PAGE, name
    for name in (*CLINICAL, *PATCH_COLOURS):
        assert name.replace("_", " ").replace("blue white", "blue-white") in PAGE, name
