"""What a page shows first is fetched before it is there: by its address, or while one types."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import settled

pytestmark = [pytest.mark.browser]
PAIRS = "neuron?bundle=small&layer=second@mean&k=48&v=1"


@pytest.mark.parametrize(
    ("address", "is_early"),
    [
        (f"{PAIRS}&unit=5", True),
        (f"{PAIRS}&unit=5&show=random", False),
        (f"{PAIRS}&unit=500", False),
        (PAIRS, False),
        ("search?bundle=small&q=red&unit=5", False),
    ],
)
def test_pairs_are_fetched_once_and_before_the_page_can_be_drawn(
    server, open_page, address, is_early
):
    page = open_page(f"{server.url}/glossary?bundle=small")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    page.on("websocket", lambda _: asked.append("websocket"))
    page.goto(f"{server.url}/{address}")
    settled(page)
    expect(page.locator("img[src^='data:image/webp']").first).to_be_visible()
    packs = [path for path in asked if path.startswith("/csp/thumbs/")]
    assert len(packs) == len(set(packs)) > 0
    assert ("/csp/first" in asked) == ("unit=" in address and address.startswith("neuron"))
    if is_early:
        assert asked.index("/csp/first") < asked.index("websocket")
    assert page.evaluate("globalThis.__cspEarly?.size ?? 0") == 0  # all that was fetched is used


def test_who_begins_to_type_gets_the_letters_of_unreliable_labels(server, open_page):
    page = open_page(f"{server.url}/?bundle=small")
    box = page.get_by_label("Find neurons by what they respond to")
    expect(box).to_be_visible()
    slanted = """[...document.fonts].filter(font => font.style === "italic"
      && getComputedStyle(document.body).fontFamily.includes(font.family.replaceAll('"', ""))
      && font.status === "loaded").length"""
    assert page.evaluate(slanted) == 0
    box.click()
    page.wait_for_function(f"() => {slanted} === 1")
