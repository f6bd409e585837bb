"""Pages that open from disk, taken apart; and a bundle whose names try to be more than text."""

from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import torch

from csp_engine.bundle import Bundle
from csp_engine.pipeline import build
from tests.worlds import toys

LONG = "very " * 2000 + "long"
HOSTILE = [
    "<script>alert(1)</script>",
    "</title></bdi><img src=x onerror=alert(1)>",
    "\"quotes' & ampersands",
    "אדום \u202egnp.exe",
    "../../etc/passwd",
    "🦓 zebra {{ 7 * 7 }} {% raw %}",
    "javascript:alert(1)",
    "<style>*{display:none}</style>",
    "--><svg onload=alert(1)>",
    LONG,
]
OURS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "link",
        "script",
        "noscript",
        "body",
        "header",
        "nav",
        "main",
        "footer",
    ),
    *("h1", "h2", "p", "a", "b", "bdi", "code", "span", "div", "section", "ul", "li", "img"),
    *(
        "dl",
        "dt",
        "dd",
        "figure",
        "figcaption",
        "details",
        "summary",
        "svg",
        "rect",
        "path",
        "line",
    ),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "form", "label", "input", "button"),
}


class Page(HTMLParser):
    """The elements, attributes and text of a page; every element must be closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self.open == [], path

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def hostile_bundle(folder: Path) -> Bundle:
    """Labels, file names, classes, model and output names that try to be more than text."""
    images = toys.draw_images(folder / "images")
    for each, name in zip(sorted(images.iterdir()), ["<b>bold", "a'\"b", "&lt;", "x"], strict=True):
        renamed = each.rename(each.parent / name)
        for image in list(renamed.iterdir()):
            image.rename(renamed / f"<img src=x onerror=alert(1)>{image.name}")
    target = toys.target()
    model = dataclasses.replace(target.model, name="org/../<i>net", class_names=("<u>", *"bcd"))
    with torch.no_grad():  # unit 0 of the second layer says the same to every image
        model.network.second.weight[0] = 0
        model.network.second.bias[0] = 0
    plain = toys.words(folder, [f"word {i}" for i in range(len(HOSTILE))])
    words = dataclasses.replace(plain, table=plain.table.assign(text=HOSTILE))  # past all cleaning
    request = toys.request(
        folder,
        folder / "hostile <s> & co.csp",
        vocabulary=words,
        targets=(dataclasses.replace(target, model=model),),
        n_circuit_images=20,
    )
    build(request)
    return Bundle.open(request.out)
