"""Layer table: every neuron of a layer, or of a search, to sort, filter, open and export."""

from dataclasses import replace

import streamlit as st

from csp_engine import numbers
from csp_engine.views import lists
from csp_engine.views.address import FIRST, View, read_narrowing
from csp_engine.views.finding.index import listing_note
from csp_engine.views.finding.query import title_of
from csp_engine.views.places import scoring_methods
from csp_engine.views.table import first
from csp_engine.views.table.columns import RANGED
from csp_engine.views.table.families import families_of
from csp_engine.views.table.rows import classes_of, models_of
from pages.ui.parts import words
from pages.ui.parts.cards import plain, show
from pages.ui.shell import problems, reviewer, store
from pages.ui.shell.page import link, opened
from pages.ui.table import narrowing, neuron_rows


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    with problems.caught():
        query = store.query_of(bundle, view)
        rows = lists.searched(bundle, store.MEMO, view, query, reviewer.column(bundle))
        every = neuron_rows.shown_columns(rows, view)
        sortable = [*(name for name in every if name not in ("model", "layer")), "layer"]
        if rows["disagreement"].notna().any():
            sortable.append("disagreement")
        ranged = [name for name in RANGED if name in every]
        keep = read_narrowing(
            st.query_params,
            sortable,
            ranged,
            classes_of(rows),
            models_of(rows),
            families_of(rows),
        )
        problems.notes(keep.notes)
        if not (keep.sort or view.is_asking):
            keep = replace(keep, sort=FIRST)
        heading = st.container()
        narrowing.controls(bundle, view, rows, keep, sortable, ranged)
        kept = lists.ordered(rows, view, keep)
        with heading:
            told = listing_note(bundle, view.method) if query else ""
            if keep.sort == FIRST:
                told = f"{first.in_words(rows)} {told}"
            by = f"Labels by {words.method(view.method)}" if scoring_methods(bundle) else NO_LABELS
            head(view, len(kept), len(rows), by, told)
        if kept.empty:
            st.text("No neuron passes these filters; widen or clear one of them.")
            return
        columns = neuron_rows.shown_columns(rows, view, keep)
        neuron_rows.draw(bundle, view, keep, kept, columns)
        if len(scoring_methods(bundle)) > 1:
            link("labels", "How the label methods compare", view.params(unit=""))


NO_LABELS = "No labels yet (add some with 'csp label')"


def head(view: View, n_kept: int, n_all: int, by: str, told: str) -> None:
    """What is in the table; ``by`` says whose the labels are, as HTML, and ``told`` the order."""
    where = "all layers" if view.is_all_layers else f"{view.model} / {view.layer}"
    count = numbers.count(n_all)
    if n_kept < n_all:
        count = f"{numbers.count(n_kept)} of {count}"
    asked = f" by how they match {plain(title_of(view))}" if view.has_query else ""
    if view.column and not asked:
        asked = f" by the concept column <bdi>{plain(view.column)}</bdi>"
    show(
        f"<p class='csp-id'>{plain(view.bundle)} / {plain(where)}</p>"
        f"<h1 class='csp-title'>{count} neurons{asked}</h1>"
        f"<p class='csp-quiet csp-left'>{plain(told)} {by}, beside the images that excite each "
        "neuron most. Click a label to open its neuron; tick rows to test what the network decides "
        "without them.</p>"
    )


main()
