from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SCREENSHOTS, address, settled

pytestmark = [pytest.mark.browser]
LOADED = "img[src^='data:image/webp']"
SHOWN = (".csp-lead", ".cards a .id", ".csp-id")


def test_every_step_is_one_step_of_history_and_back_and_forward_restore_it(server, open_page):
    page = open_page(f"{server.url}/search?bundle=small")
    views: list[tuple[str, str]] = []  # address, and what the page shows

    def arrived(shown: str) -> None:
        """Note a view that differs from the one before, and that the history grew by one."""
        before = views[-1] if views else ("", "")
        expect(page.locator(shown).first).to_be_visible()
        if before[1].startswith(shown):
            expect(page.locator(shown).first).not_to_have_text(before[1].removeprefix(shown))
        page.wait_for_function("b => location.pathname + location.search != b", arg=before[0])
        settled(page)
        views.append((address(page), shown + page.locator(shown).first.inner_text()))
        assert page.evaluate("history.length") == n_before + len(views)

    n_before = page.evaluate("history.length") - 1
    arrived(".csp-lead")
    box = page.get_by_label("Respond to")
    box.fill("red")
    box.press("Enter")
    cards = page.locator(".cards a")
    expect(cards).to_have_count(12)
    expect(cards.first.locator(LOADED).first).to_be_visible()
    arrived(".cards a .id")
    cards.first.click()
    expect(page.locator(f".tiles {LOADED}").first).to_be_visible()
    arrived(".csp-id")
    for _ in range(2):
        page.get_by_role("button", name="Next").click()
        arrived(".csp-id")
    page.get_by_role("link", name="Back to the list").click()
    expect(cards).to_have_count(12)  # a neuron's page has cards of its own, fewer
    arrived(".cards a .id")
    page.get_by_role("link", name="As a table").click()
    expect(page.locator("[data-testid='stDataFrame']")).to_be_visible()
    arrived(".csp-id")
    assert [urlsplit(url).path for url, _ in views] == [
        *("/search", "/search", "/neuron", "/neuron", "/neuron", "/search", "/layer")
    ]

    def restores(at: int) -> None:
        url, seen = views[at]
        shown = next(each for each in SHOWN if seen.startswith(each))
        expect(page.locator(shown).first).to_have_text(seen.removeprefix(shown))
        assert address(page) == url
        settled(page)  # a browser that goes on while a page is drawn may lose the step

    for at in reversed(range(len(views) - 1)):
        page.go_back()
        restores(at)
    for at in range(1, len(views)):
        page.go_forward()
        restores(at)


def test_enter_on_the_overview_goes_to_the_answer_without_drawing_the_overview_again(
    server, open_page
):
    """Words of any kind arrive as they were typed, in one step that Back undoes."""
    page = open_page(f"{server.url}/?bundle=small")
    sent: list[int] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: sent.append(1)))
    page.reload()
    box = page.get_by_label("Find neurons by what they respond to")
    expect(box).to_be_visible()
    settled(page)
    here, before = address(page), page.evaluate("history.length")
    for typed in ("   ", ""):
        box.fill(typed)
        box.press("Enter")
        settled(page)
        assert address(page) == here
    box.fill("red")
    box.evaluate(
        "box => box.dispatchEvent(new KeyboardEvent('keydown', "
        "{ key: 'Enter', bubbles: true, composed: true, isComposing: true }))"
    )  # chooses a character of an input method
    settled(page)
    assert address(page) == here
    words = "red & blue=100%, +“µ” #1?"
    box.fill(words)
    sent.clear()
    box.press("Enter")
    page.wait_for_url("**/search?**")
    expect(page.get_by_label("Respond to")).to_have_value(words)
    settled(page)
    assert len(sent) == 1
    assert page.evaluate("history.length") == before + 1
    page.go_back()
    expect(box).to_be_visible()
    settled(page)
    assert address(page) == here


