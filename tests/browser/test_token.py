"""The printed address with its token, in a browser: looking needs none, doing does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import SCREENSHOTS, Server, address, settled

pytestmark = pytest.mark.browser
TOKEN = "the token of the browser tests"
PASS = "?token=the+token+of%20the+browser+tests"


@pytest.fixture(scope="module")
def guarded(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as ``csp serve`` starts it."""
    folder = tmp_path_factory.mktemp("guarded")
    settings = {"CSP_TOKEN": TOKEN, "CSP_START_FOLDER": str(folder), "CSP_REVIEWER": "ada"}
    started = Server([small_bundle], folder / "log.txt", **settings)
    try:
        yield started
    finally:
        started.stop()


@pytest.mark.parametrize("width", [1280, 390])
def test_without_the_token_one_looks_and_is_told_what_to_do(guarded, open_page, width):
    SCREENSHOTS.mkdir(exist_ok=True)
    page = open_page(f"{guarded.url}/build", width=width)
    expect(page.get_by_text("To build from here, open the address")).to_be_visible()
    expect(page.get_by_role("button", name="Start build")).to_have_count(0)
    page.screenshot(path=SCREENSHOTS / f"token-build-without-{width}.png", full_page=True)
    page = open_page(f"{guarded.url}/neuron?unit=3", width=width)
    expect(page.get_by_text("To give a verdict, open the address")).to_be_visible()
    expect(page.locator("h1.csp-title")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / f"token-neuron-without-{width}.png", full_page=True)
    page = open_page(f"{guarded.url}/search?q=a+word+that+is+no+label", width=width)
    expect(page.locator(".csp-problem")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / f"token-search-without-{width}.png", full_page=True)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_printed_address_opens_all_and_is_clean_at_once(guarded, open_page, width):
    page = open_page(f"{guarded.url}/{PASS}", width=width)
    assert "token" not in page.url
    assert page.evaluate("document.cookie").count("csp_pass") == 0
    page.goto(f"{guarded.url}/build")
    settled(page)
    expect(page.get_by_role("button", name="Start build")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / f"token-build-with-{width}.png", full_page=True)
    page.goto(f"{guarded.url}/neuron?unit=3")
    settled(page)
    page.get_by_role("radio", name="Unclear").click()
    expect(page.get_by_text("Saved as ada")).to_be_visible()
    page.screenshot(path=SCREENSHOTS / f"token-neuron-with-{width}.png", full_page=True)
    page.reload()
    settled(page)
    expect(page.get_by_text("Saved as ada")).to_be_visible()
    # Words that only the encoder can read, and the address to pass on.
    page.goto(f"{guarded.url}/search?q=a+bright+thing")
    settled(page)
    expect(page.get_by_text("neurons searched")).to_be_visible(timeout=60_000)
    assert "token" not in address(page)


def test_an_address_of_an_earlier_start_shows_the_page_and_opens_nothing(guarded, open_page):
    page = open_page(f"{guarded.url}/neuron?unit=3&token=of-an-earlier-start")
    assert address(page) == "/neuron?unit=3" or "token" not in address(page)
    expect(page.get_by_text("To give a verdict, open the address")).to_be_visible()
    assert TOKEN not in guarded.log.read_text()
