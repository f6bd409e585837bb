"""Runs before every page: settings, style, navigation."""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
from pages.ui.shell import access, sharing  # noqa: E402
from pages.ui.shell.page import one_step_links  # noqa: E402

st.set_page_config(
    page_title="CSP Neuron Browser",
    page_icon=str(ROOT / "assets" / "icon.png"),
    layout="wide",
)
st.logo(str(ROOT / "assets" / "logo.svg"), size="large")

pages = {
    "overview": st.Page(ROOT / "pages" / "overview.py", title="Overview", default=True),
    "search": st.Page(ROOT / "pages" / "search.py", title="Search", url_path="search"),
    "layer": st.Page(ROOT / "pages" / "layer.py", title="Table", url_path="layer"),
    "map": st.Page(ROOT / "pages" / "map.py", title="Map", url_path="map"),
    "compare": st.Page(ROOT / "pages" / "compare.py", title="Compare", url_path="compare"),
    "neuron": st.Page(ROOT / "pages" / "neuron.py", title="Neuron", url_path="neuron"),
    "melanoma": st.Page(ROOT / "pages" / "melanoma.py", title="Melanoma", url_path="melanoma"),
    "glossary": st.Page(ROOT / "pages" / "glossary.py", title="Words", url_path="glossary"),
    "build": st.Page(
        ROOT / "pages" / "build.py",
        title="Build",
        url_path="build",
        visibility="hidden" if access.is_read_only() else "visible",
    ),
}
st.session_state["pages"] = pages
is_let_in = access.let_in()
page = st.navigation(list(pages.values()), position="top" if is_let_in else "hidden")
if is_let_in:
    one_step_links()
    page.run()
    sharing.copy_link()
    access.signed_in()
st.html(
    Path(__file__).parent / "shell" / "style.css"
)  # the start page has it; for addresses of no page
