"""Why a label scores what it scores: what each pair of images adds to it."""

from __future__ import annotations

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.search import stored_label
from csp_engine.views.address import MAX_QUERY, View, shorten
from csp_engine.views.neuron.contributions import Contributions, contributions
from pages.ui.parts.cards import Packs, one_way, plain, show, tile_grid
from pages.ui.parts.words import term
from pages.ui.shell.page import go, hold, set_params, uncut


def section(bundle: Bundle, view: View, texts: list[str], gamma: float) -> None:
    """A label to choose, and the pairs that speak most for it and least.

    Args:
        bundle: where the neuron lies.
        view: of the neuron, by a method that has a gamma.
        texts: labels to choose from; the URL may name any other of the bundle.
        gamma: of the scores.
    """
    asked = st.query_params.get("why", "").strip()[:MAX_QUERY]
    label = stored_label(bundle, asked) if asked else None
    if asked and label is None:
        show(f"<p class='csp-quiet'>“{plain(shorten(asked))}” is not a label of this bundle.</p>")
    text = None if label is None else str(bundle.labels()["text"].iloc[label])
    options = [*texts, *([text] if text and text not in texts else [])]
    hold("_why", text)
    st.selectbox(
        "Why this label?",
        options,
        index=None,
        format_func=one_way,
        placeholder="choose one to see what each pair adds",
        key="_why",
        on_change=uncut(lambda: set_params(why=st.session_state["_why"] or "")),
    )
    if label is not None:
        found = contributions(bundle, view.neuron, view.method, label, gamma)
        if found is not None:
            pairs(bundle, view, found)


def pairs(bundle: Bundle, view: View, found: Contributions) -> None:
    """The pairs that add most, then those that add least."""
    show(
        f"<p class='csp-quiet csp-left'>The score of <b dir='auto'>{plain(found.text)}</b>, "
        f"{numbers.score(found.score)}, is the sum of what {found.n_pairs} pairs add; "
        f"{found.n_for} of them raise it. Under each image: its cosine with the "
        f"{term('label')}. The pairs that add most come first"
        f"{', then those that add least' if found.least else ''}.</p>"
    )
    tiles = [each.tile for each in (*found.most, *found.least)]
    words = f"What pairs add to {found.text}"
    picked = tile_grid(tiles, Packs(view.bundle, bundle), label=words, key="why", tile_px=170)
    if picked is not None:
        go("search", view.search_params("", image=picked))
