"""Pieces of HTML, and the two components that show images; what comes from outside is text."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import streamlit as st

if TYPE_CHECKING:  # the server writes addresses before it has loaded pandas
    from csp_engine.bundle import Bundle
    from csp_engine.views.images.tiles import Tile
    from csp_engine.views.neuron.card import NeuronCard

HERE = Path(__file__).resolve().parent
PER_PACK = 48
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u0000-\u0008\u000b-\u001f\ud800-\udfff]")


def one_way(text: object) -> str:
    """Any value as text that cannot turn the line around it, nor ring a bell."""
    return _BIDI.sub("", str(text))


def plain(text: object) -> str:
    """Any value as HTML text: nothing in it is markup, and it cannot turn the line around it."""
    return html.escape(one_way(text), quote=True)


def show(markup: str) -> None:
    """Draw HTML whose variable parts went through ``plain``."""
    st.html(markup)


def markdown_text(text: str) -> str:
    """Any text so that a widget label, which is Markdown, shows it letter by letter."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+.!|<>~$&\-])", r"\\\1", _BIDI.sub("", text))
    return escaped.replace(":", ":\u2060")  # a word joiner: no directive, icon or emoji name


def base_url(path: str) -> str:
    """A path of this server, below the prefix it may run under."""
    prefix = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{prefix}/{path}" if prefix else f"/{path}"


def page_url(page: str, params: Mapping[str, str]) -> str:
    """The address of a view."""
    return f"{base_url(page)}?{urlencode(params, quote_via=quote)}"


class Packs:
    """Which thumbnails a component needs, and where each lies in the requests that fetch them."""

    def __init__(self, bundle_name: str, bundle: Bundle) -> None:
        of = f"{quote(bundle_name, safe='')}/{bundle.digest[:16]}"
        self.root = base_url(f"csp/thumbs/{of}")
        self.original_root = base_url(f"csp/original/{of}")
        self.map_root = ""
        self._place: dict[int, int] = {}

    def at(self, image: int) -> str:
        """The place of an image, ``pack:position``."""
        place = self._place.setdefault(int(image), len(self._place))
        return f"{place // PER_PACK}:{place % PER_PACK}"

    def urls(self) -> list[str]:
        """One address per pack."""
        return self._urls(self.root)

    def map_urls(self) -> list[str]:
        """One address per pack for the maps of the same images; none where none are shown."""
        return self._urls(self.map_root) if self.map_root else []

    def _urls(self, root: str) -> list[str]:
        images = list(self._place)
        return [
            f"{root}/{'-'.join(map(str, images[start : start + PER_PACK]))}"
            for start in range(0, len(images), PER_PACK)
        ]


def asset(name: str) -> str:
    """The text of a file in ``components``."""
    return (HERE / "components" / name).read_text("utf-8")


_TILES = st.components.v2.component(
    "csp_tiles",
    html="<p class='said' role='status' hidden></p><ul class='tiles'></ul><dialog></dialog>",
    css=asset("tiles.css"),
    js=asset("packs.js") + asset("tile_items.js") + asset("tiles.js"),
)
_CARDS = st.components.v2.component(
    "csp_cards",
    html="<ul class='cards'></ul>",
    css=asset("cards.css"),
    js=asset("packs.js") + asset("cards.js"),
)


def packed_tiles(
    tiles: Sequence[Tile], packs: Packs, *, label: str, tile_px: int = 250, of: str = ""
) -> dict[str, Any]:
    """Tiles as their component takes them.

    ``of`` is the neuron that they show, where a step to another may replace them.
    """
    content = [
        {
            "name": tile.name,
            "note": tile.note,
            "images": [
                {
                    "at": packs.at(shown.image),
                    "alt": shown.alt,
                    "tag": shown.tag,
                    "title": shown.title,
                    "kind": shown.kind,
                    "facts": shown.facts,
                    "image": shown.image,
                }
                for shown in tile.images
            ],
        }
        for tile in tiles
    ]
    packed = {
        "label": label,
        "tiles": content,
        "packs": packs.urls(),
        "maps": packs.map_urls(),
        "originals": packs.original_root,
        "tile": tile_px,
        "of": of,
    }
    return {**packed, "signature": signature(packed)}


