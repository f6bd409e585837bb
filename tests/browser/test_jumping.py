"""Ctrl-K from every kind of page, by keyboard alone; and the bar of a phone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import settled
from tests.browser.test_every_page import unfit

pytestmark = [pytest.mark.browser]


def test_keys_alone_lead_from_a_page_to_a_neuron_and_back(server, open_page):
    page = open_page(f"{server.url}/layer?bundle=small")
    box = page.get_by_role("dialog", name="Jump to")
    expect(page.get_by_role("button", name="Jump to")).to_be_visible()  # it listens from then on
    settled(page)  # what is still drawn may draw the box anew
    page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Jump to a neuron, word, layer or page")
    expect(field).to_be_focused()
    page.keyboard.type("second@mean/5")
    expect(page.get_by_role("option", selected=True)).to_contain_text("small/second@mean/5")
    assert unfit(page) == []
    page.keyboard.press("Enter")
    expect(box).to_be_hidden()
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 5")
    page.go_back()
    expect(page).to_have_url(re.compile("/layer"))


def test_enter_waits_for_what_was_typed_and_a_mark_for_its_row(server, open_page):
    """Until the answer is there, the list of before is shown."""
    page = open_page(f"{server.url}/layer?bundle=small")
    expect(page.get_by_role("button", name="Jump to")).to_be_visible()
    settled(page)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    def answer() -> None:
        while not held:
            page.wait_for_timeout(20)
        held.pop().continue_()

    page.route(re.compile("/csp/jump/"), hold)
    page.keyboard.press("Control+k")
    page.keyboard.type("r")
    page.keyboard.press("ArrowDown")
    chosen = page.get_by_role("option", selected=True)
    name = chosen.inner_text()
    answer()
    expect(page.get_by_role("option", name="Search “r”")).to_be_visible()
    assert chosen.inner_text() == name
    page.keyboard.press("Control+a")
    page.keyboard.type("second@mean/5")
    page.keyboard.press("Enter")
    answer()
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 5")


def test_the_arrows_choose_and_turn_no_page_behind(server, open_page):
    page = open_page(f"{server.url}/neuron?bundle=small&layer=second@mean&unit=5")
    expect(page.get_by_role("button", name="Jump to")).to_be_visible()  # it listens from then on
    settled(page)
    page.keyboard.press("Control+k")
    page.keyboard.type("r")
    first = page.get_by_role("option").first
    expect(page.get_by_role("option", name="Search “r”")).to_be_visible()
    expect(first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    expect(first).to_have_attribute("aria-selected", "false")
    page.keyboard.press("ArrowUp")
    expect(first).to_have_attribute("aria-selected", "true")
    for key in ("ArrowRight", "ArrowLeft", "j", "1"):
        page.keyboard.press(key)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Jump to")).to_be_hidden()
    settled(page)
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 5")


def test_a_phone_has_the_main_pages_at_the_bottom(server, open_page):
    page = open_page(f"{server.url}/?bundle=small", 390, 844)
    bar = page.get_by_role("navigation", name="Main pages")
    bar.get_by_role("link", name="Table").click()
    expect(page).to_have_url(re.compile("/layer"))
    # While the table is still being drawn, which may draw the box anew: it stays open.
    bar.get_by_role("button", name="More").click()
    page.get_by_role("option", name="Compare").click()
    expect(page).to_have_url(re.compile("/compare"))


def test_the_bar_of_a_phone_marks_more_where_a_page_is_behind_it(server, open_page):
    page = open_page(f"{server.url}/?bundle=small", 390, 844)
    more = page.get_by_role("button", name="More")
    expect(page.locator("nav[aria-label='Main pages'] [aria-current]")).to_have_text("Overview")
    page.goto(f"{server.url}/map?bundle=small")
    expect(more).to_have_attribute("aria-current", "true")


def test_the_list_of_a_long_page_leads_to_each_of_its_headings(server, open_page):
    page = open_page(f"{server.url}/labels?bundle=small")
    expect(page.get_by_role("heading", name="Where methods disagree")).to_be_visible()
    settled(page)
    wanted = page.locator("[data-testid=stMain] h2").count()
    page.get_by_text("On this page").click()
    ways = page.get_by_role("list", name="Sections").get_by_role("button")
    expect(ways).to_have_count(wanted)
    assert wanted > 2
    assert unfit(page) == []
    last = page.locator("[data-testid=stMain] h2").last
    ways.last.click()
    expect(last).to_be_focused()
    expect(last).to_be_in_viewport()
    expect(ways.last).to_be_hidden()
    page.get_by_text("On this page").click()
    page.keyboard.press("Escape")
    expect(ways.last).to_be_hidden()
