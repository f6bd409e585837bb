"""Runs before every page: settings, style, navigation."""

import sys
from base64 import b64encode
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
from pages.ui.shell import loading  # noqa: E402

loading.wait()
from pages.ui.page_table import every_page  # noqa: E402
from pages.ui.shell import access, jumping, problems, sharing  # noqa: E402
from pages.ui.shell.page import ask_for_none, keep_up, one_step_links, page_asked  # noqa: E402

# As data: every run would have it fetched again from an address.
ICON = "data:image/png;base64," + b64encode((ROOT / "assets" / "icon.png").read_bytes()).decode()


def settings(title: str) -> None:
    """Title, icon and width; once a run, for each time is a redrawing of the whole page."""
    st.set_page_config(page_title=title, page_icon=ICON, layout="wide")


st.logo(str(ROOT / "assets" / "logo.svg"), size="large")

keep_up()
rows = {}
with problems.caught():  # an extension may bring a page that cannot be added
    rows = every_page()
if not rows:
    settings("CSP Neuron Browser")
    st.stop()
pages = {
    name: st.Page(
        row.file,
        title=row.title,
        url_path=None if row.is_default else name,
        default=row.is_default,
        visibility="visible" if row.is_listed() else "hidden",
    )
    for name, row in rows.items()
}
st.session_state["pages"] = pages
is_let_in = access.let_in()
asked = page_asked()
is_lost = asked not in {"", *rows}
if asked not in {each.url_path for each in pages.values()}:  # that of no page, or of the first
    ask_for_none()
page = st.navigation(list(pages.values()), position="top" if is_let_in else "hidden")
settings(f"{page.title} · Neuron Browser")
if is_let_in:
    one_step_links()
    if is_lost:
        others = {each.name: each for each in rows.values() if not each.is_default}
        problems.no_page(asked, {n: each.title for n, each in others.items() if each.is_listed()})
    with problems.caught():  # what no section of the page has caught, such as a missing file
        page.run()
    if st.query_params.get("card") != "yes":  # a neuron in somebody's frame leads nowhere else
        jumping.box(
            jumping.Listed(row.name, row.title, row.is_default, row.is_listed())
            for row in rows.values()
        )
    sharing.copy_link()
    access.signed_in()
st.html(
    Path(__file__).parent / "shell" / "style.css"
)  # the start page has it; for addresses of no page
