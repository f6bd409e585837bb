"""Layer table: every neuron of a layer, or of a search, to sort, filter, open and export."""

import pandas as pd
import streamlit as st

from csp_engine.bundle import Bundle
from pages.ui import finding, lists, narrowing, numbers, problems, table
from pages.ui.cards import plain, show
from pages.ui.neurons import method_title
from pages.ui.page import go, opened
from pages.ui.state import Narrowing, View, read_narrowing

ROW_PX, STRIP_PX, HEIGHT_PX = 50, 216, 640


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    with problems.caught():
        rows = lists.searched(bundle, view)
        columns = shown_columns(rows, view)
        sortable = [name for name in columns if name not in ("model", "layer")]
        ranged = [name for name in table.RANGED if name in columns]
        keep = read_narrowing(st.query_params, sortable, ranged)
        problems.notes(keep.notes)
        heading = st.container()
        narrowing.controls(bundle, view, rows, keep, sortable, ranged)
        kept = lists.ordered(rows, view, keep)
        with heading:
            head(view, len(kept), len(rows))
        if kept.empty:
            st.text("No neuron passes these filters; widen or clear one of them.")
            return
        draw(bundle, view, keep, kept, columns)


def shown_columns(rows: pd.DataFrame, view: View) -> list[str]:
    """Columns that say something here: no empty ones, no layer where there is only one."""
    hidden = set()
    if rows["model"].nunique() < 2:
        hidden.add("model")
    if not view.is_all_layers:
        hidden.add("layer")
    return [
        name
        for name in table.COLUMNS
        if name in rows and name not in hidden and (name == "label" or rows[name].notna().any())
    ]


def head(view: View, n_kept: int, n_all: int) -> None:
    """What is in the table."""
    where = "all layers" if view.is_all_layers else f"{view.model} / {view.layer}"
    count = numbers.count(n_all)
    if n_kept < n_all:
        count = f"{numbers.count(n_kept)} of {count}"
    asked = f" by how they match {plain(finding.title_of(view))}" if view.has_query else ""
    show(
        f"<p class='csp-id'>{plain(view.bundle)} / {plain(where)}</p>"
        f"<h1 class='csp-title'>{count} neurons{asked}</h1>"
        f"<p class='csp-quiet'>Labels by {plain(method_title(view.method))}. The first column "
        "shows the strongest exemplars; select a row to open its neuron.</p>"
    )


def draw(
    bundle: Bundle, view: View, keep: Narrowing, kept: pd.DataFrame, columns: list[str]
) -> None:
    """The table and its file."""
    shown = kept[columns].copy()
    shown.insert(0, "strip", table.strip_urls(view, bundle, kept))
    shown.loc[(kept["state"] == "constant").to_numpy(), "strip"] = None
    for name in columns:
        if table.COLUMNS[name].kind == "share":
            shown[name] *= 100
    event = st.dataframe(
        shown,
        hide_index=True,
        height=min(HEIGHT_PX, 40 + ROW_PX * len(shown)),
        row_height=ROW_PX,
        column_config={name: config(name) for name in shown},
        key="neurons",
        on_select="rerun",
        selection_mode="single-row",
        placeholder="–",
        alt=f"{len(shown)} neurons of {view.model} with labels, scores and statistics",
    )
    st.download_button(
        "Download these rows (CSV)",
        lambda: table.csv_bytes(kept, columns),
        file_name="neurons.csv",
        mime="text/csv",
        on_click="ignore",
        key="export",
    )
    chosen = event.selection.rows
    if chosen and 0 <= chosen[0] < len(kept):
        row = kept.iloc[chosen[0]]
        here = {"model": str(row["model"]), "layer": str(row["layer"]), "unit": int(row["unit"])}
        go("neuron", lists.neuron_params(view, keep, **here))


def config(name: str) -> object:
    """How a column looks."""
    kinds = st.column_config
    if name == "strip":
        return kinds.ImageColumn("Exemplars", width=STRIP_PX)
    column = table.COLUMNS[name]
    about = {"label": column.title, "help": column.help}
    if column.kind == "flag":
        return kinds.CheckboxColumn(**about)
    if column.kind == "share":
        return kinds.NumberColumn(**about, format="%.1f %%")
    if column.kind == "number":
        return kinds.NumberColumn(**about, format="%.3f")
    if column.kind == "count":
        return kinds.NumberColumn(**about, format="%d")
    return kinds.TextColumn(**about, width="medium" if name == "label" else None)


main()
