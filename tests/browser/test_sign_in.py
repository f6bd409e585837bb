"""Signing in with ``csp serve`` and a real provider on this machine, the whole way in a browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ROOT, SCREENSHOTS, settled
from tests.worlds.provider import CLIENT, SECRET, Provider, provider

pytestmark = pytest.mark.browser
ADA = {"email": "ada@example.org", "name": "Ada"}
SECRETS = """
[auth]
redirect_uri = "{url}/oauth2callback"
cookie_secret = "a text of more than thirty-two letters, for tests"
client_id = "{client}"
client_secret = "{secret}"
server_metadata_url = "{discovery}"

[access]
emails = ["ada@example.org"]
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Provider]:
    with provider() as running:
        yield running


@pytest.fixture(scope="module")
def served(
    home: Provider, small_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of ``csp serve`` with sign-in."""
    folder = tmp_path_factory.mktemp("signing-in")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    secrets = folder / "secrets.toml"
    given = {"client": CLIENT, "secret": SECRET, "discovery": home.discovery}
    secrets.write_text(SECRETS.format(url=url, **given))
    command = [sys.executable, "-m", "csp_engine", "serve", str(small_bundle), "--port", str(port)]
    settings = {"STREAMLIT_SECRETS_FILES": str(secrets), "PYTHONPATH": str(ROOT)}
    settings |= {"CSP_REVIEWS": str(folder / "reviews.sqlite")}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **settings}, stdout=log, stderr=log
        )
    try:
        _wait(url)
        yield url
    finally:
        process.terminate()
        process.wait(20)
    assert "?token=" not in (folder / "log.txt").read_text()  # nobody needs one here


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def sign_in(page: Page, url: str) -> None:
    page.goto(url)
    settled(page)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_role("button", name="Sign in").click()


def picture(url: str, bundle: Path) -> str:
    """The address of a thumbnail, which stands outside of the pages."""
    return f"{url}/csp/thumbs/{bundle.stem}/x/0"


def _status(page: Page, address: str, awaited: int) -> int:
    """What an address answers this browser, asked until it is what is awaited, for ten seconds."""
    end = time.monotonic() + 10
    while (status := page.request.get(address).status) != awaited and time.monotonic() < end:
        time.sleep(0.1)
    return status


def test_who_is_verified_and_listed_is_let_in(home, served, page, small_bundle):
    home.account = {**ADA, "email_verified": True}
    address = picture(served, small_bundle)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(address)
    sign_in(page, served)
    expect(page.get_by_text("20 neurons of small")).to_be_visible()
    assert page.request.get(address).status != 401
    page.goto(f"{served}/neuron?unit=3")
    settled(page)
    page.get_by_role("radio", name="Unclear").click()
    expect(page.get_by_text("Saved as ada@example.org")).to_be_visible()
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "signed-in.png", full_page=True)
    page.get_by_role("button", name="Ada").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert _status(page, address, 401) == 401  # the page is drawn before the cookie is gone


@pytest.mark.parametrize(
    "account",
    [
        {**ADA, "email_verified": False},
        ADA,
        {**ADA, "email_verified": "true"},
        {**ADA, "email_verified": 1},
        {**ADA, "email_verified": None},
        {**ADA, "email": "bob@example.org", "email_verified": True},
        {"name": "Ada", "email_verified": True},
    ],
    ids=["no", "absent", "text", "number", "null", "another", "no address"],
)
def test_who_is_not_is_not(home, served, page, small_bundle, account: dict[str, Any]):
    home.account = account
    sign_in(page, served)
    expect(page.get_by_role("heading", name="No access")).to_be_visible()
    expect(page.get_by_text("20 neurons of small")).to_have_count(0)
    assert page.request.get(picture(served, small_bundle)).status == 401


@pytest.mark.parametrize("forged", ["signature", "audience"])
def test_a_token_that_is_not_of_the_provider_signs_nobody_in(home, served, page, forged):
    home.account = {**ADA, "email_verified": True}
    if forged == "signature":
        home.signing = RSAKey.generate_key(2048, {"kid": "1"}, private=True)
    else:
        home.audience = "another client"
    try:
        sign_in(page, served)
        page.wait_for_timeout(1500)
        page.goto(served)
        settled(page)
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    finally:
        home.signing, home.audience = home.key, CLIENT
