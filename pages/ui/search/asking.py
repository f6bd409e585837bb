"""What a search is asked by: boxes for words, an image to upload, the vocabulary to pick from."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import quote

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.http.permissions import Permission
from csp_engine.views.address import MAX_QUERY, View, vectors
from csp_engine.views.finding.examples import labels_in_use
from csp_engine.views.finding.query import title_of
from csp_engine.views.places import concept_names
from pages.ui.parts.cards import asset, base_url, plain, show
from pages.ui.parts.words import explained
from pages.ui.shell import access, problems, store
from pages.ui.shell.page import hold, set_params, uncut

NOTHING = {"q": "", "like": "", "image": "", "vec": "", "column": "", "page": ""}
MAX_PASTED = 8_000_000
_PASTE = st.components.v2.component(
    "csp_paste",
    html=(
        "<div class='paste' tabindex='0' role='group' aria-label='Paste an image here'>"
        "Or click here and paste an image<span role='status'></span></div>"
    ),
    css=asset("paste.css"),
    js=asset("paste.js"),
)
_WARM = st.components.v2.component("csp_warm", html="<span></span>", js=asset("warm.js"))
UPLOADS = ["png", "jpg", "jpeg", "webp", "bmp", "tif", "tiff", "gif"]


def warm_up(view: View, search: str = "") -> None:
    """Have a search prepared once somebody puts the cursor into a box for words.

    Args:
        view: whose bundle and method are searched.
        search: the address of the page that answers, less the words; Enter goes there at once.
    """
    path = "/".join(quote(part, safe="") for part in (view.bundle, view.method))
    url = base_url(f"csp/warm/{path}") if access.may(Permission.ENCODE) else ""
    if not url and not search:
        return
    with st.container(key="warm"):
        _WARM(key="warm_up", data={"url": url, "search": search})


def boxes(bundle: Bundle, view: View) -> None:
    """The query; what the boxes hold always comes from the URL."""
    now = {"q": view.q, "not": view.but_not, "column": view.column or None}
    for name, value in now.items():
        hold(f"_{name}", value)

    def changed(name: str) -> None:
        value = st.session_state[f"_{name}"]
        is_new = name in ("q", "column") and value
        others = {**NOTHING, "bundle": view.bundle} if is_new else {"page": ""}
        set_params(**{**others, name: value or ""})

    def box(name: str) -> dict:
        return {"key": f"_{name}", "on_change": uncut(changed), "args": (name,)}

    # The names of the boxes stand beside them, so that the answer begins high on the page; on a
    # phone, what is asked less often lies in a line of its own, which scrolls.
    with st.container(horizontal=True, vertical_alignment="center", key="asking"):
        st.text_input(
            "Respond to",
            type="search",
            placeholder="a word or a short description; several with commas",
            max_chars=MAX_QUERY,
            width=440,
            **box("q"),
        )
        with st.container(
            horizontal=True, vertical_alignment="center", key="strip_asking", width="content"
        ):
            st.text_input(
                "But not",
                type="search",
                placeholder="optional",
                max_chars=MAX_QUERY,
                width=210,
                **box("not"),
            )
            names = concept_names(bundle)
            if names:
                st.selectbox(
                    "By concept column",
                    names,
                    placeholder="any",
                    width=290,
                    help=explained("concept column"),
                    **box("column"),
                )
            with st.popover("By image", width=125, key="by_image"):
                uploaded(bundle, view)
    if view.is_asking and not view.q:
        what = title_of(view) if view.has_query else f"the concept column {view.column}"
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            show(f"<p class='csp-asked'>Searching by <b>{plain(what)}</b></p>")
            st.button("Clear", key="clear_query", on_click=uncut(lambda: set_params(**NOTHING)))


def uploaded(bundle: Bundle, view: View) -> None:
    """An image as a query. Its vector goes to the address; the image itself is not kept."""
    file, pasted = None, None
    if access.may(Permission.ENCODE):
        file = st.file_uploader(
            "An image",
            type=UPLOADS,
            key="_upload",
            help="It stays on the machine that runs this page.",
        )
        pasted = _PASTE(key="paste", on_pasted_change=lambda: None).pasted
    else:
        show(f"<p class='csp-quiet'>{plain(access.refusal(Permission.ENCODE))}</p>")
    hold("_image", view.image)

    def numbered() -> None:
        number = st.session_state["_image"]
        set_params(**{**NOTHING, "image": "" if number is None else number})

    last = bundle.n_images - 1
    title = f"Or the number of a probe image (0 to {last:,})"
    st.number_input(title, 0, last, value=None, key="_image", on_change=uncut(numbered))
    content = from_clipboard(pasted)
    if content is None and file is not None and st.session_state.get("uploaded") != file.file_id:
        st.session_state["uploaded"] = file.file_id
        content = file.getvalue()
    if content is None:
        return
    with problems.caught(), st.spinner("Looking at the image…"):
        vector_d = store.image_vector(bundle, content)
        set_params(**{**NOTHING, "bundle": view.bundle, "vec": vectors.encode(vector_d, bundle)})
        st.rerun()


def from_clipboard(pasted: object) -> bytes | None:
    """The bytes that a browser sent for a pasted image, or None."""
    if not isinstance(pasted, str) or not 0 < len(pasted) <= MAX_PASTED:
        return None
    try:
        return base64.b64decode(pasted, validate=True)
    except binascii.Error:
        return None


def vocabulary(bundle: Bundle, view: View) -> None:
    """Every label that is some neuron's best, to pick from."""
    try:
        texts = labels_in_use(bundle, view.method)
    except CspError:
        return  # the results would say the same, with the sentence
    if texts:
        st.selectbox(
            f"Or pick one of the {len(texts):,} best labels of neurons",
            texts,
            index=None,
            placeholder="choose a label",
            key="_pick",
            on_change=uncut(
                lambda: set_params(**{**NOTHING, "q": st.session_state["_pick"] or ""})
            ),
            width=420,
        )
