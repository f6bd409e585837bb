"""The page of a neuron and its static page say the same: figures, sentences and images."""

from __future__ import annotations

import html as markup
import re
import shutil
from pathlib import Path

import pytest

from csp_engine.bundle import Bundle
from csp_engine.exports.html import of_layers, write_folder
from tests.pages.conftest import component, html, open_page
from tests.worlds import toys


@pytest.fixture(scope="module")
def known(small_bundle: Path, tmp_path_factory) -> Path:
    """The small bundle, with what some of its neurons truly respond to."""
    copied = shutil.copytree(small_bundle, tmp_path_factory.mktemp("known") / "small.csp")
    return toys.with_faithfulness(toys.with_truth(Bundle.open(Path(copied)))).path


@pytest.fixture(scope="module")
def pages(known: Path, tmp_path_factory) -> Path:
    bundle = Bundle.open(known)
    out = tmp_path_factory.mktemp("export") / "pages"
    write_folder(bundle, of_layers(bundle), out)
    return out


def text_of(code: str) -> str:
    """What a reader sees of some HTML, with single spaces."""
    return " ".join(markup.unescape(re.sub(r"<[^>]+>", "", code)).split())


def cells(table: str) -> list[list[str]]:
    """The rows of a table's body as text."""
    rows = re.findall(r"<tr.*?</tr>", table.split("<tbody>")[1], re.S)
    return [[text_of(c) for c in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows]


def tables(code: str) -> list[str]:
    return re.findall(r"<table.*?</table>", code, re.S)


@pytest.mark.parametrize("layer", ["first@mean", "second@mean"])
@pytest.mark.parametrize("unit", [0, 3, 5])
def test_a_neuron_is_described_alike(serve, known, pages, layer, unit):
    serve(known)
    bundle = Bundle.open(known)
    at = bundle.layers("small").index(layer) + 1
    static = next(pages.glob(f"neurons/{at}-*/{unit}.html")).read_text("utf-8")
    page = open_page("neuron", layer=layer, unit=str(unit))
    shown = html(page)

    # What it is called, and why that may mean nothing.
    name = re.compile(r"<h1.*?</h1>", re.S)
    assert text_of(name.search(static)[0]) == text_of(name.search(shown)[0])
    concluded = re.compile(r"<p class=.(?:csp-)?lead (?:csp-)?concluded.>.*?</p>", re.S)
    assert text_of(concluded.search(static)[0]) == text_of(concluded.search(shown)[0])
    said = " ".join(map(text_of, re.findall(r'<p class="lead">.*?</p>', static, re.S)))
    why = re.findall(r"<summary>Why</summary>(<p>.*?</p>)", shown, re.S)
    assert said == " ".join(map(text_of, why))

    # The images, with their words.
    images = [(i["image"], i["alt"], i["tag"]) for t in component(page, "csp_tiles")["tiles"]
              for i in t["images"]]  # fmt: skip
    assert images
    figures = re.findall(
        r'<figure><img class="\w+" src="[^"]*?(\d+)\.webp" alt="([^"]*)" loading="lazy">'
        r"<figcaption>(.*?)</figcaption>",
        static,
    )
    assert [(int(image), alt, tag) for image, alt, tag in figures] == images
    notes = re.findall(r'<p class="note">(.*?)</p>', static)
    assert notes == [tile["note"] for tile in component(page, "csp_tiles")["tiles"]]

    # Every method's best label, then its list.
    by_method = next(t for t in tables(static) if "As built." in t)
    assert cells(by_method) == cells(next(t for t in tables(shown) if "As built." in t))
    for method in bundle.methods("small", layer):
        listed = html(open_page("neuron", layer=layer, unit=str(unit), method=method))
        mine = next(t for t in tables(listed) if ">label</th>" in t)
        caption = text_of(re.search(r"<caption>.*?</caption>", mine, re.S)[0])
        theirs = next(t for t in tables(static) if caption in text_of(t))
        # The page ranks all labels, so that gamma can move; the static one shows those kept.
        is_moving = "moved" in mine
        rows = [row[:2] + row[3:] if is_moving else row for row in cells(mine)]
        assert 0 < len(cells(theirs)) <= len(rows)
        assert cells(theirs) == rows[: len(cells(theirs))]

    # Numbers.
    facts = re.compile(r"<dt>(.*?)</dt><dd>(.*?)</dd>", re.S)
    mine = [tuple(map(text_of, each)) for each in facts.findall(shown)]
    assert [tuple(map(text_of, each)) for each in facts.findall(static)] == mine
    assert ("Truth" in dict(mine)) == (unit == 0)  # of these units, only the first shows a concept
    drawn = re.compile(r"aria-label=['\"](Histogram[^'\"]*)")
    assert drawn.findall(static) == drawn.findall(shown)
    for heading in ("property", "output"):
        found = [[t for t in tables(code) if f">{heading}<" in t] for code in (static, shown)]
        assert len(found[0]) == len(found[1]) <= 1
        if found[0]:
            assert cells(found[0][0]) == cells(found[1][0])
