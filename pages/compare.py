"""Compare: each neuron of one layer beside its most similar one in another layer or model."""

from contextlib import suppress

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.views import comparison as comparing
from csp_engine.views.address import View, pick
from csp_engine.views.comparison import KINDS, Side
from pages.ui.compare import pairs
from pages.ui.parts.cards import plain, show
from pages.ui.shell import problems, store
from pages.ui.shell.page import hold, link, opened, set_params, uncut
from pages.ui.table import narrowing

NAMING = ("unit", "bundle2", "model2", "layer2")
"""Who names one of these has chosen what to compare."""


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    with problems.caught():
        every = sides()
        if len(every) == 1:
            nothing_beside(bundle, view)
            return
        a = every[view.bundle, view.model, view.layer]
        if view.is_all_layers and not any(map(st.query_params.get, NAMING)):
            a = comparing.telling_side(store.MEMO, a, every, view.method)
        b, notes = comparing.other_side(st.query_params, a, every)
        kind, note = pick("choice", st.query_params.get("only"), list(KINDS))
        problems.notes(notes + ((note,) if note else ()))
        heading = st.container()
        with st.container(
            horizontal=True, vertical_alignment="bottom", gap="small", key="strip_compare"
        ):
            side_box("Neurons of", "", a, every)
            side_box("Matched in", "2", b, every)
            narrowing.method_box(bundle, view)
            hold("_kind", kind)
            st.selectbox(
                "Show",
                list(KINDS),
                format_func=KINDS.__getitem__,
                key="_kind",
                width=210,
                on_change=uncut(lambda: set_params(only=st.session_state["_kind"])),
            )
            st.button("Other way round", key="swap", on_click=uncut(place), args=(b, a))
        mine, theirs = (f"<bdi>{plain(name)}</bdi>" for name in pairs.short_titles(a, b))
        with heading:
            show(
                f"<p class='csp-id'>{plain(a.title)} · {plain(b.title)}</p>"
                f"<h1 class='csp-title'>What differs between {mine} and {theirs}</h1>"
            )
        compared = comparing.compare(store.MEMO, a, b, view.method)
        with heading:
            pairs.summary(compared, view.method, (mine, theirs))
        if "unit" in st.query_params:
            pairs.pair(a, b, view.unit, compared, view.method)
        pairs.draw(a, b, compared, kind, view.method)


def nothing_beside(bundle: Bundle, view: View) -> None:
    """Why there is nothing to compare, and what to do."""
    show("<h1 class='csp-title'>Nothing to compare with yet</h1>")
    st.text(
        f"This server has one layer, {view.layer} of {view.model}. Build again with another "
        "--layer, or serve a second bundle made with the same encoder beside it: 'csp serve "
        f"{bundle.path.name} OTHER.csp'."
    )
    link("layer", "All neurons as a table", {"bundle": view.bundle, "v": "1"})


def sides() -> dict[tuple[str, str, str], Side]:
    """Every layer of every bundle of this server that can be read."""
    found: dict[str, Bundle] = {}
    for name in store.known_bundles():
        with suppress(CspError):
            found[name] = store.open_bundle(name)
    return comparing.sides_of(found)


def place(a: Side, b: Side) -> None:
    """Put both sides in the URL."""
    one = dict(zip(("bundle", "model", "layer"), a.key, strict=True))
    two = dict(zip(("bundle2", "model2", "layer2"), b.key, strict=True))
    set_params(**one, **two, unit="")


def side_box(label: str, ending: str, side: Side, every: dict[tuple[str, str, str], Side]) -> None:
    """Which layer stands on a side."""
    hold(f"_side{ending}", side.key)

    def chosen() -> None:
        key = st.session_state[f"_side{ending}"]
        names = [name + ending for name in ("bundle", "model", "layer")]
        set_params(**dict(zip(names, key, strict=True)), unit="")

    st.selectbox(
        label,
        list(every),
        format_func=lambda key: every[key].title,
        key=f"_side{ending}",
        on_change=uncut(chosen),
        width=270,
    )


main()
