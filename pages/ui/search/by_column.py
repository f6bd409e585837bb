"""Neurons by a concept column of the probe set: cards in the order of its AUROC."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views import lists
from csp_engine.views.address import Narrowing, View
from csp_engine.views.neuron.card import NeuronCard, neuron_card
from pages.ui.parts import exporting
from pages.ui.parts.cards import Packs, card_list, plain, show
from pages.ui.parts.words import term
from pages.ui.search.results import pages_of, window
from pages.ui.shell import problems, reviewer, store
from pages.ui.shell.page import link
from pages.ui.table import narrowing

EXPORTED = 100


def results(bundle: Bundle, view: View) -> None:
    """What goes with the column that the URL names."""
    line = st.container(horizontal=True, vertical_alignment="center", key="strip_found")
    with line:
        narrowing.model_pills(bundle)
        link("layer", "As a table", view.params(unit="", k="", find="", page=""))
    whole = lists.searched(bundle, store.MEMO, view, None, reviewer.column(bundle))
    keep = lists.narrowing_of(st.query_params, whole)
    problems.notes(keep.notes)
    narrowing.folded(line, bundle, view, whole, keep)
    rows = lists.ordered(whole, view, keep)
    if rows.empty:
        st.text("No neuron passes these filters; widen or clear one of them.")
        return
    summary(view, len(rows), len(whole), bool(whole["column_auroc"].notna().any()))
    cards = cards_of(bundle, view, keep, rows.iloc[window(view, len(rows))])
    card_list(cards, Packs(view.bundle, bundle), label="Neurons found", key="results")
    pages_of(view, len(rows))
    first = rows.iloc[:EXPORTED]
    what = f"the first {len(first)}" if len(first) < len(rows) else "these neurons"
    title = lists.title_of(view, keep)
    exporting.rows_button(bundle, first, title, what=what, key="export_pages")


def summary(view: View, n_kept: int, n_all: int, is_known: bool) -> None:
    """How many, and what their figures are."""
    count = f"{numbers.count(n_all)} neurons compared with <bdi>{plain(view.column)}</bdi>"
    if n_kept < n_all:
        count += f", {numbers.count(n_kept)} pass the filters"
    if not is_known:
        show(
            f"<p class='csp-note' role='status'>{count}. There are no figures: all images of "
            "which the column says anything show the concept, or none does.</p>"
        )
        return
    show(
        f"<p class='csp-quiet csp-left'>{count}. Each card shows the {term('AUROC')}: how well "
        "the activation alone tells probe images with the concept from those without. No label "
        "or encoder is involved.</p>"
    )


def cards_of(bundle: Bundle, view: View, keep: Narrowing, rows: pd.DataFrame) -> list[NeuronCard]:
    """A card for each row."""
    cards = []
    for row in rows.to_dict("records"):
        where = {"model": str(row["model"]), "layer": str(row["layer"]), "unit": int(row["unit"])}
        figures = [row[name] for name in ("column_auroc", "column_pearson", "column_auprc")]
        auroc, pearson, auprc = (numbers.score(each) for each in figures)
        cards.append(
            neuron_card(
                bundle,
                NeuronRef(**where),
                view.method,
                lists.neuron_params(view, keep, **where),
                score=auroc,
                note=f"Pearson {pearson}, AUPRC {auprc}",
                n=6,
            )
        )
    return cards
