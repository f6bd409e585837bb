"""Words: what every term on the pages means, from docs/glossary.md."""

from collections.abc import Iterable

import streamlit as st

from csp_engine.views import glossary
from csp_engine.views.address import MAX_QUERY
from pages.ui.parts import words
from pages.ui.parts.cards import plain, show
from pages.ui.shell.page import hold, set_params, uncut


def main() -> None:
    """Draw the page."""
    show(
        "<h1 class='csp-title'>Words</h1><p class='csp-lead'>What the terms on the pages mean.</p>"
    )
    asked = st.query_params.get("word", "")
    hold("_word", asked)
    st.text_input(
        "Find a word",
        type="search",
        placeholder="a term, or a word that explains it",
        max_chars=MAX_QUERY,
        width=440,
        key="_word",
        on_change=uncut(lambda: set_params(word=st.session_state["_word"] or "")),
    )
    found, note = glossary.find(asked) if asked else ([], None)
    if note:
        show(f"<p class='csp-note' role='status'>{plain(note)}</p>")
    if len(found) == 1:  # the others stand below it
        show(f"<div class='csp-words'><dl class='asked'>{items(found)}</dl></div>")
        found = []
    parts = []
    for heading, terms in glossary.chapters().items():
        shown = [each for each in terms if not found or each in found]
        if shown:
            parts.append(f"<h2 class='csp-h'>{plain(heading)}</h2><dl>{items(shown)}</dl>")
    show(f"<div class='csp-words'>{''.join(parts)}</div>")


def items(terms: Iterable[str]) -> str:
    """Terms with their meanings, as HTML."""
    meanings = glossary.meanings()
    return "".join(f"<dt>{plain(t)}</dt><dd>{words.as_html(meanings[t])}</dd>" for t in terms)


main()
