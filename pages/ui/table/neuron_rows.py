"""Neurons drawn as a table whose rows open them, with the file of exactly these rows."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views import lists
from csp_engine.views.address import Narrowing, View
from csp_engine.views.audit import groups
from csp_engine.views.comparison import named
from csp_engine.views.table.columns import COLUMNS
from csp_engine.views.table.concept_columns import FIGURES
from csp_engine.views.table.rows import csv_bytes
from pages.ui.parts import exporting
from pages.ui.parts.cards import show
from pages.ui.parts.strips import strip_urls
from pages.ui.parts.words import about_column
from pages.ui.shell.page import go, link

FIRST = (
    *("family", "confidence", "truth", "moves", "moves_rank", "review", "model", "layer", "unit"),
    *("match", "score", "reliable"),
)
"""Columns after the label, where they are shown."""
WIDTH_PX = {"others": 330, "family": 126, "truth": 98, "moves": 170}
WIDTH_PX |= {"confidence": 84, "moves_rank": 84, "unit": 50, "score": 60, "reliable": 74}
"""Widths of columns: those that matter fit a page of 1,280 pixels, also where rows are short."""
MOST_DRAWN = 150_000
"""Rows that a table draws: a million would be 140 MB for the browser each time it is drawn."""
MOST_HELD = 200
"""Neurons that a link to the audit names."""
ROW_PX, STRIP_PX, LABEL_PX, HEIGHT_PX = 50, 204, 160, 640


def shown_columns(
    rows: pd.DataFrame,
    view: View,
    keep: Narrowing | None = None,
) -> list[str]:
    """Columns that say something here: no empty ones, no layer where there is only one.

    What other methods say, how far apart, and how far the next wording is behind (the lead over the
    next meaning says more) stand there where that chooses or orders the rows.
    The figures of a chosen concept column come first. Without ``keep``, what may order the rows.
    """
    by_methods = {"others", "disagreement"}
    hidden = set(by_methods)
    if keep is not None:
        chosen = {keep.sort.removeprefix("-"), *(name for name, _ in keep.where)}
        hidden = set() if keep.only == "disagree" or chosen & by_methods else by_methods
        hidden |= {"margin"} - chosen
    if view.column:
        hidden.add("column")
    if rows["model"].nunique() < 2:
        hidden.add("model")
    if not view.is_all_layers or rows["place"].nunique() < 2:
        hidden.add("layer")
    shown = [
        name
        for name in COLUMNS
        if name in rows and name not in hidden and (name == "label" or rows[name].notna().any())
    ]
    asked = (*(FIGURES if view.column else ()), *(() if "others" in hidden else ("others",)))

    def order(name: str) -> int:
        """What matters stands where nobody has to scroll for it, and first what was asked for."""
        if name == "label" or name in asked:
            return int(name != "label")
        return 2 + FIRST.index(name) if name in FIRST else 2 + len(FIRST)

    return sorted(shown, key=order)


def draw(
    bundle: Bundle, view: View, keep: Narrowing, kept: pd.DataFrame, columns: list[str]
) -> None:
    """The table and its file; of very many rows the first are drawn, and the file has all."""
    drawn = kept.iloc[:MOST_DRAWN]
    shown = drawn[columns].copy()
    # After the label, which a phone then shows whole; pictures may be cut.
    shown.insert(int("label" in shown), "strip", strip_urls(view.bundle, bundle, drawn))
    shown.loc[(drawn["state"] == "constant").to_numpy(), "strip"] = None
    if "label" in shown:
        shown["label"] = named(drawn["label"], drawn["reliable"])
    for name in columns:
        if COLUMNS[name].kind == "share":
            shown[name] *= 100
        elif COLUMNS[name].kind == "flag":  # as words: boxes are what rows are ticked by
            shown[name] = shown[name].map({True: "yes"})
    where = "all layers" if view.is_all_layers else f"{view.model} / {view.layer}"
    event = st.dataframe(
        shown,
        hide_index=True,
        height=min(HEIGHT_PX, 40 + ROW_PX * len(shown)),
        row_height=ROW_PX,
        column_config={name: config(name) for name in shown},
        key="neurons",
        on_select="rerun",
        selection_mode="multi-row",
        placeholder="–",
        alt=f"{len(shown)} neurons of {where} with labels, scores and statistics",
    )
    if len(drawn) < len(kept):
        st.caption(
            f"The first {numbers.count(len(drawn))} of {numbers.count(len(kept))} neurons in this "
            "order; choose another order, or filters, above to see others. The CSV file has all."
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        exporting.csv_button(
            "these rows", lambda: csv_bytes(kept, columns), file_name="neurons.csv", key="export"
        )
        title = lists.title_of(view, keep)
        exporting.rows_button(bundle, kept, title, what="these rows", key="export_pages")
    ticked = kept.iloc[[at for at in event.selection.rows if at < len(drawn)]]
    if not ticked.empty:
        with st.container(key="held"):
            held(view, ticked)
    at = pressed("opened", len(drawn))
    if at is not None:
        row = kept.iloc[at]
        here = {"model": str(row["model"]), "layer": str(row["layer"]), "unit": int(row["unit"])}
        go("neuron", lists.neuron_params(view, keep, **here))


def held(view: View, ticked: pd.DataFrame) -> None:
    """The way to the test of what the network decides without the neurons that are ticked."""
    models = list(dict.fromkeys(ticked["model"].astype(str)))
    if len(models) > 1 or len(ticked) > MOST_HELD:
        show(
            f"<p class='csp-quiet'>Tick at most {MOST_HELD} neurons of one network to test what it "
            "decides without them.</p>"
        )
        return
    text = groups.written(
        NeuronRef(models[0], str(layer), int(unit))
        for layer, unit in zip(ticked["layer"], ticked["unit"], strict=True)
    )
    n = len(ticked)
    told = "the ticked neuron" if n == 1 else f"the {n} ticked neurons"
    link(
        "audit",
        f"Test the fix with {told} held still",
        view.params(model=models[0], unit="", hold=text),
    )


def chosen(event: Any, button: str, n_rows: int) -> int | None:
    """The row whose button was just pressed, else the one selected; None where there is none."""
    row = pressed(button, n_rows)
    if row is not None:
        return row
    rows = event.selection.rows
    return int(rows[0]) if rows and 0 <= rows[0] < n_rows else None


def pressed(button: str, n_rows: int) -> int | None:
    """The row whose button was just pressed."""
    sent = st.session_state.get(button)
    return int(sent["row"]) if sent is not None and 0 <= sent["row"] < n_rows else None


def label_column(title: str, button: str, about: str | None = None) -> Any:
    """Labels that open their neurons: what was pressed stands in ``session_state[button]``."""
    return st.column_config.ButtonColumn(
        title, type="tertiary", alignment="left", width=LABEL_PX, key=button, help=about
    )


def config(name: str) -> Any:
    """How a column looks."""
    kinds = st.column_config
    if name == "strip":
        return kinds.ImageColumn("Exemplars", width=STRIP_PX)
    column = COLUMNS[name]
    about: dict[str, Any] = {"label": column.title, "help": about_column(column)}
    about["width"] = WIDTH_PX.get(name)
    if name == "label":
        return label_column(column.title, "opened", about["help"])
    if name == "confidence":  # the one share to compare rows by at a glance
        return kinds.ProgressColumn(**about, format="%.0f %%", min_value=0, max_value=100)
    if column.kind == "share":
        return kinds.NumberColumn(**about, format="%.1f %%")
    if column.kind == "figure":
        return kinds.NumberColumn(**about, format="%.3g")
    if column.kind == "number":
        return kinds.NumberColumn(**about, format="%.3f")
    if column.kind == "count":
        return kinds.NumberColumn(**about, format="%d")
    return kinds.TextColumn(**about)
