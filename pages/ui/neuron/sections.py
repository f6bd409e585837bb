"""The sections of the neuron page that say what the images mean: labels, numbers, neighbours."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.audits.registered import AUDITS
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.address import View
from csp_engine.views.finding.examples import nearest
from csp_engine.views.neuron_facts import histogram_of
from pages.ui.parts import charts
from pages.ui.parts.cards import Packs, bar_table, card_list, facts, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import store
from pages.ui.views import images as evidence
from pages.ui.views import neuron as neurons

CHANCE = 0.05
"""What is at least as likely by chance is shown in grey."""


def activations(bundle: Bundle, view: View) -> None:
    """Statistics, their spread, classes and driven outputs; one element, so that it draws fast."""
    parts = ["<h2 class='csp-h'>Activations</h2>"]
    row = bundle.units(view.model, view.layer).iloc[view.unit]
    if not bool(row["is_constant"]):
        drawn = histogram_of(bundle, NeuronRef(view.model, view.layer, view.unit))
        parts.append(charts.activation_histogram(drawn))
    parts += [facts(neurons.statistics(bundle, view), named), shared(bundle, view)]
    driven = neurons.influence_rows(bundle, view)
    if driven:
        effect = term("gradient × activation", "effect")
        columns = (term("output"), effect, term("direct weight", "weight"), "images")
        caption = "The effect is a mean over images; the weight stands where the layer feeds it"
        parts.append("<h2 class='csp-h'>Outputs it drives</h2>")
        parts.append(bar_table(f"{caption} directly.", columns, driven, is_markup=True))
    show(f"<div class='csp-stack'>{''.join(parts)}</div>")


TERMS = {
    "Active on": "density",
    "Exemplars": "exemplar",
    "Quiet images": "quiet",
    **{statistic.title: statistic.term for statistic in AUDITS.values() if statistic.term},
}


def named(name: str) -> str:
    """The name of a statistic, with what it means."""
    return term(TERMS[name], name) if name in TERMS else plain(name)


def shared(bundle: Bundle, view: View, limit: int = 8) -> str:
    """What the exemplars show more often than the probe set does, with exact tests, as HTML."""
    rows = evidence.breakdown(bundle, view)
    if not rows:
        return ""
    # By lift, but what chance explains goes last: one image of a rare kind has a huge lift.
    rows = sorted(rows, key=lambda row: row.q > CHANCE)
    head = "".join(
        f"<th scope='col'>{name}</th>"
        for name in ("property", "here", "all", term("lift"), term("q-value", "q"))
    )
    body = "".join(
        f"<tr{' class=quiet' if row.q > CHANCE else ''}><th scope='row'><span class='name' "
        f"dir='auto'>{plain(row.name)}</span><span class='track'><span class='bar' "
        f"style='width:{100 * row.share:.1f}%'></span><i style='left:{100 * row.base:.1f}%'></i>"
        f"</span></th><td title='95 % interval {numbers.share(row.low)} to "
        f"{numbers.share(row.high)}'>{numbers.share(row.share)} <span class='csp-range'>"
        f"{100 * row.low:.0f}–{100 * row.high:.0f}</span></td><td>{numbers.share(row.base)}</td>"
        f"<td>{row.lift:.1f}×</td><td>{numbers.chance(row.q)}</td></tr>"
        for row in rows[:limit]
    )
    n_chosen = max(row.n_chosen for row in rows)
    is_partly = any(row.n_images < bundle.n_images for row in rows)
    but = ", where the property is known" if is_partly else ""
    return (
        "<h2 class='csp-h'>What the exemplars share</h2>"
        "<table class='csp-table' style='--cells: 4'><caption>"
        f"{n_chosen} exemplars, one of each {term('group')} and near-duplicate, against "
        f"{numbers.count(bundle.n_images)} probe images{but}; 95 % intervals. The tick is the "
        f"share among all.</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        "</table>"
    )


def neighbours(bundle: Bundle, view: View) -> None:
    """Neurons with the nearest concept vectors."""
    near = nearest(bundle, store.MEMO, view)
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
    card_list(cards, packs, label="Nearest neurons", key="nearest", compact=True)
