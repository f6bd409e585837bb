"""A static export and a published site open from disk, with no server and no network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from csp_engine.bundle import Bundle
from csp_engine.exports.html import of_layers, write_folder
from csp_engine.exports.publishing import parts, publish
from tests.browser.conftest import SCREENSHOTS

pytestmark = pytest.mark.browser


def first_rows(page: Page, n: int = 30) -> list[str]:
    return page.locator("tbody tr:visible td:nth-child(4)").all_inner_texts()[:n]


def test_from_the_overview_to_the_next_neuron(
    browser: Browser, small_bundle: Path, tmp_path: Path
) -> None:
    bundle = Bundle.open(small_bundle)
    write_folder(bundle, of_layers(bundle), tmp_path / "pages")
    context = browser.new_context(viewport={"width": 390, "height": 800}, offline=True)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto((tmp_path / "pages" / "index.html").as_uri())
    expect(page.get_by_role("heading", level=1)).to_have_text(bundle.name)
    page.get_by_role("link", name="first@mean").click()
    expect(page.locator("tbody tr")).to_have_count(8)
    page.get_by_role("button", name="Score").click()
    scores = [float(text.replace("−", "-")) for text in first_rows(page) if text != "–"]
    assert scores == sorted(scores, reverse=True)
    expect(page.get_by_role("columnheader", name="Score")).to_have_attribute(
        "aria-sort", "descending"
    )
    word = page.locator("tbody tr .label").first.inner_text()
    word = re.sub(r"^unclear: |\?$", "", word)
    page.get_by_label("Label contains").fill(word.upper())
    expect(page.get_by_role("status")).to_contain_text("of 8 neurons")
    for row in page.locator("tbody tr:visible").all():
        assert word.lower() in row.inner_text().lower()
    page.locator("tbody tr:visible a").first.click()

    expect(page.get_by_role("heading", name="Candidate labels")).to_be_visible()
    here = page.url
    place = page.locator(".steps span").inner_text()
    shown = page.locator(".pairs img")
    assert shown.count() > 0
    assert all(shown.evaluate_all("all => all.map(i => i.complete && i.naturalWidth > 0)")[:2])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Next").click()
    expect(page.locator(".steps span")).not_to_have_text(place)
    page.wait_for_load_state()  # keys are listened to by a script, which comes after the words
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".steps span")).to_have_text(place)
    assert page.url == here
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "static_export.png")
    context.close()
    assert complaints == []
    assert all(url.startswith("file://") for url in asked)


def test_a_label_is_found_in_a_published_site_and_leads_to_its_neuron(
    browser: Browser, small_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PER_LIST", 3)
    bundle = Bundle.open(small_bundle)
    publish(bundle, of_layers(bundle), tmp_path / "site")
    context = browser.new_context(viewport={"width": 390, "height": 800}, offline=True)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto((tmp_path / "site" / "index.html").as_uri())
    page.get_by_role("link", name="first@mean").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.get_by_role("link", name="Page 2").first.click()
    expect(page.locator("tbody tr").first).to_contain_text("3")
    label = re.sub(r"^unclear: |\?$", "", page.locator("tbody .label").first.inner_text())
    unit = page.locator("tbody tr:has(.label) a").first.inner_text()

    page.get_by_role("link", name="Overview").click()
    box = page.get_by_label("Find a label")
    words = label.upper().split()
    box.fill(" ".join(word[: max(1, len(word) - 1)] for word in reversed(words)))
    row = page.locator("#found li", has=page.get_by_text(label, exact=True)).first
    expect(row).to_be_visible()
    expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d+ labels?$"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box.fill("nothing-is-called-so")
    expect(page.get_by_role("status")).to_contain_text("None of")
    expect(page.locator("#found li")).to_have_count(0)
    box.fill(label)
    row.get_by_role("link", name=f"Neuron small/first@mean/{unit}", exact=True).click()
    expect(page.get_by_role("heading", name="Candidate labels")).to_be_visible()
    expect(page.locator(".id")).to_contain_text(f"first@mean / {unit}")
    page.get_by_role("link", name="small / first@mean").click()  # the page of the list it is on
    expect(page.locator("[aria-current=page]").first).to_have_text("2")
    context.close()
    assert complaints == []
    assert all(url.startswith("file://") for url in asked)
