"""Labels: which method to believe in this bundle, how sure one can be, and what the layers know."""

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.accuracy import kept_accuracy
from csp_engine.views.address import View
from csp_engine.views.places import scoring_methods
from pages.ui.labels import (
    circuits,
    confidence,
    control,
    differing,
    figures,
    granularity,
    knowing,
    predicting,
)
from pages.ui.parts.cards import plain, show
from pages.ui.shell import problems, store
from pages.ui.shell.page import opened
from pages.ui.table import narrowing


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    if not scoring_methods(bundle):
        show(f"<h1 class='csp-title'>{plain(view.bundle)} has no labels</h1>")
        st.text("Run 'csp label' to add some.")
        return
    with problems.caught():
        head(bundle, view)
        figures.section(bundle)
    with problems.caught():
        predicting.section(bundle, view)
    with problems.caught():
        granularity.section(bundle)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        narrowing.method_box(bundle, view)
        narrowing.layer_box(bundle, view)
    with problems.caught():
        confidence.section(bundle, view)
    with problems.caught():
        knowing.section(bundle, view)
    with problems.caught():
        control.section(bundle, view)
    with problems.caught():
        circuits.section(bundle, view)
    with problems.caught():
        differing.section(bundle, view)


def head(bundle: Bundle, view: View) -> None:
    """The conclusion."""
    show(
        f"<p class='csp-id'>{plain(view.bundle)}</p><h1 class='csp-title'>Which labels to believe"
        f"</h1><p class='csp-lead'>{plain(conclusion(bundle))}</p>"
    )


def conclusion(bundle: Bundle) -> str:
    """In a sentence or two, made of what is measured alone."""
    titles = [method_title(method) for method in scoring_methods(bundle)]
    accuracy = kept_accuracy(bundle, store.MEMO)
    if accuracy is None:
        return (
            "It is not known what the neurons of this bundle truly respond to, so no label can be "
            "called right or wrong here. Trust the images first; where methods that work in "
            "different ways agree, trust the label more."
        )
    right = {
        method: each["best"]["share"]
        for method, each in accuracy["methods"].items()
        if each["best"]["n"]
    }
    if not right:
        return f"No neuron with a known true concept has a label by {', '.join(titles)}."
    best = max(right, key=right.__getitem__)
    sure = accuracy["methods"][best]["best"]
    others = ", ".join(
        f"{method_title(method)} for {numbers.share(share)}"
        for method, share in sorted(right.items(), key=lambda item: -item[1])
        if method != best
    )
    than = f" ({others})" if others else ""
    return (
        f"Where the true concept of a neuron is known, {method_title(best)} names it for "
        f"{numbers.share(sure['share'])}{than}, of {numbers.count(sure['n'])} neurons."
    )


main()
