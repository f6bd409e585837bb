"""A real server on a free port and a real Chromium that may talk to nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Dialog,
    Page,
    Response,
    expect,
    sync_playwright,
)

from csp_engine.pipeline import build
from tests.worlds import case_world, hostile_world, toys

# What a page shows is tested here, not how soon: two browsers may share two busy cores.
expect.set_options(timeout=20_000)

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(__file__).parent / "screenshots"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
LOCAL = ("http://127.0.0.1:", "ws://127.0.0.1:", "blob:", "data:")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CSP_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium found (looked for chromium and google-chrome; set CSP_CHROMIUM)")
    return path


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    build(toys.request(folder, folder / "small.csp"))
    return folder / "small.csp"


@pytest.fixture(scope="session")
def every_bundle(small_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The small bundle first, then one of the melanoma walk, and one with hostile names."""
    case = case_world.with_facts(case_world.make(tmp_path_factory.mktemp("case")))
    return [small_bundle, case, hostile_world.make(tmp_path_factory.mktemp("hostile"))]


class Server:
    """``streamlit run app.py`` as ``csp serve`` starts it."""

    def __init__(self, bundles: list[Path], log: Path, **settings: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
        command += ["--server.port", str(self.port)]
        joined = os.pathsep.join(map(str, bundles))
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={
                    **os.environ,
                    "CSP_BUNDLES": joined,
                    "CSP_TRUST_PYTHON": "1",
                    "CSP_TOKEN": "",  # whoever comes may do all; test_token.py has one
                    "CSP_REVIEWS": str(log.with_name("reviews.sqlite")),
                    **settings,
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise AssertionError(f"the server did not start:\n{log.read_text()}")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="session")
def server(every_bundle: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(every_bundle, tmp_path_factory.mktemp("server") / "log.txt")
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def fresh_server(small_bundle: Path, tmp_path: Path) -> Iterator[Server]:
    """A server that nobody has visited."""
    started = Server([small_bundle], tmp_path / "log.txt")
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def browser(chromium_path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium_path, args=FLAGS)
        yield launched
        launched.close()


class Witness:
    """What pages did that they must not: ask other machines or for what is not there, fail, ask."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def watch(self, page: Page) -> Page:
        """Note it from now on."""

        def asked(url: str) -> None:
            if not url.startswith(LOCAL):
                self.seen.append(f"asked {url}")

        def opened(dialog: Dialog) -> None:
            self.seen.append(f"said {dialog.message}")
            dialog.dismiss()

        def answered(response: Response) -> None:
            if response.status >= 400:
                self.seen.append(f"was refused {response.url}: {response.status}")

        page.on("request", lambda request: asked(request.url))
        page.on("response", answered)
        page.on("websocket", lambda socket: asked(socket.url))
        page.on("pageerror", lambda error: self.seen.append(f"failed: {error}"))
        page.on("dialog", opened)
        return page


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open an address at a width; at the end no page may have done what it must not."""
    contexts: list[BrowserContext] = []
    witness = Witness()

    def visit(url: str, width: int = 1280, height: int = 900) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = witness.watch(context.new_page())
        page.goto(url)
        return settled(page)

    yield visit
    for context in contexts:
        context.close()
    assert witness.seen == []


def settled(page: Page) -> Page:
    """Wait until the script has run."""
    expect(page.get_by_test_id("stApp")).to_have_attribute(
        "data-test-script-state", "notRunning", timeout=30_000
    )
    return page


def address(page: Page) -> str:
    """The address as the browser shows it now."""
    return page.evaluate("location.pathname + location.search")
