"""Take the pictures in the documents from the shipped demo, so that they stay true.

    python -m tools.pictures [NAME ...]

Without names it takes all of them: one WebP a page in docs/img, small enough for a repository.
Needs Playwright (requirements-dev.txt) and a Chromium on the path.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from csp_engine.bundle import Bundle
from csp_engine.exports.html import of_layers, write_folder
from csp_engine.types import NeuronRef
from csp_engine.views.neuron.label import best_label

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "img"
BUNDLE = ROOT / "assets" / "demo" / "dermoscopy.csp"
PORT = 8643
MAX_BYTES = 80_000
QUALITIES = (80, 70, 60, 50, 40, 30)
WIDTH, HEIGHT = 1280, 860
STOPPED = "[data-testid=stApp][data-test-script-state=notRunning]"
STANDS_STILL = """() => {
  const all = [];
  const walk = (root) => {
    for (const each of root.querySelectorAll("*")) {
      all.push(each);
      if (each.shadowRoot) walk(each.shadowRoot);
    }
  };
  walk(document);
  const isSeen = (each) => each.getClientRects().length > 0
    && each.getBoundingClientRect().top < innerHeight;
  const isLoaded = (image) => image.complete && image.naturalWidth > 0;
  return !all.some((each) => each.dataset?.testid === "stSkeleton" && isSeen(each))
    && all.filter((each) => each.tagName === "IMG" && isSeen(each)).every(isLoaded);
}"""
"""Whether every image in the window is there and nothing is still to come."""

HOME = "/home/you/neuron-browser"
MOVED = """([root, home]) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (text.data.includes(root)) text.data = text.data.replaceAll(root, home);
  }
  for (const input of document.querySelectorAll("input, textarea")) {
    if (input.value.includes(root)) input.value = input.value.replaceAll(root, home);
  }
}"""
"""Where the project lies on this machine is nobody's business: another folder stands for it."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One page of the app: what its address says, and a text that is there when it is drawn.

    ``top`` is the text that stands at the top of the picture, where it is not the page's own; the
    window is ``height`` high.
    """

    page: str
    text: str
    view: Callable[[Bundle], dict[str, str]] = lambda bundle: {}
    top: str = ""
    height: int = HEIGHT


def neuron_view(neuron: NeuronRef, **more: str) -> dict[str, str]:
    """The address of a neuron."""
    place = {"model": neuron.model, "layer": neuron.layer, "unit": str(neuron.unit)}
    return {**place, **more}


def clear_neuron(bundle: Bundle, method: str = "") -> NeuronRef:
    """The neuron of the biased model that answers to a colour patch and is labelled best.

    By the bundle's first method unless another is named.
    """
    model, layer = "biased", bundle.layers("biased")[-1]
    method = method or bundle.methods(model, layer)[0]
    truth, scores = bundle.truth(model, layer), bundle.scores(model, layer, method)
    concepts = truth.units["true_concept"].fillna("")
    fits = [
        concepts.iloc[unit] == "colour patch"
        and bool(scores.reliable_u[unit])
        and best_label(bundle, NeuronRef(model, layer, unit), method).text.startswith("colo")
        for unit in range(len(concepts))
    ]
    score_u = np.where(fits, np.asarray(scores.score_uk[:, 0]), -np.inf)
    return NeuronRef(model, layer, int(np.argmax(score_u)))


def split_neuron(bundle: Bundle) -> NeuronRef:
    """The neuron of the biased model whose exemplars fall apart most cleanly."""
    model, layer = "biased", bundle.layers("biased")[-1]
    units = bundle.units(model, layer)
    sizes = units[["cluster_0", "cluster_1"]].min(axis=1)
    even = units["silhouette"].where(sizes >= 8, -1.0)
    return NeuronRef(model, layer, int(even.fillna(-1.0).to_numpy().argmax()))


PICTURES = {
    "overview": Picture("", "How to read a neuron"),
    "search": Picture("search", "neurons searched", lambda b: {"q": "ruler"}),
    "neuron": Picture(
        "neuron", "Outputs it drives", lambda b: neuron_view(clear_neuron(b)), height=1000
    ),
    "gamma": Picture(
        "neuron",
        "If the score of a label drops",
        lambda b: neuron_view(clear_neuron(b, "csp"), method="csp", gamma="0.4"),
        top="γ (built with",
    ),
    "groups": Picture(
        "neuron",
        "The scored exemplars, split in two",
        lambda b: neuron_view(split_neuron(b), show="groups"),
    ),
    "table": Picture("layer", "Download these rows"),
    "families": Picture(
        "search", "also called", lambda b: {"q": "colour patch", "find": "families"}
    ),
    "map": Picture("map", "Whole map"),
    "compare": Picture("compare", "What differs between"),
    "labels": Picture("labels", "Which labels to believe", height=1000),
    "audit": Picture("audit", "Which neurons carry it", height=1000),
    "melanoma": Picture(
        "melanoma",
        "What this shows, and what it does not",
        top="What influential neurons align with",
    ),
    "build": Picture("build", "Build a bundle"),
    "words": Picture("glossary", "The network and its neurons"),
}
EXPORTED = {"export": "index.html", "export-neuron": "neuron"}
"""Pictures of a static export: its overview, and one of its neurons."""


def main(names: list[str]) -> None:
    """Serve the demo, photograph its pages, stop the server."""
    wanted = names or [*PICTURES, *EXPORTED]
    unknown = [name for name in wanted if name not in {**PICTURES, **EXPORTED}]
    if unknown:
        sys.exit(
            f"There is no picture {unknown[0]}; there are {', '.join([*PICTURES, *EXPORTED])}."
        )
    bundle = Bundle.open(BUNDLE)
    with browsing(WIDTH, HEIGHT) as page, tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            if name in PICTURES:
                take(page, bundle, PICTURES[name])
            else:
                page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
                page.goto(exported(bundle, Path(folder) / "pages", EXPORTED[name]).as_uri())
            save(page.screenshot(), FOLDER / f"{name}.webp")


@contextmanager
def browsing(width: int, height: int) -> Iterator[Page]:
    """A browser's page of this size, while a server shows the demo on ``PORT``."""
    command = [sys.executable, "-m", "csp_engine", "serve", str(BUNDLE), "--port", str(PORT)]
    command += ["--no-token", "--no-open"]
    server = subprocess.Popen(command, cwd=ROOT)
    try:
        _wait_for(f"http://127.0.0.1:{PORT}/_stcore/health")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            yield browser.new_page(viewport={"width": width, "height": height})
            browser.close()
    finally:
        server.terminate()
        server.wait()


