"""Words: what every term on the pages means, from docs/glossary.md."""

import streamlit as st

from csp_engine.views import glossary
from csp_engine.views.address import pick
from pages.ui.parts import words
from pages.ui.parts.cards import plain, show


def main() -> None:
    """Draw the page."""
    st.title("Words")
    asked = st.query_params.get("word")
    meanings = glossary.meanings()
    if asked:
        word, note = pick("word", asked, list(meanings))
        if note:
            show(f"<p class='csp-note' role='status'>{plain(note)}</p>")
        show(
            f"<div class='csp-words'><dl class='asked'><dt>{plain(word)}</dt>"
            f"<dd>{words.as_html(meanings[word])}</dd></dl></div>"
        )
    parts = []
    for heading, terms in glossary.chapters().items():
        items = "".join(f"<dt>{plain(t)}</dt><dd>{words.as_html(meanings[t])}</dd>" for t in terms)
        parts.append(f"<h2 class='csp-h'>{plain(heading)}</h2><dl>{items}</dl>")
    show(f"<div class='csp-words'>{''.join(parts)}</div>")


main()
