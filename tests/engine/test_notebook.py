"""A neuron in a notebook: all of its page inside, nothing loaded, and nothing that runs."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

import csp_engine as csp
from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.pipeline import build
from tests.worlds import hostile_world, toys


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("notebook")
    build(toys.request(folder, folder / "small.csp"))
    return Bundle.open(folder / "small.csp")


class Read(HTMLParser):
    """Start tags of a page, with what they state."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def framed(shown) -> str:
    """The page inside the frame, as a browser reads it."""
    ((tag, stated),) = Read(shown._repr_html_()).tags
    assert tag == "iframe"
    assert stated["sandbox"] is None  # there, and without leave for anything
    return stated["srcdoc"]


def test_the_pictures_are_those_of_its_pairs_and_nothing_is_loaded(bundle):
    model, layer = bundle.model_names[0], bundle.layers(bundle.model_names[0])[0]
    markup = framed(csp.show_neuron(bundle, f"{model}/{layer}/1"))
    shown = [stated["src"] for tag, stated in Read(markup).tags if tag == "img"]
    bodies = [base64.b64decode(each.removeprefix("data:image/webp;base64,")) for each in shown]
    exemplars = bundle.exemplars(model, layer)
    first = bundle.thumbnail(int(exemplars.image_uk[1, 0]))
    assert bodies[0] == first
    assert len(bodies) >= int(min(12, exemplars.count_u[1]))
    loaded = [t for t, s in Read(markup).tags if t in ("script", "link") or "data-src" in s]
    assert loaded == []
    policy = re.search(r'content="(default-src[^"]*)"', markup)[1]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_hostile_names_stay_text(tmp_path):
    bundle = Bundle.open(hostile_world.make(tmp_path))
    model = bundle.model_names[0]
    neuron = csp.NeuronRef(model, bundle.layers(model)[0], 0)
    markup = framed(csp.show_neuron(bundle, neuron))
    assert {tag for tag, _ in Read(markup).tags} <= {
        *("html", "head", "meta", "title", "style", "body", "a", "header", "nav", "p", "bdi"),
        *("main", "h1", "h2", "span", "div", "section", "ul", "li", "figure", "img", "figcaption"),
        *("details", "summary", "table", "thead", "tbody", "tr", "th", "td", "caption", "footer"),
        *(
            "code",
            "svg",
            "path",
            "rect",
            "line",
            "text",
            "dl",
            "dt",
            "dd",
            "b",
            "small",
            "i",
            "title",
        ),
    }
    assert not any(name.startswith("on") for _, stated in Read(markup).tags for name in stated)


def test_elsewhere_it_says_what_the_neuron_is(bundle):
    model, layer = bundle.model_names[0], bundle.layers(bundle.model_names[0])[0]
    assert repr(csp.show_neuron(bundle, f"{model}/{layer}/0")).startswith(f"{model}/{layer}/0: ")


@pytest.mark.parametrize("name", ["nope", "nope/x/1", "small/second@mean/99999"])
def test_a_neuron_that_is_not_there_is_refused_at_once(bundle, name):
    with pytest.raises(
        InputError, match=r"not a neuron|is not in the bundle; it has|has no unit 99,999"
    ):
        csp.show_neuron(bundle, name)
