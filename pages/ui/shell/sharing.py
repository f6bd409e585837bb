"""The link to a view: one button on every page, and a neuron by itself for other pages."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import VERSION, View
from csp_engine.views.images.choices import NO_EXEMPLARS
from csp_engine.views.images.pairs import pair_tiles
from csp_engine.views.neuron.label import best_label
from pages.ui.parts.cards import Packs, asset, badge, page_url, plain, show, tile_grid
from pages.ui.shell import store

N_PAIRS = 6
_SHARE = st.components.v2.component(
    "csp_share",
    html=(
        "<div class='share'><span role='status'></span>"
        "<button type='button'>Copy link</button></div>"
    ),
    css=asset("share.css"),
    js=asset("share.js"),
)


def copy_link() -> None:
    """A button that copies the whole address; the bundle is named even where the URL does not.

    Where there are several bundles, the address itself gets its name, without a step of history:
    an address without one means the last one seen, which may be another when somebody goes back.
    """
    params = {"bundle": st.session_state.get("last_bundle", ""), "v": VERSION}
    is_one_of_many = "bundle" not in st.query_params and len(store.known_bundles()) > 1
    stamp = uuid.uuid4().hex if is_one_of_many else ""
    with st.container(key="share"):
        _SHARE(key="copy_link", data={"params": params, "stamp": stamp})


def card(bundle: Bundle, view: View) -> None:
    """One neuron for a frame in another page: what it is called, its pairs, and a way in."""
    hidden = ".stAppHeader, .st-key-share, .st-key-jump"
    show(f"<style>{hidden} {{ display: none !important; }}</style>")
    label = best_label(bundle, view.neuron, view.method)
    title = method_title(view.method)
    mark = badge(f"{title} {numbers.score(label.score)}", "good") if label.is_reliable else ""
    whole = page_url("neuron", view.params(card=""))
    show(
        f"<p class='csp-id'>{plain(view.model)} / {plain(view.layer)} / {view.unit}</p>"
        f"<h1 class='csp-title' dir='auto'>{plain(label.heading)}</h1><div>{mark}</div>"
    )
    tiles = pair_tiles(bundle, store.MEMO, view.neuron, N_PAIRS)
    if tiles:
        words = f"Exemplars of {view.neuron} beside their contrast images"
        tile_grid(tiles, Packs(view.bundle, bundle), label=words, key="images0", tile_px=220)
    else:
        st.text(NO_EXEMPLARS)
    show(
        "<p class='csp-quiet csp-key'><span></span> excites the neuron; "
        "<span class='quiet'></span> looks most like it but leaves the neuron quiet. "
        f"<a href='{plain(whole)}' target='_blank' rel='noopener'>Open in the neuron "
        "browser</a></p>"
    )


def embed_code(view: View) -> None:
    """The HTML that shows this neuron in another page."""
    here = urlsplit(st.context.url or "")
    start = f"{here.scheme}://{here.netloc}" if here.netloc else ""
    address = start + page_url("neuron", view.params(card="yes", q="", show="", k=""))
    # Its body comes when it is opened: code highlighting is a script of 1.6 MB.
    box = st.expander("Embed this neuron", on_change="rerun", key="embed")
    if not box.open:
        return
    with box:
        st.code(f'<iframe src="{plain(address)}" width="720" height="560"></iframe>', "html")
        st.caption(
            "Other sites can embed it only if the server was started with "
            "CSP_FRAME_ANCESTORS naming them."
        )
