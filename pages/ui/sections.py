"""The sections of the neuron page that say what the images mean: labels, numbers, neighbours."""

from __future__ import annotations

import streamlit as st

from csp_engine.bundle import Bundle
from pages.ui import charts, finding, neurons, numbers
from pages.ui.cards import Packs, bar_table, card_list, facts, show
from pages.ui.page import go
from pages.ui.state import View


def activations(bundle: Bundle, view: View) -> None:
    """Statistics, their spread, classes and driven outputs."""
    show("<h2 class='csp-h'>Activations</h2>")
    row = bundle.units(view.model, view.layer).iloc[view.unit]
    if not bool(row["is_constant"]):
        figure, words = charts.activation_histogram(bundle, view, st.context.theme.type or "light")
        st.plotly_chart(figure, key="histogram", config={"displayModeBar": False}, alt=words)
    show(facts(neurons.statistics(bundle, view)))
    classes = neurons.class_rows(bundle, view)
    if classes:
        show("<h2 class='csp-h'>Classes of the exemplars</h2>")
        show(bar_table("Against all probe images", ("class", "here", "all", "lift"), classes))
    driven = neurons.influence_rows(bundle, view)
    if driven:
        show("<h2 class='csp-h'>Outputs it drives</h2>")
        caption = "Mean gradient × activation per output; weight where the layer feeds it directly"
        show(bar_table(caption, ("output", "effect", "weight", "n"), driven))


def neighbours(bundle: Bundle, view: View) -> None:
    """Neurons with the nearest concept vectors."""
    near = finding.nearest(bundle, view)
    if not near:
        return
    show("<h2 class='csp-h'>Nearest neurons</h2>")
    packs = Packs(view.bundle, bundle)
    cards = [
        neurons.neuron_card(
            bundle, view, ref.model, ref.layer, ref.unit, score=numbers.score(score), note="", n=4
        )
        for ref, score in near
    ]
    picked = card_list(cards, packs, label="Nearest neurons", key="nearest", compact=True)
    if picked is not None:
        go("neuron", cards[picked].params)
