"""A published site of 10,000 neurons: writing it, its size, opening a neuron and searching.

The bundle is synthetic (10,000 neurons, 20,000 images, one method). The site is
written with one worker and with two, and the bytes are compared. Then Chromium reads it from
Python's own file server on this machine: a neuron's page until its first pictures are drawn,
without anything in the cache, and a search from the last letter typed until its label stands there.
Run: python -m benchmarks.publishing [--runs 30]
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import random
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks import synthetic
from csp_engine.bundle import Bundle
from csp_engine.evidence.cores import n_cores
from csp_engine.exports.html import of_layers
from csp_engine.exports.publishing import publish

RESULT = Path(__file__).parent / "results" / "publishing.json"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, without a word."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def written(bundle: Bundle, out: Path, n_workers: int) -> dict:
    """Seconds and size of writing the site."""
    start, own = time.perf_counter(), processor_seconds()
    found = publish(bundle, of_layers(bundle), out, n_workers=n_workers)
    seconds = round(time.perf_counter() - start, 1)
    own = round(processor_seconds() - own, 1)
    print(f"{n_workers} workers: {seconds} s, {own} s of processor, {found.n_files:,} files")
    return {"workers": n_workers, "seconds": seconds, "processor": own, "files": found.n_files,
            "megabytes": round(found.n_bytes / 1e6, 1)}  # fmt: skip


def processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def sizes(site: Path) -> dict:
    """Bytes of what a reader loads."""

    def of(pattern: str) -> dict:
        held = [path.stat().st_size for path in site.glob(pattern)]
        return {"n": len(held), "median": int(np.median(held)), "most": max(held)}

    patterns = {"start": "index.html", "list": "lists/*/*.html", "neuron": "neurons/*/*.html",
                "labels": "labels/*.html", "index": "search/index.js",
                "shard": "search/[0-9]*.js", "thumbnail": "images/*/*.webp"}  # fmt: skip
    return {name: of(pattern) for name, pattern in patterns.items()}


def read(site: Path, runs: int) -> dict:
    """Milliseconds in Chromium."""
    from playwright.sync_api import sync_playwright

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    chosen = random.Random(0)
    pages = [p.relative_to(site).as_posix() for p in sorted(site.glob("neurons/*/*.html"))]
    times: dict[str, list[float]] = {"start": [], "neuron": [], "first search": [], "search": []}
    drawn = "all => all.slice(0, 4).every(i => i.complete && i.naturalWidth > 0)"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for _ in range(runs):
            context = browser.new_context(viewport={"width": 1280, "height": 844})
            page = context.new_page()
            start = time.perf_counter()
            page.goto(f"{url}/{chosen.choice(pages)}")
            while not page.locator(".pairs img").evaluate_all(drawn):
                pass
            times["neuron"].append(time.perf_counter() - start)
            start = time.perf_counter()
            page.goto(f"{url}/index.html")
            times["start"].append(time.perf_counter() - start)
            box = page.get_by_label("Find a label")
            for kind in ("first search", "search"):
                word = f"word {chosen.randrange(1000, 10_000)}"
                start = time.perf_counter()
                box.fill(word)
                page.wait_for_function(
                    "([w]) => [...document.querySelectorAll('#found .label')]"
                    ".some(e => e.textContent === w)"
                    " || document.querySelector('#search p').textContent.startsWith('None')",
                    arg=[word],
                )
                times[kind].append(time.perf_counter() - start)
            context.close()
        browser.close()
    server.shutdown()
    return {
        name: {f"p{q}": round(float(np.percentile(all_s, q)) * 1000) for q in (50, 95)}
        for name, all_s in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    options = parser.parse_args()
    bundle = Bundle.open(synthetic.bundle("published"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "machine": {"cores": n_cores(), "load": round(os.getloadavg()[0], 1)},
            "written": [written(bundle, folder / f"{n}", n) for n in (1, 2)],
        }
        records = [(folder / f"{n}" / "export.json").read_bytes() for n in (1, 2)]
        found["same bytes"] = records[0] == records[1]
        found["bytes"] = sizes(folder / "2")
        found["milliseconds"] = read(folder / "2", options.runs)
        found["load at the end"] = round(os.getloadavg()[0], 1)
    print(json.dumps(found, indent=1))
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
