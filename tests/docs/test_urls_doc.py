"""docs/urls.md lists the parameters that pages read, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from csp_engine.views import address as state

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_lists_what_is_read():
    text = (ROOT / "docs" / "urls.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    files = [*ROOT.glob("pages/**/*.py"), *ROOT.glob("csp_engine/views/**/*.py")]
    code = "\n".join(path.read_text("utf-8") for path in files)
    read = set(re.findall(r"(?:(?<![.\w])params|query_params)\.get\(\"(\w+)\"", code))
    read |= {"q", "not"}  # read in a loop
    assert listed == read


def test_the_defaults_and_choices_are_those_of_the_code():
    text = (ROOT / "docs" / "urls.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.+)\|$", text, re.M))
    assert re.findall(r"`(\w+)`", rows["show"].split("|")[2]) == list(state.SHOWS)
    assert re.findall(r"\d+", rows["k"].split("|")[2]) == [str(k) for k in state.RESULT_COUNTS]