def take(page: Page, bundle: Bundle, picture: Picture) -> None:
    """Open a page of the app and wait until it stands still."""
    page.set_viewport_size({"width": WIDTH, "height": picture.height})
    view = {"bundle": bundle.name, **picture.view(bundle)}
    page.goto(f"http://127.0.0.1:{PORT}/{picture.page}?{urlencode(view)}")
    page.locator(STOPPED).wait_for(timeout=120_000)
    page.get_by_text(picture.text).first.wait_for(timeout=120_000)
    if picture.top:
        heading = page.get_by_text(picture.top).first
        heading.evaluate("each => each.scrollIntoView({block: 'start'})")
        page.mouse.move(WIDTH / 2, picture.height / 2)
        page.mouse.wheel(0, -90)  # the app's own header lies over the top of the page
        page.mouse.move(2, picture.height - 2)  # nothing lights up under it there
    stand_still(page)
    page.evaluate(MOVED, [str(ROOT), HOME])
    problem = page.locator(".csp-problem")
    if problem.count():
        sys.exit(f"The page {picture.page} has a problem: {problem.first.inner_text()}")


def stand_still(page: Page) -> None:
    """Wait until all that can be seen is there."""
    page.wait_for_load_state("networkidle")
    page.wait_for_function(STANDS_STILL, timeout=120_000)
    page.wait_for_timeout(1500)  # charts fade in


def exported(bundle: Bundle, out: Path, which: str) -> Path:
    """A page of a static export, which is written on the first call."""
    neuron = clear_neuron(bundle)
    if not out.exists():
        write_folder(bundle, of_layers(bundle, model=neuron.model, layers=[neuron.layer]), out)
    return out / which if which != "neuron" else next(out.glob(f"neurons/*/{neuron.unit}.html"))


def save(png: bytes, path: Path) -> None:
    """Write a picture at the best quality that keeps it small."""
    with Image.open(io.BytesIO(png)) as shot:
        for quality in QUALITIES:
            packed = io.BytesIO()
            shot.convert("RGB").save(packed, "WEBP", quality=quality, method=6)
            if packed.tell() <= MAX_BYTES:
                break
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(packed.getvalue())
    sys.stderr.write(f"{path.name}: {packed.tell():,} bytes at quality {quality}\n")


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("The server did not start.")


if __name__ == "__main__":
    main(sys.argv[1:])
