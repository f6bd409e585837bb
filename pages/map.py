"""Map: the concept vectors of all neurons on a plane, coloured by any column."""

from dataclasses import replace

import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle, Projection
from csp_engine.views import lists
from csp_engine.views.address import (
    ALL_LAYERS,
    MAX_QUERY,
    Narrowing,
    View,
    area_text,
    pick,
    read_area,
)
from csp_engine.views.finding.matches import matches
from csp_engine.views.neuron_map import Points, inside, points_of
from csp_engine.views.places import places
from csp_engine.views.table.columns import COLOURS, COLUMNS
from csp_engine.views.table.rows import neuron_table
from pages.ui.map import neuron_map
from pages.ui.parts import words
from pages.ui.parts.cards import plain, show
from pages.ui.search import asking
from pages.ui.search.asking import NOTHING
from pages.ui.shell import problems, store
from pages.ui.shell.page import go, hold, link, opened, set_params, uncut
from pages.ui.table import narrowing, neuron_rows


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    with problems.caught():
        laid, points = bundle.projection(), points_of(bundle, store.MEMO)
        if laid is None or points is None:
            without_map(view)
            return
        rows = neuron_table(bundle, store.MEMO, view.method)
        with problems.caught():  # the encoder may be missing; the map is there all the same
            query = store.query_of(bundle, view)
            if query is not None:
                found = matches(bundle, store.MEMO, query, view.method)
                rows = pd.concat([rows, found], axis=1)
        rows = rows.iloc[points.row_m]
        columns = [n for n in COLOURS if n in rows and rows[n].notna().any()]
        if len(bundle.model_names) == 1:
            columns.remove("model")
        default = next(n for n in ("match", "family", "layer") if n in columns)
        colour, note = pick("colour", st.query_params.get("colour") or default, columns)
        area, area_note = read_area(st.query_params)
        problems.notes(tuple(n for n in (note, area_note) if n))
        head(laid, len(rows))
        controls(bundle, view, columns, colour)
        picked, drawn = neuron_map.draw(bundle, view, rows, colour, area, points)
        if picked is not None:
            model, layer = places(bundle)[picked[0]]
            here = {"model": model, "layer": layer, "unit": picked[1]}
            go("neuron", lists.neuron_params(view, Narrowing(), **here))
        if drawn is not None and drawn != area:
            set_params(area=area_text(drawn))
            st.rerun()
        selection(bundle, view, rows, points, area)


def without_map(view: View) -> None:
    """Why there is nothing to see, and what to do."""
    show(f"<h1 class='csp-title'>No map of {plain(view.bundle)} yet</h1>")
    st.text(
        "This bundle is older than the map, or none of its neurons has a concept vector. "
        "Run the same 'csp build' again to add the map; nothing else is computed again."
    )
    link("layer", "All neurons as a table", {"bundle": view.bundle, "v": "1"})


def head(laid: Projection, n_points: int) -> None:
    """What the map shows, and how far it can be trusted."""
    how = "UMAP" if laid.kind == "umap" else "Principal components"
    kept = ""
    if laid.neighbour_recall is not None:
        kept = (
            "A plane cannot show every similarity: of a neuron's ten nearest neurons, "
            f"{numbers.share(laid.neighbour_recall)} are also among its ten nearest on the "
            "map. Neuron pages list the nearest in the original space."
        )
    show(
        f"<h1 class='csp-title'>Map of {numbers.count(n_points)} neurons</h1><details "
        "class='csp-fold csp-left'><summary>Neurons that lie close together respond to similar "
        f"things</summary><p>{how} of the {words.term('concept vector', 'concept vectors')} of "
        f"{words.method(laid.method)}. {kept}</p></details>"
    )


def controls(bundle: Bundle, view: View, columns: list[str], colour: str) -> None:
    """What colours the points."""
    hold("_colour", colour)
    hold("_q", view.q)

    def coloured() -> None:
        set_params(bundle=view.bundle, colour=st.session_state["_colour"])

    def asked() -> None:
        set_params(bundle=view.bundle, **{**NOTHING, "q": st.session_state["_q"]}, colour="")

    def title(name: str) -> str:
        return COLUMNS[name].of_colour

    with st.container(
        horizontal=True, vertical_alignment="center", gap="small", key="strip_colouring"
    ):
        st.text_input(
            "Respond to",
            key="_q",
            type="search",
            placeholder="colour by a word",
            max_chars=MAX_QUERY,
            width=330,
            on_change=uncut(asked),
        )
        st.selectbox(
            "Colour",
            columns,
            format_func=title,
            key="_colour",
            on_change=uncut(coloured),
            width=260,
        )
        narrowing.method_box(bundle, view, width=200)
    asking.warm_up(view)


def selection(
    bundle: Bundle,
    view: View,
    rows: pd.DataFrame,
    points: Points,
    area: tuple[int, ...],
) -> None:
    """The neurons within the lasso as a table, or how to get there."""
    if not area:
        st.caption(
            "Drag to move, scroll to zoom, click a point to open its neuron; or press Enter and "
            "then arrow keys. To list neurons here, draw around them with Lasso or with the shift "
            "key held down."
        )
        with st.container(key="open"):
            link("layer", "All neurons as a table", view.params(layer=ALL_LAYERS, unit=""))
        return
    by = next(n for n in ("match", "confidence", "score") if n in rows and rows[n].notna().any())
    kept = rows[inside(points.xy_m2, area)].sort_values(by, ascending=False, kind="stable")
    show(
        f"<h2 class='csp-h' id='selection'>{numbers.count(len(kept))} neurons in the selection "
        f"<span class='csp-quiet'>by {COLUMNS[by].title.lower()}, highest first</span></h2>"
    )
    if len(kept):
        everywhere = replace(view, is_all_layers=True)
        columns = neuron_rows.shown_columns(kept, everywhere, Narrowing())
        neuron_rows.draw(bundle, view, Narrowing(), kept, columns)


main()