def test_words_left_in_the_box_of_the_overview_are_searched_too(server, open_page):
    page = open_page(f"{server.url}/?bundle=small")
    box = page.get_by_label("Find neurons by what they respond to")
    box.fill("red")
    box.blur()
    page.wait_for_url("**/search?**")
    expect(page.get_by_label("Respond to")).to_have_value("red")


def test_a_deep_link_is_the_first_request_and_one_to_nothing_explains_itself(
    fresh_server, open_page
):
    page = open_page(f"{fresh_server.url}/neuron?bundle=small&layer=second@mean&unit=5&v=1")
    expect(page.locator(".csp-id")).to_contain_text("small / second@mean / 5")
    expect(page.get_by_role("link", name="Search")).to_be_visible()
    expect(page).to_have_title(re.compile("Neuron"))
    page = open_page(f"{fresh_server.url}/neuron?layer=third@mean&unit=500")
    expect(page.locator(".csp-note")).to_contain_text("There is no layer “third@mean” here")
    expect(page.locator(".csp-note")).to_contain_text("no unit 500")


def test_an_address_of_no_page_is_told_and_leads_on(server, open_page):
    page = open_page(f"{server.url}/serch?bundle=small")
    note = page.locator(".csp-note")
    expect(note).to_contain_text("There is no page “serch”; did you mean Search?")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page).to_have_title(re.compile("Overview"))
    note.get_by_role("link", name="Search").click()
    expect(page.get_by_label("Respond to")).to_be_visible()
    expect(page.locator(".csp-note")).to_have_count(0)


def test_images_have_words_and_are_enlarged_and_stepped_through_by_keys(server, open_page):
    page = open_page(f"{server.url}/neuron?layer=second@mean&unit=5")
    expect(page.locator(f".tiles {LOADED}").first).to_be_visible()
    words = page.locator("img").evaluate_all("all => all.map(i => i.alt)")
    assert len(words) > 10
    assert all(word.strip() for word in words)
    page.locator(".tiles button").first.click()
    box = page.get_by_role("dialog")
    expect(box).to_contain_text("Exemplar 1")
    expect(box).to_contain_text("blue/")
    page.keyboard.press("ArrowRight")
    expect(box).to_contain_text("2 of ")
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    # The arrow turned the box, not the page behind it.
    expect(page.locator(".csp-id")).to_contain_text("/ 5 (")


def test_arrow_keys_turn_to_the_next_neuron(server, open_page):
    page = open_page(f"{server.url}/neuron?layer=second@mean&unit=5")
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 5")
    # The page listens for keys once its buttons are drawn and the whole script has run.
    expect(page.get_by_role("button", name="Next")).to_be_enabled()
    expect(page.locator(".tiles li.pair img").first).to_be_visible()
    settled(page)
    page.locator("body").press("ArrowRight")
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 6")
    page.wait_for_function("() => location.search.includes('unit=6')")
    settled(page)
    page.locator("body").press("j")
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 7")
    settled(page)
    name = page.get_by_label("Your name, for your verdicts")
    name.fill("Ada")
    name.press("Enter")
    name.blur()  # else the keys below would be typed into it
    expect(page.locator(".csp-verdict")).to_contain_text("Will be saved as Ada")
    settled(page)
    for _ in range(2):  # the second time it is chosen already, and no slip takes it back
        page.locator("body").press("2")
        expect(page.get_by_role("radio", name="Spurious")).to_be_checked()
        expect(page.locator(".csp-verdict")).to_have_text(re.compile("^Saved as "))
    page.get_by_label("Unit", exact=True).press("k")  # typed into a field, it is no command
    page.get_by_role("button", name="Letter keys on").click()
    page.locator("body").press("k")
    page.locator("body").press("ArrowRight")
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 8")


