"""From anywhere to anywhere: a box of neurons, words, layers and pages, and the bar of a phone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

import streamlit as st

from csp_engine.errors import CspError
from csp_engine.views.finding.index import searchable_methods
from pages.ui.parts.cards import asset, base_url
from pages.ui.shell import store

MAIN = ("overview", "search", "layer", "audit")
"""Pages that the bar of a phone names; the others are behind "More"."""
_JUMP = st.components.v2.component(
    "csp_jump",
    html=(
        "<div class='jump'><button type='button' class='open' aria-haspopup='dialog'>"
        "<span class='words'>Jump to</span><kbd>Ctrl K</kbd></button></div>"
        "<dialog aria-label='Jump to'><input role='combobox' type='text' autocomplete='off' "
        "spellcheck='false' aria-label='Jump to a neuron, word, layer or page' "
        "aria-autocomplete='list' aria-controls='jump-list' aria-expanded='false' maxlength='200' "
        "placeholder='A neuron, word, layer or page'>"
        "<ul role='listbox' id='jump-list' aria-label='Places'></ul>"
        "<p role='status'></p></dialog>"
        "<nav aria-label='Main pages'><button type='button' class='open' aria-haspopup='dialog'>"
        "More</button></nav>"
    ),
    css=asset("jump.css"),
    js=asset("navigate.js") + asset("jump.js"),
)


class Listed(NamedTuple):
    """A page: the end of its address, its title, and whether it is the first and is listed."""

    name: str
    title: str
    is_default: bool
    is_listed: bool


def box(rows: Iterable[Listed]) -> None:
    """Draw the button, the box behind it, and the bar."""
    known = [
        {
            "name": row.name,
            "title": row.title,
            "path": base_url("" if row.is_default else row.name),
            "isMain": row.name in MAIN,
            "isListed": row.is_listed,
        }
        for row in rows
    ]
    name, method = st.session_state.get("last_bundle", ""), _method()
    path = "/".join(quote(part, safe="") for part in (name, method))
    with st.container(key="jump"):
        _JUMP(
            key="jump_to",
            data={
                "pages": [each for each in known if each["isListed"]],
                "others": [each for each in known if not each["isListed"]],
                "url": base_url(f"csp/jump/{path}/") if name and method else "",
                "search": {"bundle": name, "method": method},
            },
        )


def _method() -> str:
    """The method whose labels are looked through: that of the address, or the first."""
    name = st.session_state.get("last_bundle", "")
    if name not in store.known_bundles():
        return ""
    try:
        methods = searchable_methods(store.open_bundle(name))
    except CspError:
        return ""
    asked = st.query_params.get("method", "")
    return asked if asked in methods else next(iter(methods), "none")
