"""Every page in Chromium, in both themes: what axe objects to, what leaves the machine, what
hostile names do, and screenshots to look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import SCREENSHOTS, Witness, settled
from tests.worlds.hostile_world import HOSTILE

pytestmark = [pytest.mark.browser]
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
DARK = "rgb(18, 23, 22)"
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
HOSTILE_NEURON = "bundle=hostile&layer=second@mean&unit=5"
WHOLE_MAP = "area=0-0-65535-0-65535-65535-0-65535"
PAGES = {
    "overview": ("?bundle=hostile", ".tiles img[src^='data:image/webp']"),
    "search-start": (
        "search?bundle=hostile",
        ".st-key-pictured .cards img[src^='data:image/webp']",
    ),
    "search": (
        f"search?bundle=hostile&q={quote(HOSTILE[0])}&sort=unit",  # an order opens the filters
        ".cards img[src^='data:image/webp']",
    ),
    "neuron": (f"neuron?{HOSTILE_NEURON}", "svg[role=img] polyline"),
    "neuron-card": (f"neuron?{HOSTILE_NEURON}&card=yes", ".tiles img[src^='data:image/webp']"),
    "layer": ("layer?bundle=hostile&layer=second@mean", "[data-testid='stDataFrame'] canvas"),
    "layer-nonsense": (f"layer?bundle=smal&layer={quote(HOSTILE[1])}&sort=zz", ".csp-note"),
    "map": (f"map?bundle=hostile&colour=label&{WHOLE_MAP}", ".map[data-ready='20']"),
    "compare": (
        "compare?bundle=hostile&layer=second@mean&bundle2=hostile&layer2=first@mean&unit=5",
        ".cards img[src^='data:image/webp']",
    ),
    "labels": ("labels?bundle=hostile", "h1.csp-title"),
    "audit": ("audit?bundle=hostile", "h1.csp-title"),
    "melanoma": ("melanoma?bundle=case", ".scatterlayer .trace"),
    "build": ("build", ".st-key-start_build button"),
    "glossary": (f"glossary?word={quote(HOSTILE[0])}", ".csp-words .asked"),
}
"""Addresses of every page in its states, each with what shows that it is drawn."""


@pytest.fixture(scope="module")
def witness() -> Witness:
    return Witness()


@pytest.fixture(scope="module")
def visitor(browser: Browser, witness: Witness) -> Iterator[Page]:
    """One page that visits all addresses in turn, as a person does."""
    context = browser.new_context(viewport=DESK)
    yield witness.watch(context.new_page())
    context.close()


def unfit(page: Page) -> list[str]:
    """What axe finds moderate or worse: the rule and the element."""
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{each['id']}: {node['target']} {node['html'][:200]}"
        for each in found["violations"]
        if each["impact"] != "minor"
        for node in each["nodes"]
    ]


def moved(page: Page) -> float:
    """How much of what was visible moved since the page was opened (cumulative layout shift)."""
    return page.evaluate(
        """() => new Promise(done => {
          new PerformanceObserver(list => {
            const own = list.getEntries().filter(each => !each.hadRecentInput)
            done(own.reduce((sum, each) => sum + each.value, 0))
          }).observe({ type: "layout-shift", buffered: true })
          setTimeout(() => done(0), 300)
        })"""
    )


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_fits_a_phone_and_keeps_names_text(server, visitor, witness, name):
    path, drawn = PAGES[name]
    visitor.set_viewport_size(DESK)
    visitor.emulate_media(color_scheme="light")
    visitor.goto(f"{server.url}/{path}")
    expect(visitor.locator(drawn).first).to_be_visible()
    settled(visitor)
    SCREENSHOTS.mkdir(exist_ok=True)
    visitor.screenshot(path=SCREENSHOTS / f"{name}-light.png")
    assert moved(visitor) < 0.25  # below 0.1 where nothing else keeps the machine busy
    main = visitor.get_by_test_id("stMain")
    assert main.evaluate("m => m.scrollWidth - m.clientWidth") == 0
    assert unfit(visitor) == []
    visitor.emulate_media(color_scheme="dark")
    expect(visitor.get_by_test_id("stApp")).to_have_css("background-color", DARK)
    settled(visitor)
    visitor.screenshot(path=SCREENSHOTS / f"{name}-dark.png")
    assert unfit(visitor) == []
    visitor.set_viewport_size(PHONE)
    expect(main).to_have_js_property("clientWidth", PHONE["width"])
    visitor.screenshot(path=SCREENSHOTS / f"{name}-390.png")
    assert main.evaluate("m => m.scrollWidth - m.clientWidth") == 0
    assert unfit(visitor) == []
    # Locators look into the components too; markup in a name would have become elements.
    assert visitor.locator("img[src='x'], a[href^='javascript'], b:text-is('bold')").count() == 0
    assert witness.seen == []


@pytest.mark.parametrize(
    ("path", "evidence", "screen", "share"),
    [
        ("search?bundle=small&q=red", ".cards", DESK, 1 / 3),
        ("search?bundle=small&q=red", ".cards", PHONE, 1 / 2),
        ("neuron?bundle=small&unit=5", ".tiles img", DESK, 0.55),
        ("neuron?bundle=small&unit=5", ".tiles img", PHONE, 0.65),
        ("map?bundle=small", ".map[data-ready]", DESK, 2 / 5),
        ("layer?bundle=small", "[data-testid='stDataFrame'] canvas", DESK, 2 / 5),
    ],
)
def test_what_one_came_for_begins_high_on_the_first_screen(
    server, visitor, path, evidence, screen, share
):
    visitor.set_viewport_size({**screen, "height": 844 if screen is PHONE else 800})
    visitor.goto(f"{server.url}/{path}")
    first = visitor.locator(evidence).first
    expect(first).to_be_visible()
    settled(visitor)
    box = first.bounding_box()
    assert box is not None
    assert box["y"] <= share * (844 if screen is PHONE else 800)