def test_two_choices_in_quick_succession_both_count_and_back_takes_them_back(server, open_page):
    page = open_page(f"{server.url}/neuron?bundle=small&layer=second@mean&unit=5&v=1")
    at_first = address(page)
    for gap_ms in (0, 5, 15, 30, 60):
        expect(page.locator(".st-key-_show button").nth(2)).to_be_visible()
        settled(page)
        page.evaluate(
            """gap => new Promise(done => {
                document.querySelectorAll(".st-key-_show button")[2].click()
                const second = document.querySelector(".st-key-_hide input")
                setTimeout(() => done(second.click()), gap)
            })""",
            gap_ms,
        )
        # In either order: two choices that come as one are dealt with in any.
        for chosen in ("show=groups", "copies=hide"):
            page.wait_for_function("part => location.search.includes(part)", arg=chosen)
        expect(page.locator(".st-key-_show button").nth(2)).to_be_checked()
        settled(page)
        while address(page) != at_first:
            before = address(page)
            page.go_back()
            page.wait_for_function("b => location.pathname + location.search != b", arg=before)
            # As a person goes back: the page follows, then the next step.
            expect(page.locator(".st-key-_show button").nth(2)).to_be_checked(
                checked="show=" in address(page)
            )
            expect(page.locator(".st-key-_hide input")).to_be_checked(
                checked="copies=hide" in address(page)
            )
            settled(page)


def test_a_card_is_a_real_link_and_its_images_come_when_it_is_near(server, open_page):
    page = open_page(f"{server.url}/search?q=green&k=48", height=500)
    expect(page.locator(f".cards {LOADED}").nth(47)).to_be_attached()
    last = page.locator(".cards a").last
    expect(last.locator(LOADED)).to_have_count(0)
    last.scroll_into_view_if_needed()
    expect(last.locator(LOADED)).to_have_count(last.locator("img").count())
    href = page.locator(".cards a").first.get_attribute("href")
    other = open_page(server.url + href)
    expect(other.locator(".tiles li.pair").first).to_be_visible()


def test_a_layer_row_opens_its_table_and_a_row_of_that_its_neuron(server, open_page):
    page = open_page(server.url)
    page.get_by_role("link", name="second@mean").click()
    expect(page.locator(".csp-id")).to_contain_text("small / second@mean")
    expect(page.locator(".csp-title")).to_contain_text("12 neurons")
    expect(page.get_by_test_id("stDataFrame").locator("canvas").first).to_be_visible()
    settled(page)  # the last that the page draws is there, and its boxes stay as they are
    page.get_by_label("Order").fill("Unit, high")  # of a long list only a part is drawn
    page.get_by_role("option", name="Unit, high to low").click()
    page.wait_for_function("() => location.search.includes('sort=-unit')")
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download these rows (CSV)").click()
    lines = download.value.path().read_text().splitlines()
    named = [name for name in lines[0].split(",") if name != "review"]  # there once one is judged
    assert ",".join(named).startswith("neuron,label,family,moves,moves_rank,unit,score,reliable")
    assert [line.split(",")[0] for line in lines[1:3]] == [
        "small/second@mean/11",
        "small/second@mean/10",
    ]
    canvas = page.get_by_test_id("stDataFrame").locator("canvas").first
    canvas.click(position={"x": 14, "y": 40 + 50 + 25}, force=True)  # ticked, not opened
    held = page.get_by_role("link", name="Test the fix with the ticked neuron held still")
    expect(held).to_have_attribute("href", re.compile(r"hold=second%40mean%3A10"))
    settled(page)
    canvas.click(position={"x": 60, "y": 40 + 50 + 25}, force=True)  # its label
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 10")


