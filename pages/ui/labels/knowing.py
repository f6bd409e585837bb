"""What a layer knows: the meanings that its neurons are reliably labelled with."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views import lists
from csp_engine.views.address import View
from csp_engine.views.neuron.unsaid import WORDS
from csp_engine.views.table import summary
from pages.ui.parts import words
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.shell import store

N_SHOWN = 15


def section(bundle: Bundle, view: View) -> None:
    """The most frequent meanings, each with the way to its neurons."""
    rows = lists.searched(bundle, store.MEMO, view)
    found = summary.meanings(rows, bundle, store.MEMO)
    title = (
        "What the layers know" if view.is_all_layers else f"What {view.model} / {view.layer} knows"
    )
    n_named = sum(each.n_neurons for each in found)
    show(
        f"<h2 class='csp-h'>{plain(title)}</h2><p class='csp-quiet'>"
        f"{numbers.count(n_named)} of {numbers.count(len(rows))} neurons have a reliable label by "
        f"{words.method(view.method)}, of {numbers.count(len(found))} meanings. Labels that the "
        "encoder can hardly tell apart count as one. A network with random weights can be read "
        "too: a label says what a neuron responds to, not that training taught it.</p>"
    )
    n_unsaid = int(rows["unsaid"].sum())
    if n_unsaid:
        address = page_url("layer", view.params(unit="", has="", only="unsaid"))
        show(
            f"<p class='csp-quiet'>For <a target='_self' href='{plain(address)}'>"
            f"{numbers.count(n_unsaid)} neurons</a> {words.term(WORDS)}: their activation "
            "can be read from the images, and no label says what it follows.</p>"
        )
    if not found:
        return
    most = found[0].n_neurons
    body = []
    for each in found[:N_SHOWN]:
        params = view.params(unit="", has=each.label, only="reliable")
        also = (
            f" <span class='csp-quiet'>also {plain(said(each.others))}</span>"
            if each.others
            else ""
        )
        width = f"{100 * each.n_neurons / most:.1f}%"
        body.append(
            f"<tr><th scope='row'><a class='name' dir='auto' target='_self' "
            f"href='{plain(page_url('layer', params))}'>{plain(each.label)}</a>{also}"
            f"<span class='track'><span class='bar' style='width:{width}'></span></span>"
            f"</th><td>{numbers.count(each.n_neurons)}</td></tr>"
        )
    left = len(found) - N_SHOWN
    more = f" The {numbers.count(N_SHOWN)} most frequent of them." if left > 0 else ""
    show(
        "<table class='csp-table' style='--cells: 1'><caption>Neurons by what they are labelled "
        f"with.{more}</caption><thead><tr><th scope='col'>meaning</th><th scope='col'>neurons</th>"
        f"</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def said(others: tuple[str, ...]) -> str:
    """Other labels of one meaning, the first few."""
    few = ", ".join(others[:3])
    return f"{few} and {numbers.count(len(others) - 3)} more" if len(others) > 3 else few
