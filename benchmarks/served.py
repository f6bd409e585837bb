"""A server of the pages, and a Chromium that tells how long it took until something was painted."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
APP = ROOT / "app.py"
PLAIN = ROOT / "benchmarks" / "plain_page.py"
PATIENCE_S = 90.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]

WATCH = """
globalThis.watch = {
  acted: 0,
  hosts: () => [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")],
  all: selector => watch.hosts().flatMap(
    host => [...(host.shadowRoot?.querySelectorAll(selector) ?? [])]),
  still: () =>
    document.querySelector("[data-test-script-state]")?.dataset.testScriptState === "notRunning",
  text: selector => document.querySelector(selector)?.textContent ?? "",
  // Every image that lies in the window is there, and as many as are asked for in all.
  images: (selector, least) => {
    const found = watch.all(selector + " img")
    const isShown = image => {
      const box = image.getBoundingClientRect()
      return box.bottom > 0 && box.top < innerHeight
    }
    return found.length >= least && found.filter(isShown).every(i => i.complete && i.naturalWidth)
  },
  // A grid on a canvas has drawn text into its cells.
  grid: () => {
    const canvas = document.querySelector("[data-testid=stDataFrame] canvas")
    if (!canvas || canvas.height < 200) return false
    const pixels = canvas.getContext("2d").getImageData(60, 60, 600, 120).data
    let dark = 0
    for (let i = 0; i < pixels.length; i += 4) dark += pixels[i] < 128 && pixels[i + 3] > 128
    return dark > 50
  },
  // `took` becomes the milliseconds from the first key or click (or from `start`) to the second
  // frame after `is`.
  until: (is, start) => {
    Object.assign(watch, { acted: 0, took: 0 })
    const frame = globalThis.requestAnimationFrame.bind(globalThis)
    const look = () => {
      const began = start ?? watch.acted
      if ((start !== undefined || began) && is()) {
        frame(() => frame(() => { watch.took = performance.now() - began }))
      } else frame(look)
    }
    frame(look)
  },
}
for (const kind of ["click", "keydown"]) {
  addEventListener(kind, event => { watch.acted ||= event.timeStamp }, { capture: true })
}
"""


class Server:
    """``streamlit run SCRIPT`` on a free port; its start counts from ``started``."""

    def __init__(self, bundles: list[Path], script: Path = APP, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "streamlit", "run", str(script)]
        command += ["--server.port", str(self.port), "--server.address", "127.0.0.1"]
        # No token: what is measured is what somebody sees who may do all.
        held = {
            "CSP_TOKEN": "",
            "CSP_BUNDLES": os.pathsep.join(map(str, bundles)),
            "PYTHONPATH": str(ROOT),
            # As where it is installed: else each start compiles some 300 modules, for 0.3 s.
            "PYTHONDONTWRITEBYTECODE": "",
        }
        self.started, self.started_at = time.perf_counter(), time.time()
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **held, "STREAMLIT_SERVER_HEADLESS": "true", **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not self._is_well():
            late = time.perf_counter() - self.started > PATIENCE_S
            if late or self.process.poll() is not None:
                self.stop()
                sys.exit("The server did not start; try: csp serve")
            time.sleep(0.01)
        self.well = time.perf_counter()

    def _is_well(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def resident_mb(self) -> float:
        """Memory of the server's process alone."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def cpu_seconds(self) -> float:
        """What the process has computed so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def has_torch(self) -> bool:
        """Whether the server's process has loaded torch."""
        return "libtorch" in Path(f"/proc/{self.process.pid}/maps").read_text()

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(20)


@contextlib.contextmanager
def serving(bundles: list[Path], script: Path = APP, **environment: str) -> Iterator[Server]:
    server = Server(bundles, script, **environment)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CSP_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        sys.exit("No Chromium found; name one by CSP_CHROMIUM.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def new_page(browser: Any, width: int = 1280) -> Page:
    """A page of a fresh profile with a window of so many x 900 pixels and the watch."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_default_timeout(1000 * PATIENCE_S)
    context.add_init_script(WATCH)
    return context.new_page()


def opened_ms(page: Page, url: str, shown: str) -> float:
    """Milliseconds from following a link to ``shown`` (JavaScript) being painted."""
    page.goto(url, wait_until="commit")
    page.evaluate(f"() => watch.until(() => {shown}, 0)")
    return painted_ms(page)


def expect(page: Page, shown: str) -> None:
    """Begin to wait for ``shown`` (JavaScript); the next key or click starts the clock."""
    page.evaluate(f"() => watch.until(() => {shown})")


def painted_ms(page: Page) -> float:
    """How long what was expected took."""
    return page.wait_for_function("() => watch.took", polling=50).json_value()


def settle(page: Page, milliseconds: int = 400) -> None:
    """Until the script has run, and a moment longer: what is fetched ahead comes then."""
    page.wait_for_function("() => watch.still()", polling=50)
    page.wait_for_timeout(milliseconds)


def summary(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest of some figures, and what else the machine did."""
    ordered = sorted(values)
    p95 = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1) + 0.49))]
    found = {"p50": statistics.median(ordered), "p95": p95, "max": ordered[-1], "n": len(ordered)}
    found = {
        key: float(f"{value:.3g}") if value < 1 else round(value, 1) for key, value in found.items()
    }
    return {**found, "load": round(os.getloadavg()[0], 1)}
