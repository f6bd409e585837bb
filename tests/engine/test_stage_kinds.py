"""Names of stages are made in one place, and taken apart there again."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csp_engine.bundle import kinds

ROOT = Path(__file__).resolve().parents[2]
WORD = st.text("abz09.@+_-", min_size=1, max_size=8)
MODEL = st.lists(WORD, min_size=1, max_size=3).map("/".join)


@pytest.mark.slow
@given(MODEL, WORD, WORD)
def test_names_are_taken_apart_into_what_they_were_made_of(model, layer, method):
    given_parts = {"model": model, "layer": layer}
    given_parts |= dict.fromkeys(("method", "statistic", "name"), method)
    for kind in kinds.KINDS.values():
        of = tuple(given_parts[part] for part in kind.of)
        name = kind.name(*of)
        assert kind.parts(name) == of
        assert [k for k in kinds.KINDS.values() if k.is_of(name)] == [kind]
        others = [k.name(*(given_parts[p] for p in k.of)) for k in kinds.KINDS.values()]
        assert list(kind.among(others)) == [of]


def test_a_name_of_too_few_parts_is_a_mistake():
    with pytest.raises(TypeError, match="of model, layer"):
        kinds.CONTRAST.name("resnet")


def test_kinds_need_earlier_ones():
    order = list(kinds.KINDS)
    for place, kind in enumerate(kinds.KINDS.values()):
        assert all(order.index(need) < place for need in kind.needs), kind.prefix
        assert len({file.name for file in kind.files}) == len(kind.files)


@pytest.mark.slow
def test_no_other_module_spells_the_name_of_a_stage():
    """Such as an f-string that begins with ``scores:``."""
    beginnings = tuple(f"{prefix}:" for prefix in kinds.KINDS)
    found = []
    for folder in ("csp_engine", "pages"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "kinds.py":
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    text = node.value
                    if text.startswith(beginnings) and "\n" not in text and ": " not in text:
                        found.append(f"{path.relative_to(ROOT)}:{node.lineno} {text!r}")
    assert found == []
