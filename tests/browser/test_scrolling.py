"""Nothing jumps: links lead to the top, Back to where one was, and what is read stays in place."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page

from tests.browser.conftest import settled

pytestmark = [pytest.mark.browser]
MAIN = "document.querySelector('[data-testid=stMain]')"
SHIFTS = """globalThis.shifted = 0
new PerformanceObserver(list => {
  for (const each of list.getEntries()) if (!each.hadRecentInput) shifted += each.value
}).observe({ type: "layout-shift", buffered: true })"""
MOST_SHIFTED = 0.05


def is_at(page: Page, place: float) -> None:
    """Wait until the page has come to rest at a place, in pixels from its top."""
    page.wait_for_function(f"place => Math.abs({MAIN}.scrollTop - place) < 2", arg=place)


def scrolled_to(page: Page, link: Locator) -> float:
    """Where the page is once somebody has scrolled to a link."""
    page.mouse.move(200, 300)
    page.mouse.wheel(0, 1)  # by hand: until then the page may be held where it belongs
    link.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    place = page.evaluate(f"{MAIN}.scrollTop")
    assert place > 100
    return place


def test_a_link_leads_to_the_top_and_back_to_where_one_was(server, open_page):
    page = open_page(f"{server.url}/search?bundle=small&q=red", 390, 844)
    last = page.locator(".cards a").last
    found = scrolled_to(page, last)
    last.click()
    page.wait_for_url("**/neuron?**")
    settled(page)
    is_at(page, 0)
    near = page.locator(".cards a").first
    below = scrolled_to(page, near)
    here = page.url
    near.click()
    page.wait_for_function("here => location.href !== here", arg=here)
    settled(page)
    is_at(page, 0)  # another neuron begins with its name
    page.go_back()
    settled(page)
    is_at(page, below)
    page.go_back()
    page.wait_for_url("**/search?**")
    settled(page)
    is_at(page, found)
    page.mouse.wheel(0, -2000)  # whoever scrolls is not held back
    is_at(page, 0)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["search?q=red", "neuron?layer=second@mean&unit=5"])
def test_what_is_read_first_is_not_pushed_away(server, open_page, width, path):
    page = open_page(f"{server.url}/glossary?bundle=small", width, 844)
    page.context.add_init_script(SHIFTS)
    page = page.context.new_page()
    page.goto(f"{server.url}/{path}&bundle=small&v=1")
    settled(page)
    page.locator("img[src^='data:image/webp']").first.wait_for()
    page.wait_for_timeout(500)
    assert page.evaluate("shifted") <= MOST_SHIFTED
