"""docs/melanoma.md quotes the figures that were measured on real photographs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools import melanoma_tables

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "melanoma.md").read_text(encoding="utf-8")


def test_tables_are_those_of_the_measured_figures():
    assert melanoma_tables.filled(PAGE) == PAGE, "run: python -m tools.melanoma_tables --write"
    assert re.findall(r"<!-- table: ([\w-]+) -->", PAGE) == list(melanoma_tables.TABLES)
    assert PAGE.count("<!-- end -->") == len(melanoma_tables.TABLES)


def test_only_aggregate_figures_of_every_artefact_are_kept():
    found = json.loads(melanoma_tables.BROWSER.read_text("utf-8"))
    assert "ISIC_" not in json.dumps(found)
    assert set(found["encoders"]) == set(melanoma_tables.ENCODERS)
    for browsed in found["encoders"].values():
        assert {row["artefact"] for row in browsed["search"]} == set(melanoma_tables.ARTEFACTS)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    headings = re.findall(r"^#+ (.+)$", PAGE, re.M)
    known = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= known
