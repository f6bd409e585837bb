"""Record the first minute with the shipped demo: docs/img/first-minute.webp, which moves.

    python -m tools.recording

Each scene is a page as a visitor meets it, with a line below that says what is done. Needs what
``tools.pictures`` needs.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page

from tools.pictures import FOLDER, PORT, STOPPED, browsing, stand_still

PATH = FOLDER / "first-minute.webp"
MAX_BYTES = 2_000_000
QUALITIES = (70, 60, 50, 40, 30)
WINDOW, SHOWN, LINE = (1280, 800), (960, 600), 40
INK, PAPER, MARK = "#141b19", "#e9efed", "#d97706"


@dataclass
class Recording:
    """Frames and how long each is shown, in milliseconds."""

    page: Page
    frames: list[Image.Image] = field(default_factory=list)
    lasting: list[int] = field(default_factory=list)

    def shot(self, said: str, ms: int, at: tuple[float, float] | None = None) -> None:
        """The page as it is, with a line below it, and a ring where somebody is about to press."""
        with Image.open(io.BytesIO(self.page.screenshot())) as taken:
            picture = taken.convert("RGB").resize(SHOWN, Image.Resampling.LANCZOS)
        frame = Image.new("RGB", (SHOWN[0], SHOWN[1] + LINE), PAPER)
        frame.paste(picture)
        pen = ImageDraw.Draw(frame)
        pen.text((16, SHOWN[1] + 10), said, INK, ImageFont.load_default(17))
        if at is not None:
            x, y = (each * SHOWN[0] / WINDOW[0] for each in at)
            for reach in (13, 12, 11):
                pen.ellipse((x - reach, y - reach, x + reach, y + reach), outline=MARK, width=2)
        self.frames.append(frame)
        self.lasting.append(ms)

    def press(self, selector: str, said: str) -> None:
        """Show what is pressed, press it, and wait for what comes."""
        target = self.page.locator(selector).first
        target.wait_for(timeout=60_000)
        box = target.bounding_box()
        assert box is not None
        self.shot(said, 1200, (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))
        target.click()
        self.settle()

    def settle(self) -> None:
        """Wait for the page."""
        self.page.wait_for_timeout(800)
        self.page.locator(STOPPED).wait_for(timeout=120_000)
        stand_still(self.page)


def main() -> None:
    """Walk through the demo and write the recording."""
    with browsing(*WINDOW) as page:
        page.goto(f"http://127.0.0.1:{PORT}/")
        page.get_by_text("How to read a neuron").first.wait_for(timeout=120_000)
        film = Recording(page)
        film.settle()
        walk(film)
    save(film)


def walk(film: Recording) -> None:
    """The scenes."""
    page = film.page
    film.shot("One decision that turns, and the neurons that turn it", 5000)
    page.mouse.move(640, 500)
    page.mouse.wheel(0, 420)
    page.wait_for_timeout(1200)
    box = page.get_by_placeholder("a word or a short description").first
    box.fill("colour patch")
    film.shot("Which other neurons answer to a colour patch?", 2500)
    box.press("Enter")
    page.wait_for_url("**/search**", timeout=60_000)
    film.settle()
    film.shot("Every neuron that does, and whether it stands out from chance", 4000)
    meaning = "[data-testid=stButtonGroup] button:has-text('By meaning')"
    film.press(meaning, "The same by meaning: neurons whose labels say one thing together")
    film.shot("The same by meaning: neurons whose labels say one thing together", 4500)
    film.press(".cards a >> nth=1", "One of them")
    film.shot("What excites it, beside look-alikes that leave it quiet", 5500)
    page.mouse.move(2, 700)
    for _ in range(3):
        page.keyboard.press("j")
        film.settle()
        film.shot("J: the next neuron, at once", 1500)
    film.press("header a:has-text('Map')", "All neurons on one map")
    film.shot("All neurons on one map, with the names of what they mean", 4500)
    film.press("header a:has-text('Compare')", "Two networks, neuron by neuron")
    film.shot("What the biased network has and the retrained one lacks", 5000)
    film.press("header a:has-text('Audit')", "What moves the decision?")
    film.shot("What moves the decision, by how much, and how sure that is", 5000)


def save(film: Recording) -> None:
    """Write it at the best quality that keeps it small."""
    first, *others = film.frames
    packed = io.BytesIO()
    for quality in QUALITIES:
        packed = io.BytesIO()
        first.save(
            packed,
            "WEBP",
            save_all=True,
            append_images=others,
            duration=film.lasting,
            loop=0,
            quality=quality,
            method=4,
        )
        if packed.tell() <= MAX_BYTES:
            break
    PATH.write_bytes(packed.getvalue())
    seconds = sum(film.lasting) / 1000
    sys.stderr.write(f"{PATH.name}: {packed.tell():,} bytes, {seconds:.0f} s\n")


if __name__ == "__main__":
    main()
