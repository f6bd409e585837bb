"""What a long page holds: a list of its headings that opens where it stands."""

from __future__ import annotations

import streamlit as st

from pages.ui.parts.cards import asset

_CONTENTS = st.components.v2.component(
    "csp_contents",
    html="<details><summary>On this page</summary><ol aria-label='Sections'></ol></details>",
    css=asset("contents.css"),
    js=asset("contents.js"),
)


def contents() -> None:
    """The button that opens the list; each heading leads to its section."""
    with st.container(key="contents", width=120):
        _CONTENTS(key="on_this_page")
