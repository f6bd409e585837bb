"""Where a neuron looks: by the address, asked for by the grid, never without its checks."""

from __future__ import annotations

import json

import pytest

from csp_engine.bundle import Bundle
from pages.ui.shell import store
from tests.pages.conftest import HERE, html, open_page, visiting


def grids(at) -> list[dict]:
    elements = at.get("bidi_component")
    return [
        json.loads(each.proto.json)
        for each in elements
        if each.proto.component_name.endswith("csp_tiles")
    ]


@pytest.mark.parametrize(
    ("look", "words"), [("activation", "neuron itself"), ("gradient", "COCOA")]
)
def test_a_map_comes_with_what_its_checks_say(serve, small_bundle, look, words):
    serve(small_bundle)
    at = open_page("neuron", layer="second@mean", unit="5", look=look)
    assert not at.exception
    (grid,) = grids(at)
    digest = Bundle.open(small_bundle).digest[:16]
    (url,) = grid["maps"]
    assert url.startswith(f"/csp/maps/small/{digest}/{look}/1-5/")
    assert url.rsplit("/", 1)[1] == grid["packs"][0].rsplit("/", 1)[1]  # of the same images
    assert words in html(at)
    assert "<strong>Not checked.</strong>" in html(at)


def test_without_a_choice_nothing_is_asked(serve, small_bundle):
    serve(small_bundle)
    for look in ({}, {"look": "none"}, {"look": "sideways"}):
        at = open_page("neuron", layer="second@mean", unit="5", **look)
        assert not at.exception
        assert grids(at)[0]["maps"] == []
        assert "Not checked" not in html(at)
    assert "sideways" in html(at)


def test_an_address_is_answered_by_the_process_and_by_a_sentence(serve, small_bundle, monkeypatch):
    serve(small_bundle)
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    digest = Bundle.open(small_bundle).digest[:16]
    found = visiting(host="localhost:8501").get(f"{HERE}/csp/maps/small/{digest}/activation/1-5/3")
    store.MAPS.close()
    assert found.status_code in (401, 403, 409)
    if found.status_code == 409:
        assert "runs only if you trust it" in found.text
        assert "Traceback" not in found.text
