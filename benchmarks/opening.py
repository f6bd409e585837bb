"""From a started server to an interactive overview of the shipped demo, in a real browser.

A fresh server and a fresh browser profile each time; the clock of the second figure starts when the
server says it is well, and stops when the overview's script has run, its search box can be typed
into and the first thumbnails are drawn. Run: python -m benchmarks.opening [BUNDLE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import expect, sync_playwright

from csp_engine.demo.shipped import BUNDLE, SHIPPED

ROOT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).parent / "results" / "opening.json"
TARGET_S = 5.0
PATIENCE_S = 120.0


def one_opening(browser: Any, bundle: Path) -> dict[str, float]:
    """Seconds until the server is well, and from there until the overview can be used."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
    environment = {**os.environ, "CSP_BUNDLES": str(bundle), "STREAMLIT_SERVER_HEADLESS": "true"}
    started = time.perf_counter()
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not is_well(url):
            if time.perf_counter() - started > PATIENCE_S or server.poll() is not None:
                sys.exit("The server did not start; try: csp serve")
            time.sleep(0.02)
        well = time.perf_counter()
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(url)
        milliseconds = PATIENCE_S * 1000
        box = page.get_by_label("Find neurons by what they respond to")
        expect(box).to_be_editable(timeout=milliseconds)
        expect(page.locator("img[src^='blob:']").first).to_be_visible(timeout=milliseconds)
        expect(page.get_by_test_id("stApp")).to_have_attribute(
            "data-test-script-state", "notRunning", timeout=milliseconds
        )
        shown = time.perf_counter()
        context.close()
    finally:
        server.terminate()
        server.wait(10)
    return {"server_s": well - started, "overview_s": shown - well}


def is_well(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=SHIPPED / BUNDLE)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if not (options.bundle / "manifest.json").exists():
        sys.exit(f"There is no bundle at {options.bundle}; make it with: csp demo build")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CSP_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        sys.exit("No Chromium found; name one by CSP_CHROMIUM.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        runs = [one_opening(browser, options.bundle.resolve()) for _ in range(options.runs)]
        browser.close()
    middle = {key: round(statistics.median(run[key] for run in runs), 2) for key in runs[0]}
    slowest = round(max(run["overview_s"] for run in runs), 2)
    for key, value in middle.items():
        print(f"{key:12} {value:6.2f}")
    print(f"slowest overview {slowest:.2f} s; at most {TARGET_S:.0f} s: "
          f"{'met' if slowest <= TARGET_S else 'missed'}")  # fmt: skip
    result = {
        "bundle": options.bundle.name,
        "runs": options.runs,
        "cores": os.cpu_count(),
        "median": middle,
        "slowest_overview_s": slowest,
        "target_s": TARGET_S,
        "is_met": slowest <= TARGET_S,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
