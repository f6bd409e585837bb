"""docs/urls.md is the declaration of the parameters, word for word; pages use what it says."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from csp_engine.views.address import PARAMETERS, Narrowing, View
from csp_engine.views.address.parameters import OF_NARROWING, OF_VIEW
from csp_engine.views.comparison import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"layer": "table"}
"""Pages whose name in the document is not that of their file."""
OWN_FOLDERS = {"case": "melanoma"}


def rows() -> list[str]:
    text = (ROOT / "docs" / "urls.md").read_text("utf-8")
    return re.findall(r"^\| `\w+` \|.*$", text, re.M)


def test_the_table_is_the_declaration():
    declared = [
        f"| `{p.name}` | {', '.join(p.pages)} | {p.shown_default} | {p.meaning} |".replace(
            "|  |", "| |"
        )
        for p in PARAMETERS.values()
    ]
    assert rows() == declared


def test_every_choice_is_named():
    for parameter in PARAMETERS.values():
        named = set(re.findall(r"`(\w+)`", parameter.meaning))
        assert set(parameter.choices) <= named, parameter.name
    for name in ("show", "k"):
        parameter = PARAMETERS[name]
        assert re.findall(r"`(\w+)`", parameter.meaning) == list(parameter.choices)
    assert set(KINDS) <= set(re.findall(r"`(\w+)`", PARAMETERS["only"].meaning))


def test_views_hold_what_is_declared_for_them():
    held = {p.field or p.name for p in OF_VIEW}
    assert {field.name for field in fields(View)} == held | {"is_all_layers", "notes"}
    assert {f.name for f in fields(Narrowing)} == {p.field or p.name for p in OF_NARROWING} | {
        "notes"
    }


def used_by_pages() -> set[tuple[str, str]]:
    """Page and parameter, for what the files of one page alone read of the address."""
    fields_of = {p.field or p.name: p.name for p in OF_VIEW}
    found = set()
    pages = {path.stem for path in (ROOT / "pages").glob("*.py")} | {"table"}
    for path in (ROOT / "pages").rglob("*.py"):
        parts = path.relative_to(ROOT / "pages").with_suffix("").parts
        name = parts[1] if parts[0] == "ui" else parts[0]
        name = OWN_FOLDERS.get(name, name)
        if name not in pages:
            continue  # shared by several
        code = path.read_text("utf-8")
        asked = set(re.findall(r"query_params\.get\(\s*\"(\w+)\"", code))
        asked |= {fields_of[n] for n in re.findall(r"\bview\.(\w+)", code) if n in fields_of}
        found |= {(PAGES.get(name, name), each) for each in asked}
    return found


@pytest.mark.parametrize(("page", "parameter"), sorted(used_by_pages()))
def test_what_a_page_reads_is_declared_for_it(page, parameter):
    declared = PARAMETERS[parameter].pages
    assert page in declared or declared == ("all",)


def test_nothing_else_is_read():
    code = "\n".join(path.read_text("utf-8") for path in ROOT.glob("pages/**/*.py"))
    code += "\n".join(p.read_text("utf-8") for p in ROOT.glob("csp_engine/views/**/*.py"))
    read = set(re.findall(r"(?:(?<![.\w])params|query_params)\.get\(\s*\"(\w+)\"", code))
    read |= {"q", "not"}  # read in a loop
    read |= {p.name for p in PARAMETERS.values() if p.choices}  # as declared
    assert read == set(PARAMETERS)
