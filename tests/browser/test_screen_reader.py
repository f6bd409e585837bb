"""From a search to a verdict as a screen reader tells it: roles, names and keys, no pictures.

Everything is found in the accessibility tree and reached by keys; docs/accessibility.md says the
same walk in words. And axe on the shipped demo, which has every kind of content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Server, settled
from tests.browser.test_every_page import DESK, Witness, unfit

pytestmark = [pytest.mark.browser]
ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "assets" / "demo" / "dermoscopy.csp"


def press(page: Page, key: str, until: str, most: int) -> None:
    """Press a key until the name of what has the focus matches."""
    for _ in range(most):
        page.keyboard.press(key)
        if re.search(until, focused(page)):
            return
    raise AssertionError(f"{until!r} is not reached by {most} times {key}; last {focused(page)!r}")


def focused(page: Page) -> str:
    """The name of what has the focus, also within a component."""
    return page.evaluate(
        """() => {
          let each = document.activeElement
          while (each?.shadowRoot?.activeElement) each = each.shadowRoot.activeElement
          return each?.getAttribute("aria-label") || each?.labels?.[0]?.textContent
            || each?.textContent || ""
        }"""
    )


def test_a_search_leads_to_a_neuron_and_a_verdict_by_names_and_keys_alone(fresh_server, open_page):
    page = open_page(f"{fresh_server.url}/search?bundle=small")
    # 1. The page says what it is, and where to type.
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    box = page.get_by_role("searchbox", name="Respond to")
    box.focus()
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    # 2. The answer is announced; each neuron is one link with a short name.
    expect(page.get_by_role("status").filter(has_text="red").first).to_be_visible()
    found = page.get_by_role("list", name="Neurons found").get_by_role("link")
    expect(found.first).to_have_attribute("aria-label", re.compile(r", \S+@\S+ / \d+"))
    settled(page)
    name = found.first.get_attribute("aria-label") or ""
    assert len(name) < 120
    unit = re.findall(r", (\S+@\S+) / (\d+)", name)[0]
    found.first.focus()
    page.keyboard.press("Enter")
    # 3. The neuron: its label is the heading, its conclusion follows, pairs are a list of buttons.
    page.wait_for_url(re.compile("/neuron"))
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    pairs = page.get_by_role("list", name=f"of small/{unit[0]}/{unit[1]}")
    expect(pairs.get_by_role("button", name="Exemplar 1. Enlarge.")).to_be_visible()
    settled(page)
    # 4. A picture has words, and opens by keys into a dialog that gives the focus back.
    first = pairs.get_by_role("button", name="Exemplar 1. Enlarge.")
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=re.compile("Exemplar 1"))
    expect(dialog.get_by_role("img").first).to_have_attribute(
        "alt", re.compile(r"^Exemplar 1: image \d+ of the probe set, activation")
    )
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.wait_for_function("() => document.activeElement.shadowRoot !== null")
    assert focused(page) == "Exemplar 1. Enlarge."
    # 5. A short cut leads to the verdict, whose heading is two words and not a definition.
    expect(page.get_by_role("heading", name="Your verdict", level=2, exact=True)).to_be_visible()
    page.evaluate("document.querySelector('.csp-skips button').focus()")
    press(page, "Tab", "Skip to the verdict", 3)
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.closest('.st-key-judging') !== null")
    assert "Your name" in focused(page)
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Will be saved as Ada")).to_be_visible()
    settled(page)
    group = page.get_by_role("radiogroup", name="Your verdict")
    expect(group.get_by_role("radio", name="Valid")).to_be_enabled()
    # 6. The verdict is a choice of four; that it is kept is announced.
    page.get_by_label("Your name, for your verdicts").focus()
    page.keyboard.press("Tab")
    assert focused(page) == "Valid"
    page.keyboard.press("Space")
    expect(group.get_by_role("radio", checked=True)).to_have_count(1)
    expect(page.get_by_role("status").filter(has_text="Saved as Ada")).to_be_visible()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server([DEMO], tmp_path_factory.mktemp("demo") / "log.txt")
    try:
        yield started
    finally:
        started.stop()


NEURON = "model=biased&layer=layer4%40mean&unit=12"
PAGES = {
    "overview": ("", ".csp-story"),
    "search": ("search?q=ruler", ".cards img[src^='data:image/webp']"),
    "neuron": (f"neuron?{NEURON}", ".tiles img[src^='data:image/webp']"),
    "layer": ("layer", "[data-testid='stDataFrame'] canvas"),
    "map": ("map?q=ruler", ".map[data-ready]"),
    "compare": ("compare", "[data-testid='stDataFrame'] canvas"),
    "labels": ("labels", "h1.csp-title"),
    "audit": ("audit", ".csp-pairs"),
    "melanoma": ("melanoma", ".csp-pairs"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_on_the_demo(demo, browser: Browser, name):
    path, drawn = PAGES[name]
    context = browser.new_context(viewport=DESK, color_scheme="light")
    witness = Witness()
    page = witness.watch(context.new_page())
    try:
        page.goto(f"{demo.url}/{path}")
        expect(page.locator(drawn).first).to_be_visible(timeout=60_000)
        settled(page)
        assert unfit(page) == []
        page.emulate_media(color_scheme="dark")
        settled(page)
        assert unfit(page) == []
        assert witness.seen == []
    finally:
        context.close()


@pytest.mark.slow
def test_filters_of_all_layers_stand_on_one_line(demo, browser: Browser):
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    try:
        page.goto(f"{demo.url}/layer?only=reliable")
        expect(page.get_by_role("button", name="Clear")).to_be_visible()
        settled(page)
        line = page.locator(".st-key-strip_narrowing > *")
        bottoms = line.evaluate_all(
            "all => all.map(e => Math.round(e.getBoundingClientRect().bottom))"
        )
        assert len(bottoms) >= 9
        assert max(bottoms) - min(bottoms) <= 12
    finally:
        context.close()
