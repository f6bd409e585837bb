"""A build started from the browser: reloaded in the middle, cancelled, resumed, opened."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from csp_engine import jobs
from tests.browser.conftest import SCREENSHOTS, Server, address, settled
from tests.worlds import toys

pytestmark = [pytest.mark.browser, pytest.mark.slow]


HELD = """
import time
from pathlib import Path
from tests.worlds.toys import ColourEncoder

class Slow(ColourEncoder):
    spec = "python:slow_toys:Slow"
    calls = 0

    def embed_images(self, pixels):
        self.calls += 1
        while self.calls > 10 and Path(__file__).with_name("hold").exists():
            time.sleep(0.05)
        return super().embed_images(pixels)
"""
"""An encoder that stops after ten batches for as long as a file is there: however slow the browser
is, the build has not ended before it is cancelled."""


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Server]:
    """A server whose builds run in a folder of images, with an encoder that takes its time."""
    toys.draw_images(tmp_path / "images", 40)
    toys.words(tmp_path)
    (tmp_path / "pixels.json").write_text(json.dumps(toys.PREPROCESSING))
    (tmp_path / "slow_toys.py").write_text(HELD)
    (tmp_path / "hold").touch()
    bundles = tmp_path / "bundles"
    started = Server(
        [bundles], tmp_path / "log.txt", CSP_START_FOLDER=str(tmp_path), OMP_NUM_THREADS="1"
    )
    try:
        yield started
    finally:
        started.stop()
        for job in jobs.jobs_in(bundles):
            jobs.cancel(job)


def choose(page: Page, label: str, value: str) -> None:
    box = page.get_by_role("combobox", name=label)
    box.click()
    box.fill(value)
    box.press("Enter")
    box.press("Tab")  # a list of several stays open, and hides what is below
    settled(page)


def fill(page: Page, label: str, value: str) -> None:
    box = page.get_by_label(label, exact=True)
    box.fill(value)
    box.press("Enter")
    settled(page)


def test_a_build_is_started_reloaded_cancelled_resumed_and_opened(workshop, open_page, tmp_path):
    page = open_page(f"{workshop.url}/build")
    choose(page, "Images", "images")
    expect(page.get_by_text("40 images in 4 class folders")).to_be_visible()
    choose(page, "Model", "python:tests.worlds.toys:network")
    choose(page, "Layers", "second")
    choose(page, "Encoder", "python:slow_toys:Slow")
    choose(page, "Words to try as labels", "words.txt")
    page.get_by_role("button", name="Try the encoder").click()
    said = page.locator(".csp-trial")
    expect(said).to_contain_text("tells these photographs apart by words", timeout=60_000)
    expect(page.locator(".csp-tried img")).to_have_count(12)
    settled(page)
    fill(page, "Name of the bundle", "mine")
    page.get_by_text("More options").click()
    fill(page, "Preprocessing", "pixels.json")
    # What is wrong says so before anything starts.
    expect(page.locator(".csp-problem")).to_contain_text("fewer than the 100 exemplars")
    fill(page, "Exemplars per neuron", "6")
    expect(page.locator(".csp-problem")).to_have_count(0)
    fill(page, "Images per forward pass", "1")
    expect(
        page.get_by_text("csp build images --model python:tests.worlds.toys:network")
    ).to_be_visible()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "build-form.png", full_page=True)

    page.get_by_role("button", name="Start build").click()
    going = page.get_by_text(re.compile(r"Running model and encoder on the images.* of 40"))
    expect(going).to_be_visible(timeout=60_000)
    assert "job=mine" in address(page)
    page.reload()
    expect(going).to_be_visible(timeout=60_000)
    page.screenshot(path=SCREENSHOTS / "build-running.png", full_page=True)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".csp-title")).to_contain_text("Cancelled")
    (tmp_path / "hold").unlink()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".csp-title")).to_contain_text("Finished", timeout=90_000)
    page.screenshot(path=SCREENSHOTS / "build-finished.png", full_page=True)
    page.get_by_role("link", name="Open mine").click()
    expect(page.get_by_text("12 neurons of")).to_be_visible()
    assert address(page).startswith("/?bundle=mine")
