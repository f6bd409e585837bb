"""What a step shows before the page has come: the same as the page, and nothing but text."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from pages.ui.neuron import ahead
from pages.ui.shell import store
from tests.pages.conftest import component, html, open_page
from tests.worlds.hostile_world import HOSTILE

PLACE = {"model": "small", "layer": "second@mean", "v": "1"}
TAGS = {
    *("div", "p", "span", "h1", "h2", "h3", "bdi", "b", "i", "a", "dl", "dt", "dd"),
    *("section", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary"),
    *("svg", "g", "rect", "line", "path", "text", "title"),
}


def answered(name: str, **params: str):
    """The route's answer about a neuron."""
    digest = store.open_bundle(name).digest[:16]
    return ahead.answer(name, digest, params)


def told(name: str, **params: str) -> dict:
    answer = answered(name, **params)
    assert answer.status_code == 200
    return json.loads(bytes(answer.body))


class Markup(HTMLParser):
    """The tags and attributes of some HTML, as a browser reads them."""

    def __init__(self, body: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.feed(body)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {value or "" for name, value in attrs if name in ("href", "src")}


@pytest.mark.parametrize("params", [{}, {"k": "24", "copies": "hide"}, {"blind": "yes"}])
def test_a_step_and_the_page_show_the_same(serve, small_bundle, params):
    serve(small_bundle)
    for unit in "305":
        asked = {**PLACE, "unit": unit, **params}
        at = open_page("neuron", bundle="small", **asked)
        found = told("small", bundle="small", **asked)
        body = html(at)
        assert found["of"] == f"small/second@mean/{unit}"
        assert sorted(found["parts"]) == (["head"] if params.get("blind") else sorted(ALL))
        for part in found["parts"].values():
            assert part in body
        assert found["tiles"] == component(at, "csp_tiles")


ALL = ("head", "methods", "facts")


def test_what_a_step_draws_of_hostile_names_is_text(serve, hostile_bundle):
    """It passes no sanitiser on its way into the page."""
    serve(hostile_bundle)
    bundle = store.open_bundle("hostile")
    labels = set()
    for unit in range(bundle.n_units("small", "second@mean")):
        found = told("hostile", **PLACE, unit=str(unit))
        for part in found["parts"].values():
            markup = Markup(part)
            assert markup.tags <= TAGS
            assert not [name for name in markup.attributes if name.startswith("on")]
            assert all(link.startswith("/") for link in markup.links)
        labels.add(found["said"].partition(": ")[2])
    assert labels & set(HOSTILE) or "No reliable label" in labels


def test_addresses_that_name_nothing_are_refused(serve, small_bundle):
    serve(small_bundle)
    assert answered("small", **PLACE, unit="3").status_code == 200
    for params in (
        {**PLACE, "unit": "12"},
        {**PLACE, "unit": "-1"},
        {**PLACE, "unit": "3", "layer": "<b>"},
        {**PLACE, "unit": "3", "method": "none such"},
        {**PLACE, "unit": "3", "show": "random"},
    ):
        assert answered("small", **params).status_code == 404
    digest = store.open_bundle("small").digest
    for name, known in (("other", digest[:16]), ("small", "0" * 16), ("small", digest[:15])):
        assert ahead.answer(name, known, {**PLACE, "unit": "3"}).status_code == 404


def test_what_a_page_begins_with_is_made_while_its_browser_loads(serve, small_bundle, monkeypatch):
    serve(small_bundle)
    asked = {**PLACE, "unit": "3", "k": "24"}
    packs = ahead.first({**asked, "bundle": "small"})
    assert packs == ahead.first(asked)  # there is no other bundle
    monkeypatch.setattr(ahead, "_make", None)  # to make any of it again would fail
    at = open_page("neuron", bundle="small", **asked)
    assert "csp-problem" not in html(at)
    assert component(at, "csp_tiles")["packs"] == packs != []


@pytest.mark.parametrize(
    "params",
    [
        {"unit": "12"},
        {"show": "random"},
        {"look": "gradient"},
        {"card": "yes"},
        {"bundle": "other"},
    ],
)
def test_a_page_that_does_not_begin_with_pairs_asks_for_none(serve, small_bundle, params):
    serve(small_bundle)
    assert ahead.first({**PLACE, "unit": "3"})
    assert ahead.first({**PLACE, "unit": "3", **params}) == []


def test_steps_go_through_the_list_that_the_address_names(serve, small_bundle):
    serve(small_bundle)
    at = open_page("neuron", **PLACE, unit="4", sort="-unit", scope="layer")
    held = component(at, "csp_keys")["walk"]
    assert held["list"]["after"][:2] == [["small", "second@mean", unit] for unit in (3, 2)]
    assert held["list"]["before"][:2] == [["small", "second@mean", unit] for unit in (5, 6)]
    at = open_page("neuron", **PLACE, unit="4")
    held = component(at, "csp_keys")["walk"]
    assert held["list"] == {"model": "small", "layer": "second@mean", "n": 12, "at": 4}
    assert held["of"] == "small/second@mean/4"
    assert held["route"].endswith(f"/csp/ahead/small/{store.open_bundle('small').digest[:16]}")


def test_a_name_that_is_no_plain_word_is_one_part_of_the_route(serve, small_bundle, tmp_path):
    shutil.copytree(small_bundle, tmp_path / "a #b?.csp")
    serve(tmp_path / "a #b?.csp")
    at = open_page("neuron", **PLACE, unit="4")
    assert f"/csp/ahead/{quote('a #b?')}/" in component(at, "csp_keys")["walk"]["route"]
