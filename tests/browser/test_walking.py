"""Steps show at once, the page follows, and a verdict is of the neuron that was on the screen."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from csp_engine.bundle import Bundle
from csp_engine.reviews.opening import open_reviews
from csp_engine.reviews.place import Place
from csp_engine.reviews.review import lasting_id, latest_of
from csp_engine.types import NeuronRef
from tests.browser.conftest import address, settled

pytestmark = [pytest.mark.browser]
VERDICTS = ("valid", "spurious", "mixed", "unclear")
NOTE_KEYS = """globalThis.pressed = []
addEventListener("keydown", event => {
  if (/^[1-4]$/.test(event.key)) {
    pressed.push([event.key, document.querySelector(".csp-id").textContent])
  }
}, { capture: true })"""


def walker(open_page, url: str) -> Page:
    """A page of a neuron whose reader has a name, and which has come to rest."""
    page = open_page(url)
    name = page.get_by_label("Your name, for your verdicts")
    name.fill("Ada")
    name.press("Enter")
    name.blur()
    expect(page.locator(".csp-verdict")).to_contain_text("as Ada")
    return rested(page)


def rested(page: Page) -> Page:
    """Wait until the server has followed."""
    expect(page.locator("html")).not_to_have_attribute("data-csp-ahead", re.compile(".*"))
    expect(page.locator(".tiles li.pair img[src^='data:image/webp']").first).to_be_visible()
    return settled(page)


def unit_of(page: Page) -> str:
    return page.locator(".csp-id").inner_text().split(" / ")[-1].split()[0]


def whole(page: Page) -> list[str]:
    """What the page says of its neuron."""
    return [
        *page.locator("[data-part]").evaluate_all("all => all.map(each => each.textContent)"),
        *page.locator(".tiles li.pair img").evaluate_all("all => all.map(each => each.alt)"),
    ]


def test_a_step_shows_before_the_server_draws_it_and_back_shows_what_was_there(server, open_page):
    page = walker(open_page, f"{server.url}/neuron?bundle=small&layer=second@mean&unit=5&v=1")
    page.wait_for_timeout(1000)  # the neighbours are being fetched
    n_before = page.evaluate("history.length")
    seen = {"5": whole(page)}
    for unit in ("6", "7", "8"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(".csp-id")).to_contain_text(f"second@mean / {unit} ")
        assert "unit=" + unit in address(page)
        seen[unit] = whole(page)
    assert page.evaluate("history.length") == n_before + 3
    rested(page)
    assert whole(page) == seen["8"]  # the server draws the same
    for unit in ("7", "6", "5"):
        page.go_back()
        expect(page.locator(".csp-id")).to_contain_text(f"second@mean / {unit} ")
        rested(page)
        assert whole(page) == seen[unit]
    page.go_forward()
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 6 ")
    rested(page)
    assert whole(page) == seen["6"]
    page.get_by_role("button", name="Previous").click()
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 5 ")
    page.go_back()  # at once, before the server has followed
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 6 ")
    rested(page)
    assert whole(page) == seen["6"]


def test_a_held_key_walks_on_and_is_one_step_back(server, open_page):
    page = walker(open_page, f"{server.url}/neuron?bundle=small&layer=second@mean&unit=0&v=1")
    for _ in range(8):  # each after the first is a repetition; fewer than the layer has neurons
        page.keyboard.down("ArrowRight")
        page.wait_for_timeout(25)
    page.keyboard.up("ArrowRight")
    page.wait_for_function("() => !globalThis.__cspWalk.waiting")
    here = unit_of(page)
    assert f"unit={here}&" in address(page) + "&"
    assert 1 <= int(here) <= 8  # a busy machine drops repetitions
    rested(page)
    assert unit_of(page) == here
    assert page.locator("[data-judged-of]").get_attribute("data-judged-of").endswith(f"/{here}")
    page.go_back()
    expect(page.locator(".csp-id")).to_contain_text("second@mean / 0 ")


def judged(server, bundle: Path, unit: int) -> str:
    """The latest verdict on a neuron in the database."""
    neuron = lasting_id(Bundle.open(bundle), NeuronRef("small", "second@mean", unit))
    place = Place(file=server.log.with_name("reviews.sqlite"))
    said = latest_of(open_reviews(place).history(neuron))
    return said[0].verdict if said else ""


@pytest.mark.parametrize("seed", [1, 2])
def test_verdicts_given_while_stepping_are_of_the_neuron_that_was_seen(
    fresh_server, small_bundle, open_page, seed
):
    draw = random.Random(seed)
    page = open_page(fresh_server.url)
    page.context.add_init_script(NOTE_KEYS)
    page.goto(f"{fresh_server.url}/neuron?bundle=small&layer=second@mean&unit=0&v=1")
    name = page.get_by_label("Your name, for your verdicts")
    name.fill("Ada")
    name.press("Enter")
    name.blur()
    expect(page.locator(".csp-verdict")).to_contain_text("as Ada")
    rested(page)
    for _ in range(20):
        page.keyboard.press(draw.choice(("ArrowRight", "ArrowRight", "j", "k")))
        page.wait_for_timeout(draw.choice((0, 0, 5, 20, 60, 200, 800)))
        page.keyboard.press(draw.choice("1234"))
        page.wait_for_timeout(draw.choice((0, 0, 5, 20, 60, 200)))
    page.wait_for_function(
        "() => !globalThis.__cspWalk.waiting && !globalThis.__cspWalk.judging", timeout=60_000
    )
    rested(page)
    expected = {}
    for key, of in page.evaluate("pressed"):
        unit = int(of.split(" / ")[-1].split()[0])
        expected[unit] = VERDICTS[int(key) - 1]
    assert len(expected) >= 2
    found = {unit: judged(fresh_server, small_bundle, unit) for unit in range(12)}
    assert found == {unit: expected.get(unit, "") for unit in range(12)}


STEP_WHILE_DRAWN = """globalThis.shown = []
globalThis.left = 3
const look = () => {
  const unit = document.querySelector(".csp-id")?.textContent.split(" / ").at(-1).split(" ")[0]
  if (unit && shown.at(-1) !== unit) shown.push(unit)
  requestAnimationFrame(look)
}
look()
const app = document.querySelector("[data-test-script-state]")
new MutationObserver(() => {
  if (app.dataset.testScriptState !== "running" || left < 1) return
  left -= 1
  const key = { key: "ArrowRight", bubbles: true, composed: true }
  document.body.dispatchEvent(new KeyboardEvent("keydown", key))
}).observe(app, { attributes: true, attributeFilter: ["data-test-script-state"] })"""


def test_steps_while_the_server_draws_are_taken_and_never_undone(server, open_page):
    page = walker(open_page, f"{server.url}/neuron?bundle=small&layer=second@mean&unit=2&v=1")
    page.wait_for_timeout(1000)  # the neighbours are being fetched
    page.evaluate(STEP_WHILE_DRAWN)
    page.keyboard.press("ArrowRight")  # each of the others comes while the one before is drawn
    rested(page)
    page.wait_for_timeout(1500)  # the server follows once nobody steps
    rested(page)
    taken = 3 - page.evaluate("left")  # a busy server draws several steps at once
    assert taken > 0
    expect(page.locator(".csp-id")).to_contain_text(f"second@mean / {3 + taken} ")
    # Each once and in order: no answer about an older neuron was ever on the screen.
    assert page.evaluate("shown") == [str(unit) for unit in range(2, 4 + taken)]
