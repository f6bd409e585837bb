"""Moving gamma, searching by an image, walking a search, and handing the view to somebody else."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import address, settled

pytestmark = [pytest.mark.browser]


def test_gamma_ranks_the_labels_again_and_back_undoes_it(server, open_page):
    page = open_page(f"{server.url}/neuron?layer=second@mean&unit=5")
    caption = page.locator("caption", has_text="At γ = ")
    expect(caption).to_contain_text("At γ = 1,")
    before = page.locator("table", has=caption).inner_text()
    page.get_by_test_id("stSlider").locator("input").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    expect(caption).to_contain_text("At γ = 0.8,")
    page.wait_for_function("() => location.search.includes('gamma=0.8')")
    assert page.locator("table", has=caption).inner_text() != before
    # The neuron stayed: arrows move the slider while it has the focus.
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 5")
    page.go_back()
    expect(caption).not_to_contain_text("At γ = 0.8,")


def test_a_step_of_gamma_shows_before_the_server_has_drawn_it(server, open_page):
    page = open_page(f"{server.url}/glossary")
    is_held, waiting = False, []

    def between(socket) -> None:
        behind = socket.connect_to_server()

        def sent(message) -> None:
            if is_held:
                waiting.append(lambda: behind.send(message))
            else:
                behind.send(message)

        socket.on_message(sent)

    page.route_web_socket("**/_stcore/stream*", between)
    page.goto(f"{server.url}/neuron?layer=second@mean&unit=5")
    caption = page.locator("caption", has_text="At γ = ")
    expect(caption).to_contain_text("At γ = 1,")
    settled(page)
    slider = page.get_by_test_id("stSlider").locator("input").first
    slider.focus()
    is_held = True
    for shown in ("0.95", "0.9", "0.85"):
        page.keyboard.press("ArrowLeft")
        expect(caption).to_contain_text(f"At γ = {shown},")
    assert "gamma=" not in page.url
    at_once = page.locator("table", has=caption).inner_text()
    is_held = False
    for send in waiting:
        send()
    page.wait_for_function("() => location.search.includes('gamma=0.85')")
    settled(page)
    expect(caption).to_contain_text("At γ = 0.85,")
    assert page.locator("table", has=caption).inner_text() == at_once
    # A list that comes when the page shows another neuron's already is dropped.
    other = "small/second@mean/6 csp 0.85"
    page.locator("[data-ranked-of]").evaluate(f"it => it.dataset.rankedOf = '{other}'")
    is_held = True
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    expect(caption).to_contain_text("At γ = 0.85,")


def test_a_copied_link_shows_a_stranger_the_same_view(server, browser, open_page):
    page = open_page(f"{server.url}/search?q=red")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".cards a").first.click()
    expect(page.locator(".tiles li.pair").first).to_be_visible()
    choice = page.get_by_test_id("stButtonGroup").first
    choice.get_by_text("Exemplars", exact=True).click()
    page.wait_for_function("() => location.search.includes('show=exemplars')")
    settled(page)
    shown = page.locator(".csp-id").inner_text()
    page.get_by_role("button", name="Copy link", exact=True).click()
    expect(page.get_by_text("Link copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{server.url}/neuron?")
    assert "bundle=small" in link
    other = open_page(link)
    expect(other.locator(".csp-id")).to_have_text(shown)
    expect(other.locator(".csp-list")).to_contain_text("in the search for “red”")
    expect(other.locator(".tiles li.single").first).to_be_visible()


def test_an_image_from_the_box_becomes_the_query_and_next_walks_its_results(server, open_page):
    page = open_page(f"{server.url}/neuron?layer=second@mean&unit=5")
    page.locator(".tiles button").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Search with this image").first.click()
    expect(page.locator(".csp-asked")).to_contain_text("probe image")
    image = re.search(r"image=(\d+)", address(page))[1]
    cards = page.locator(".cards a")
    expect(cards).to_have_count(12)
    second = cards.nth(1).locator(".id").text_content()
    cards.first.click()
    expect(page.locator(".csp-list")).to_contain_text(
        re.compile(rf"1 of \d+ in the search for probe image {image}")
    )
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".csp-id")).to_contain_text(second)
    expect(page.locator(".csp-list")).to_contain_text("2 of ")


def test_an_uploaded_image_is_searched_by_and_stays_in_the_address(server, open_page, small_bundle):
    page = open_page(f"{server.url}/search")
    page.get_by_role("button", name="By image").click()
    file = sorted((small_bundle.parent / "images" / "blue").iterdir())[0]
    page.locator("input[type=file]").set_input_files(file)
    expect(page.locator(".csp-asked")).to_contain_text("your image")
    cards = page.locator(".cards a")
    expect(cards).to_have_count(12)
    first = cards.first.locator(".id").text_content()
    other = open_page(server.url + address(page))
    expect(other.locator(".cards a").first.locator(".id")).to_have_text(first)


def test_two_tabs_do_not_move_each_other_and_survive_a_reload(server, open_page):
    first = open_page(f"{server.url}/neuron?bundle=small&layer=second@mean&unit=5")
    second = first.context.new_page()
    second.goto(f"{server.url}/neuron?bundle=small&layer=first@mean&unit=2&show=exemplars")
    expect(second.locator(".tiles li.single").first).to_be_visible()
    first.get_by_role("button", name="Next").click()
    expect(first.locator(".csp-id")).to_contain_text("second@mean / 6")
    first.wait_for_function("() => location.search.includes('unit=6')")
    expect(second.locator(".csp-id")).to_contain_text("first@mean / 2")
    for page, shown in ((first, "second@mean / 6"), (second, "first@mean / 2")):
        page.reload()
        expect(settled(page).locator(".csp-id")).to_contain_text(shown)
    expect(second.locator(".tiles li.single").first).to_be_visible()


def test_a_second_visit_connects_before_the_server_has_said_that_it_is_well(server, open_page):
    """A first one waits for it: the answer brings the cookie that shows who is signed in."""
    page = open_page(f"{server.url}/glossary")
    settled(page)
    held: list[Route] = []
    page.route("**/_stcore/health", lambda route: held.append(route))
    page.goto(f"{server.url}/neuron?layer=second@mean&unit=5")
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 5")
    assert held  # asked all the same, and not answered yet
    held.pop().continue_()
    settled(page)
    page.context.clear_cookies(name="_streamlit_xsrf")
    page.goto(f"{server.url}/neuron?layer=second@mean&unit=6")
    while not held:
        page.wait_for_timeout(20)
    page.wait_for_timeout(300)
    assert page.locator(".csp-id").count() == 0
    held.pop().continue_()
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 6")
