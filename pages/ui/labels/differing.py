"""Neurons of which methods reliably say different things."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import View
from csp_engine.views.places import scoring_methods
from csp_engine.views.table import summary
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import store
from pages.ui.shell.page import link


def section(bundle: Bundle, view: View) -> None:
    """The neurons on which methods differ most."""
    if len(scoring_methods(bundle)) < 2:
        return
    found, n_all = summary.disagreements(bundle, store.MEMO, view.method)
    show("<h2 class='csp-h'>Where methods disagree</h2>")
    if not found:
        show("<p class='csp-quiet'>Nowhere: all reliable labels of a neuron mean the same.</p>")
        return
    body = []
    for each in found:
        place = (each.neuron.model, each.neuron.layer, each.neuron.unit)
        href = page_url("neuron", View(view.bundle, *place, view.method).params())
        labels = " · ".join(
            f"{plain(method_title(name))}: <b dir='auto'>{plain(text)}</b>"
            for name, text in each.said.items()
        )
        body.append(
            f"<tr><th scope='row'><a target='_self' href='{plain(href)}'>{plain(str(each.neuron))}"
            f"</a></th><td class='text' data-heading='reliable labels'>{labels}</td>"
            f"<td data-heading='distance'>{numbers.score(each.distance)}</td></tr>"
        )
    show(
        f"<table class='csp-table wide'><caption>{numbers.count(n_all)} neurons "
        "have reliable labels that mean different things; the furthest apart first "
        f"({term('disagreement')}).</caption><thead><tr><th scope='col'>neuron</th>"
        "<th scope='col' class='text'>reliable labels</th><th scope='col'>distance</th></tr>"
        f"</thead><tbody>{''.join(body)}</tbody></table>"
    )
    params = view.params(unit="", only="disagree", sort="-disagreement")
    link("layer", "All of them in the table", params)
