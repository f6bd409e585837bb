"""Labels: which method to believe in this bundle, how sure one can be, and what the layers know."""

from typing import Any

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.accuracy import kept_accuracy
from csp_engine.views.address import View
from csp_engine.views.places import scoring_methods
from csp_engine.views.sentence import listed
from csp_engine.views.table import summary
from pages.ui.labels import (
    circuits,
    confidence,
    control,
    differing,
    example,
    figures,
    granularity,
    knowing,
    predicting,
)
from pages.ui.parts.cards import plain, show
from pages.ui.parts.contents import contents
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
    with st.container(horizontal=True, vertical_alignment="bottom"), problems.caught():
        head(bundle, view)
        contents()
    with problems.caught():
        first(bundle, view)
    with problems.caught():
        figures.more(bundle)
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


def first(bundle: Bundle, view: View) -> None:
    """Which method is right, beside one neuron that shows it."""
    method = best_method(bundle) or view.method
    shown = summary.telling(bundle, store.MEMO, method)
    if shown is None:
        figures.section(bundle)
        return
    left, right = st.columns([1.15, 1], gap="large")
    with left, problems.caught():
        figures.section(bundle)
        if to_see := confidence.to_see(bundle, view, method):
            show(to_see)
    with right, problems.caught():
        example.section(bundle, view, shown)


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
    right = shares_right(accuracy)
    if not right:
        return f"No neuron with a known true concept has a label by {', '.join(titles)}."
    best, *others = right
    sure = accuracy["methods"][best]["best"]
    than = listed([f"{method_title(each)} for {numbers.share(right[each])}" for each in others])
    wrong = accuracy["methods"][best].get("claimed_and_wrong")
    also = "" if wrong is None else (
        f" {method_title(best)} relies on a wrong label for {numbers.share(wrong['share'])}."
    )  # fmt: skip
    return (
        f"Where it can be checked, on {numbers.count(sure['n'])} neurons whose true concept is "
        f"known, {method_title(best)} names it for {numbers.share(sure['share'])}"
        f"{f'; {than}' if others else ''}.{also}"
    )


def shares_right(accuracy: dict[str, Any]) -> dict[str, float]:
    """For each method the share of known neurons that its best labels name, the best first."""
    right = {
        method: each["best"]["share"]
        for method, each in accuracy["methods"].items()
        if each["best"]["n"]
    }
    return dict(sorted(right.items(), key=lambda item: -item[1]))


def best_method(bundle: Bundle) -> str:
    """The method that is right most often; empty where nobody knows."""
    accuracy = kept_accuracy(bundle, store.MEMO)
    return next(iter(shares_right(accuracy)), "") if accuracy else ""


main()