def test_the_map_lists_what_a_lasso_holds_and_opens_what_is_clicked(server, open_page):
    page = open_page(f"{server.url}/map?bundle=small")
    ready = page.locator(".map[data-ready='20']")
    expect(ready).to_be_visible()
    box = ready.bounding_box()
    page.get_by_role("button", name="Draw around neurons to list them").click()
    left, top = box["x"] + 6, box["y"] + 50
    right, bottom = box["x"] + box["width"] - 6, box["y"] + box["height"] - 4
    page.mouse.move(left, box["y"] + 4)
    page.mouse.down()
    for x, y in ((right, box["y"] + 4), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    expect(page.locator(".csp-h")).to_contain_text("20 neurons in the selection")
    page.get_by_role("button", name="Go to the list of neurons in the selection").click()
    expect(page.locator(".csp-h")).to_be_in_viewport()
    page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 0)")
    page.wait_for_function("() => location.search.includes('area=')")
    page.go_back()
    expect(page.locator(".csp-h")).to_have_count(0)

    # Where the first point lies: the map is fitted to its points and centred.
    shown = page.evaluate(
        """async () => {
          const entry = performance.getEntriesByType("resource")
            .find(each => each.name.includes("/csp/points/"))
          const body = await (await fetch(entry.name)).arrayBuffer()
          const n = new DataView(body).getUint32(0, true)
          return Array.from(new Uint16Array(body, 4 + 4 * n, 2 * n))
        }"""
    )
    xs, ys = [[v / 65535 for v in shown[axis::2]] for axis in (0, 1)]
    span = min(
        box["width"] * 0.94 / max(0.05, max(xs) - min(xs)),
        box["height"] * 0.88 / max(0.05, max(ys) - min(ys)),
    )
    box = ready.bounding_box()
    at = (
        box["x"] + box["width"] / 2 + (xs[0] - 0.5) * span,
        box["y"] + box["height"] / 2 - (ys[0] - 0.5) * span,
    )
    page.mouse.move(*at)
    card = page.locator(".map .card")
    expect(card).to_be_visible()
    expect(card.get_by_role("img")).to_have_attribute("alt", re.compile("Strongest exemplars of"))
    name = card.locator(".id").text_content()
    page.mouse.click(*at)
    expect(page.locator(".csp-id")).to_contain_text(name.replace("/", " / "))


FOCUSED = """() => {
  let each = document.activeElement
  while (each?.shadowRoot?.activeElement) each = each.shadowRoot.activeElement
  return each.textContent || each.getAttribute("aria-label")
}"""


@pytest.mark.parametrize(
    ("stops", "where"),
    [
        (1, "document.activeElement.localName === 'h1'"),
        (2, "document.activeElement.closest('.st-key-judging') !== null"),
        (3, "document.activeElement.shadowRoot !== null"),
    ],
)
def test_three_stops_from_the_start_keys_are_at_the_page_the_verdict_and_the_link(
    server, open_page, stops, where
):
    page = open_page(f"{server.url}/neuron?bundle=small&unit=5")
    expect(page.locator(".tiles img").first).to_be_visible()
    settled(page)
    first = page.get_by_role("button", name="Skip to the page")
    expect(first).not_to_be_in_viewport()
    for _ in range(stops):
        page.keyboard.press("Tab")
    expect(first).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.wait_for_function(f"() => {where}")
    if stops == 3:
        assert page.evaluate(FOCUSED) == "Copy link"


def test_keys_alone_lead_from_the_map_to_a_neuron(server, open_page):
    page = open_page(f"{server.url}/map?bundle=small")
    expect(page.locator(".map[data-ready='20']")).to_be_visible()
    settled(page)
    page.locator(".map canvas.points").focus()
    page.keyboard.press("Enter")
    name = page.locator(".map .card .id")
    expect(name).to_be_visible()
    first = name.text_content()
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)  # there may be nothing on that side
        with suppress(AssertionError):
            expect(name).not_to_have_text(first, timeout=4000)
            break
    expect(name).not_to_have_text(first)
    chosen = name.text_content()
    page.keyboard.press("Enter")
    expect(page.locator(".csp-id").first).to_contain_text(chosen.replace("/", " / "))


def test_two_layers_are_compared_and_a_row_shows_both(server, open_page):
    page = open_page(f"{server.url}/compare?layer=second@mean&layer2=first@mean")
    expect(page.locator(".csp-lead")).to_contain_text("of 12 neurons")
    canvas = page.get_by_test_id("stDataFrame").locator("canvas").first
    canvas.scroll_into_view_if_needed()
    canvas.click(position={"x": 14, "y": 40 + 25}, force=True)
    cards = page.locator(".cards a")
    expect(cards).to_have_count(2)
    page.wait_for_function("() => location.search.includes('unit=')")
    assert "first@mean / " in cards.nth(1).text_content()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "compare.png")
