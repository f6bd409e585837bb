"""What a step of the slider shows before the page has come: the list of the page, and only text."""

from __future__ import annotations

import json

import pytest

from pages.ui.neuron import ranked
from pages.ui.shell import store
from tests.pages.conftest import component, html, open_page
from tests.pages.test_ahead import TAGS, Markup
from tests.worlds.hostile_world import HOSTILE

PLACE = {"model": "small", "layer": "second@mean", "unit": "5", "method": "csp"}


def answered(name: str, **params: str):
    return ranked.answer(name, store.open_bundle(name).digest[:16], params)


def told(name: str, **params: str) -> dict:
    answer = answered(name, **params)
    assert answer.status_code == 200
    return json.loads(bytes(answer.body))


@pytest.mark.parametrize("gamma", ["0", "0.35", "0.7"])
def test_the_slider_and_the_page_show_the_same_list(serve, small_bundle, gamma):
    serve(small_bundle)
    at = open_page("neuron", **PLACE, gamma=gamma)
    held = component(at, "csp_ranked")
    assert held["asked"] == PLACE
    assert held["gamma"] == float(gamma)
    assert held["route"] == f"/csp/ranked/small/{store.open_bundle('small').digest[:16]}"
    found = told("small", **held["asked"], gamma=gamma)
    assert found["of"] == f"small/second@mean/5 csp {float(gamma):g}"
    assert f"At γ = {float(gamma):g}," in found["body"]
    assert found["body"] in html(at)


def test_labels_of_a_list_are_text(serve, hostile_bundle):
    serve(hostile_bundle)
    bundle = store.open_bundle("hostile")
    bodies = ""
    for unit in range(bundle.n_units("small", "second@mean")):
        body = told("hostile", **{**PLACE, "unit": str(unit)}, gamma="0.5")["body"]
        markup = Markup(body)
        assert markup.tags <= TAGS
        assert not [name for name in markup.attributes if name.startswith("on")]
        assert all(link.startswith("/") for link in markup.links)
        bodies += body
    assert any(len(text) > 8 and text[:8] in bodies for text in HOSTILE)


def test_addresses_that_name_no_list_are_refused(serve, small_bundle):
    serve(small_bundle)
    for wrong in (
        {"unit": "12"},
        {"layer": "<b>"},
        {"method": "semanticlens"},
        {"method": "none such"},
        {"gamma": "1.5"},
        {"gamma": "nan"},
    ):
        assert answered("small", **{**PLACE, "gamma": "0.5", **wrong}).status_code == 404
    digest = store.open_bundle("small").digest
    for name, known in (("other", digest[:16]), ("small", "0" * 16), ("small", digest[:15])):
        assert ranked.answer(name, known, {**PLACE, "gamma": "0.5"}).status_code == 404
