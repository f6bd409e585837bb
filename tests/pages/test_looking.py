"""Where a neuron looks: by the address, asked for by the grid, never without its checks."""

from __future__ import annotations

import json

import pytest

from csp_engine.bundle import Bundle
from csp_engine.networks.layers import select_layers
from csp_engine.pipeline.mapping.changes import versions
from csp_engine.pipeline.mapping.neuron_pixels import pictures
from csp_engine.pipeline.mapping.overlays import NeuronOverlays
from csp_engine.types import NeuronRef
from csp_engine.views.images.changes import changed
from pages.ui.parts.cards import plain
from pages.ui.shell import store
from tests.pages.conftest import HERE, html, open_page, visiting
from tests.worlds import toys


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


@pytest.mark.slow
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


def test_one_image_is_shown_changed_with_what_the_engine_says(serve, small_bundle, monkeypatch):
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    neuron = NeuronRef("small", "second@mean", 5)
    (tap,) = select_layers(toys.target().model, [neuron.layer])
    overlays = NeuronOverlays(bundle, toys.target().model, tap, neuron.unit)
    asked = []

    def versions_of(of, ref, name, image, visitor):
        asked.append((of.digest, ref, name, image))
        return versions(overlays, pictures(bundle, [image])[0], name)

    monkeypatch.setattr(store.MAPS, "versions", versions_of)
    at = open_page("neuron", layer=neuron.layer, unit="5", changed="3")
    assert not at.exception
    shown = html(at)
    found = changed(bundle, "small", 3, versions(overlays, pictures(bundle, [3])[0]))
    assert asked == [(bundle.digest, neuron, "", 3)]  # no map was asked for
    assert plain(found.sentence) in shown
    for each in found.versions:
        assert f"<b>{each.name}</b><br>{each.words}" in shown
    strip = shown[shown.index("csp-changes") :]
    turned = sum(each.decided != found.versions[0].decided for each in found.versions)
    assert strip.count("<figure class=other>") == turned
    at = open_page("neuron", layer=neuron.layer, unit="5", look="gradient")
    assert asked[1:] == []  # only whoever asks for it waits for the network
    at.number_input(next(w.key for w in at.number_input if "_changed" in w.key)).set_value(2)
    at.button("change_image").click().run()
    assert at.query_params["changed"] == "2"
    assert asked[-1][2:] == ("gradient", 2)
    assert "There is no image 999" in html(
        open_page("neuron", layer=neuron.layer, unit="5", changed="999")
    )


@pytest.mark.slow
def test_without_the_network_the_changed_image_is_a_sentence(serve, small_bundle, monkeypatch):
    serve(small_bundle)
    monkeypatch.delenv("CSP_TRUST_PYTHON", raising=False)
    at = open_page("neuron", layer="second@mean", unit="6", changed="3")
    store.MAPS.close()
    assert not at.exception
    shown = html(at)
    assert "runs only if you trust it" in shown
    assert "csp-changes" not in shown
    blind = html(open_page("neuron", layer="second@mean", unit="6", changed="3", blind="yes"))
    assert "runs only if" not in blind
