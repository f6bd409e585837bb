"""docs/demo.md quotes the figures that were measured, and names what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from csp_engine.bundle import Bundle
from csp_engine.demo.simulator.cases import CLINICAL, PATCH_COLOURS, SCENARIOS
from csp_engine.demo.training.planted import KINDS
from csp_engine.numbers import plain_json
from csp_engine.views.accuracy import label_accuracy
from csp_engine.views.audit.associations import all_suspects, look
from csp_engine.views.audit.interventions import effects
from csp_engine.views.case.audit import melanoma
from csp_engine.views.memo import Memo
from tools import demo_tables
from tools.tables import MISSING

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")


def test_tables_are_those_of_the_measured_figures():
    assert demo_tables.filled(PAGE) == PAGE, "run: python -m tools.demo_tables --write"


def test_recorded_figures_of_labels_are_those_of_the_bundle():
    """The record is written when the demo is built; labels may have been made again since."""
    found = plain_json(label_accuracy(Bundle.open(demo_tables.DEMO.parent / "dermoscopy.csp")))
    kept = json.loads(demo_tables.DEMO.read_text("utf-8"))["quality"]["labels"]
    assert dict(numbers(kept)) == pytest.approx(dict(numbers(found)))


def test_what_the_retrained_classifier_still_sees_is_what_the_bundle_says():
    bundle, concepts = Bundle.open(demo_tables.DEMO.parent / "dermoscopy.csp"), melanoma(Memo())
    page = " ".join(PAGE.split())
    told = all_suspects(bundle, "retrained", concepts)
    assert told[: told.index(". Labels")] in page
    n = re.search(r"biased, ([\d,]+) neurons", all_suspects(bundle, "biased", concepts))
    assert f"the biased one has {n[1]}" in page
    found = look(bundle, Memo(), "retrained", "layer2@max", "dark corners", "csp_plus", concepts)
    assert f"Of the {found.truth.n} for dark corners, {found.truth.n_right} are right" in page
    for model, text in (("retrained", "its score by {}"), ("biased", "of `biased` by {}")):
        by_name = {each.artefact: each.effect for each in effects(bundle.intervention(model))}
        assert text.format(by_name["colour patch"].signed.partition(" ")[0]) in page


def numbers(value, path=""):
    """Every number in nested tables and lists, with the way to it."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in items:
            yield from numbers(each, f"{path}/{key}")
    elif isinstance(value, int | float):
        yield path, value


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
