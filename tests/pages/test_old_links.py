"""Addresses as earlier versions wrote them, page by page: each still shows what it showed.

Add to these; never change one. An address that must change its meaning takes another version (``v``
in docs/urls.md) and is read as before while the old version is in use.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from csp_engine.views.address import PARAMETERS
from tests.pages.conftest import html, open_page

OLD = {
    "/neuron?bundle=small&model=small&layer=second%40mean&unit=5&method=csp&v=1": [
        "small / second@mean / 5 <span>(of 12)</span>",
    ],
    "/neuron?layer=second@mean&unit=5": ["small / second@mean / 5"],
    "/neuron?bundle=small&layer=second@mean&unit=3&show=exemplars&k=24&copies=hide&v=1": [
        "small / second@mean / 3",
    ],
    "/neuron?bundle=small&layer=second@mean&unit=3&gamma=0.35&v=1": ["At γ = 0.35,"],
    "/neuron?bundle=small&model=small&layer=second@mean&unit=2&q=red&scope=layer&v=1": [
        "of 12 in the search for “red”",
    ],
    "/neuron?bundle=small&layer=second@mean&unit=2&sort=-score&only=live&scope=layer&v=1": [
        "in a table with filters or an order",
    ],
    "/neuron?bundle=small&layer=second@mean&unit=5&why=red&v=1": [
        "The score of <b dir='auto'>red</b>, ",
        ", is the sum of what",
    ],
    "/neuron?bundle=small&layer=second@mean&unit=5&card=yes&v=1": ["Open in the neuron browser"],
    "/search?bundle=small&q=red&method=semanticlens&v=1": ["<li dir='auto'>red-like</li>"],
    "/search?bundle=small&q=blue&not=red&k=24&v=1": ["<li dir='auto'>blue-like</li>"],
    "/search?bundle=small&like=small/second@mean/5&v=1": ["likeness to small/second@mean/5"],
    "/search?bundle=small&image=3&find=layers&v=1": ["probe image 3"],
    "/search?bundle=small&q=red&find=images&v=1": ["red-like"],
    "/layer?bundle=small&model=small&layer=second@mean&v=1": ["<h1 class='csp-title'>12 neurons"],
    "/layer?bundle=small&where=clarity:-1..1,density:0..&sort=-clarity&v=1": ["20 neurons"],
    "/layer?bundle=small&has=e&class=red&v=1": ["of 20 neurons"],
    "/layer?bundle=small&review=unreviewed&v=1": ["<h1 class='csp-title'>20 neurons"],
    "/search?bundle=small&q=red&page=2&v=1": ["<li dir='auto'>red-like</li>"],
    "/map?bundle=small&colour=clarity&area=0-0-65535-0-65535-65535-0-65535&v=1": [
        "20 neurons in the selection",
    ],
    "/compare?bundle=small&model=small&layer=second@mean&bundle2=small&model2=small"
    "&layer2=first@mean&only=all&unit=5&v=1": [
        "small / second@mean · small / first@mean",
        "of 12 neurons",
    ],
    "/melanoma?bundle=small&model=small&layer=all&method=csp&v=1": [
        "What does a melanoma classifier look at?",
    ],
    "/glossary?word=gamma&v=1": ["<dl class='asked'><dt>gamma</dt>"],
    "/?bundle=small&v=1": ["small", "20 neurons of small"],
}  # fmt: skip
"""Addresses, each with what its page says."""


@pytest.mark.parametrize("address", OLD)
def test_an_old_address_shows_what_it_showed_and_no_note(serve, small_bundle, address):
    serve(small_bundle)
    parts = urlsplit(address)
    at = open_page(parts.path.strip("/") or "overview", **dict(parse_qsl(parts.query)))
    assert not at.exception
    shown = html(at)
    for said in OLD[address]:
        assert said in shown
    assert "<div class='csp-note'" not in shown
    assert "csp-problem" not in shown


def test_every_parameter_of_an_address_is_held_by_an_old_one():
    held = {name for address in OLD for name, _ in parse_qsl(urlsplit(address).query)}
    # Later, or of an upload, a build, columns and circuits: tested with what they belong to.
    elsewhere = {"vec", "job", "column", "output", "artefact", "network", "look"}
    elsewhere |= {"fix", "factors", "family", "queue", "blind", "headings", "concepts", "changed"}
    elsewhere |= {"hold", "curves"}
    assert set(PARAMETERS) - held <= elsewhere
