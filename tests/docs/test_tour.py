"""The tour shows every page of the app; its pictures are there, small, and made by the script."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from pages.ui.page_table import PAGES
from tools import pictures as script
from tools import recording

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
TOUR = (DOCS / "tour.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
MAX_BYTES, MAX_TOTAL = 80_000, 1_250_000


def pictures() -> dict[str, tuple[str, Path]]:
    """Name of every picture in the tour and the README, with its words and its file."""
    found = {}
    for text, folder in ((TOUR, DOCS), (README, ROOT)):
        for words, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
            if Path(target).name != recording.PATH.name:
                found[Path(target).stem] = (words, folder / target)
    return found


def test_every_page_of_the_app_is_in_the_tour():
    titles = [page.title for page in PAGES]
    assert len(titles) >= 8
    headings = re.findall(r"^## (.+)$", TOUR, re.M)
    assert [title for title in titles if title not in headings] == []


def test_every_picture_is_there_small_and_in_words():
    total = 0
    for name, (words, path) in pictures().items():
        assert len(words) > 20, name
        with Image.open(path) as image:
            assert (image.format, image.width) == ("WEBP", 1280), name
        size = path.stat().st_size
        assert size <= MAX_BYTES, f"{name} has {size} bytes"
        total += size
    assert total <= MAX_TOTAL


def test_the_script_takes_exactly_these_pictures():
    assert {*script.PICTURES, *script.EXPORTED} == set(pictures())


def test_the_readme_opens_with_a_minute_that_moves():
    assert f"(docs/img/{recording.PATH.name})" in README.split("\n## ")[0]
    assert recording.PATH.stat().st_size <= 2_000_000
    with Image.open(recording.PATH) as film:
        assert film.format == "WEBP"
        lasting = 0
        for at in range(film.n_frames):
            film.seek(at)
            film.load()
            lasting += film.info["duration"]
        assert film.n_frames >= 10
    assert 30_000 <= lasting <= 75_000


def test_the_readme_starts_with_what_it_is_a_picture_and_three_commands():
    first = README.split("\n## ")
    assert re.fullmatch(r"# .+\n\n[^\n]+\.\n\n!\[[^\]]+\]\([^)]+\)\n", first[0])
    (block,) = re.findall(r"^```bash\n(.*?)^```", first[1], re.M | re.S)
    assert [line.split("#")[0].strip() for line in block.splitlines()] == [
        "make run",
        "make view",
        "make test",
    ]
