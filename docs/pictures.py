"""Take the pictures in these documents from the shipped demo, so that they stay true.

    python docs/pictures.py

Needs Playwright (requirements-dev.txt) and a Chromium on the path.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PORT = 8643
PICTURES = {
    "neuron.png": "/neuron?bundle=dermoscopy&model=biased&layer=layer4@mean&unit=654",
}
SIZE = {"width": 1280, "height": 1000}


def main() -> None:
    """Serve the demo, photograph its pages, stop the server."""
    command = [
        sys.executable,
        "-m",
        "csp_engine",
        "serve",
        str(ROOT / "assets" / "demo" / "dermoscopy.csp"),
    ]
    server = subprocess.Popen([*command, "--port", str(PORT)], cwd=ROOT)
    url = f"http://127.0.0.1:{PORT}"
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport=SIZE)
            for name, view in PICTURES.items():
                page.goto(url + view)
                page.get_by_text("Outputs it drives").wait_for()
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(1000)
                with Image.open(io.BytesIO(page.screenshot())) as shot:
                    small = shot.convert("RGB").quantize(192, dither=Image.Dither.NONE)
                small.save(ROOT / "docs" / "img" / name, optimize=True)
            browser.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