def draw_tiles(packed: Mapping[str, Any], *, key: str) -> int | None:
    """A grid of packed tiles that can be enlarged; the image that was just chosen, or None.

    A browser that is a step ahead may choose an image of another neuron: whoever looks for it
    checks that there is one.
    """
    searched = _TILES(key=key, data=packed, on_searched_change=lambda: None).searched
    is_number = isinstance(searched, (int, float)) and not isinstance(searched, bool)
    return int(searched) if is_number and 0 <= searched < 2**53 else None


def tile_grid(
    tiles: Sequence[Tile], packs: Packs, *, label: str, key: str, tile_px: int = 250
) -> int | None:
    """A grid of tiles that can be enlarged; the image that was just chosen, or None."""
    return draw_tiles(packed_tiles(tiles, packs, label=label, tile_px=tile_px), key=key)


def card_list(
    cards: Sequence[NeuronCard],
    packs: Packs,
    *,
    label: str,
    key: str,
    compact: bool = False,
    page: str = "neuron",
) -> None:
    """A list of neurons, each a link to its page, or to another about it."""
    content = [
        {
            "title": card.title,
            "score": card.score,
            "id": card.id,
            "note": card.note,
            "isReliable": card.is_reliable,
            "mark": card.mark,
            "isMarked": card.is_marked,
            "href": page_url(page, card.params),
            "images": [{"at": packs.at(shown.image), "alt": shown.alt} for shown in card.images],
        }
        for card in cards
    ]
    packed = {"label": label, "cards": content, "packs": packs.urls(), "compact": compact}
    _CARDS(key=key, data={**packed, "signature": signature(packed)})


def facts(rows: Iterable[tuple[str, object]], named: Callable[[str], str] = plain) -> str:
    """A list of names and values; ``named`` makes HTML of a name."""
    items = "".join(f"<dt>{named(name)}</dt><dd>{plain(value)}</dd>" for name, value in rows)
    return f"<dl class='csp-facts'>{items}</dl>"


def quoted(text: str) -> str:
    """Text that somebody wrote, with its own line breaks, and nothing of it as markup."""
    return f"<pre class='csp-quoted' dir='auto'>{html.escape(_BIDI.sub('', text))}</pre>"


def badge(text: str, kind: str = "") -> str:
    """A word about a neuron's state."""
    return f"<span class='csp-badge {plain(kind)}'>{plain(text)}</span>"


def bar_table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, float, Sequence[str]]],
    *,
    marks: Sequence[float] | None = None,
    is_markup: bool = False,
) -> str:
    """A table whose first column is text over a bar (a share in [-1, 1]), the others numbers.

    Args:
        caption: above the table.
        columns: headings.
        rows: name, share, and the text of the other cells.
        marks: a second share for each row, drawn as a tick across its bar.
        is_markup: caption and headings are HTML that went through ``plain`` already.
    """
    if not is_markup:
        caption, columns = plain(caption), [plain(column) for column in columns]
    head = "".join(f"<th scope='col'>{column}</th>" for column in columns)
    # Figures with their intervals are so long that a phone shows two in a line.
    is_long = any("(" in cell and " to " in cell for _, _, cells in rows for cell in cells)
    body = []
    for at, (name, share, cells) in enumerate(rows):
        width = 100 * min(1.0, abs(share))
        side = " down" if share < 0 else ""
        mark = (
            ""
            if marks is None
            else f"<i style='left:{100 * min(1.0, max(0.0, marks[at])):.1f}%'></i>"
        )
        body.append(
            f"<tr><th scope='row'><span class='name' dir='auto'>{plain(name)}</span>"
            f"<span class='track'><span class='bar{side}' style='width:{width:.1f}%'></span>{mark}"
            "</span></th>" + "".join(f"<td>{plain(cell)}</td>" for cell in cells) + "</tr>"
        )
    return (
        f"<table class='csp-table{' long' if is_long else ''}' style='--cells: {len(columns) - 1}'>"
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
        "</table>"
    )


def signature(content: object) -> str:
    """A short hash of JSON-ready content, so that components redraw only what changed."""
    text = json.dumps(content, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
