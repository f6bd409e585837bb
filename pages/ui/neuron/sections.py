"""The sections of the neuron page that say what the images mean: labels, numbers, neighbours."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import View
from csp_engine.views.finding.examples import nearest
from csp_engine.views.neuron.card import neuron_card
from csp_engine.views.neuron.circuit import outputs_of
from csp_engine.views.neuron.columns import N_SHOWN as N_COLUMNS
from csp_engine.views.neuron.columns import column_fits
from csp_engine.views.neuron.influence import driven_outputs
from csp_engine.views.neuron.shared import N_SHOWN, by_chance, shared
from csp_engine.views.neuron.statistics import histogram_of, statistics
from pages.ui.parts import charts
from pages.ui.parts.cards import Packs, bar_table, card_list, facts, page_url, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import store


def activations(bundle: Bundle, view: View) -> str:
    """Statistics, their spread, classes and driven outputs, as HTML: one element draws fast."""
    drawn = histogram_of(bundle, view.neuron)
    chart = "" if drawn is None else charts.activation_histogram(drawn)
    found = statistics(bundle, view.neuron)
    terms = {each.name: each.term for each in found}
    rows = [(each.name, each.text) for each in found]
    told = facts(rows, lambda name: named(name, terms[name]))
    parts = [f"<h2 class='csp-h'>Activations</h2>{chart}{told}", common(bundle, view)]
    columns = column_fits(bundle, view.neuron)
    if columns:
        caption = (
            f"The {numbers.count(min(N_COLUMNS, len(columns)))} of "
            f"{numbers.count(len(columns))} columns that correlate most. The bar is the "
            "correlation; images: how many show the concept, of those where it is known"
        )
        headings = ("column", term("AUROC"), term("Pearson correlation", "Pearson"), term("AUPRC"))
        bars = [(each.name, each.share, each.cells) for each in columns[:N_COLUMNS]]
        table = bar_table(f"{caption}.", (*headings, "images"), bars, is_markup=True)
        name = term("concept column", "Concept columns")
        parts.append(f"<h2 class='csp-h'>{name}</h2>{table}")
    driven = driven_outputs(bundle, view.neuron)
    if driven:
        effect = term("gradient × activation", "effect")
        columns = (term("output"), effect, term("direct weight", "weight"), "images")
        caption = (
            "The effect is a mean over images; the weight is given where the layer feeds the output"
        )
        bars = []
        for each in driven:
            cells = (each.effect_text, each.weight_text, numbers.count(each.n_images))
            bars.append((each.name, each.share, cells))
        table = bar_table(f"{caption} directly.", columns, bars, is_markup=True)
        ways = circuits(bundle, view, [each.name for each in driven])
        parts.append(f"<h2 class='csp-h'>Outputs it drives</h2>{table}{ways}")
    sections = "".join(f"<section class='csp-stack'>{part}</section>" for part in parts if part)
    return f"<div class='csp-beside'>{sections}</div>"


def circuits(bundle: Bundle, view: View, outputs: list[str]) -> str:
    """Ways to the circuits of outputs that this neuron drives, where they are known."""
    known = outputs_of(bundle, view.model)
    ways = [
        f"<a target='_self' href='{plain(page_url('labels', view.params(unit='', output=name)))}'>"
        f"{plain(name)}</a>"
        for name in outputs
        if name in known
    ]
    return (
        f"<p class='csp-quiet'>{term('circuit', 'Circuits')}: {', '.join(ways)}</p>" if ways else ""
    )


def named(name: str, known: str) -> str:
    """The name of a statistic, with what it means where the glossary says so."""
    return term(known, name) if known else plain(name)


def common(bundle: Bundle, view: View) -> str:
    """What the exemplars show more often than the probe set does, with exact tests, as HTML."""
    found = shared(bundle, store.MEMO, view.neuron)
    if not found.rows:
        return ""
    head = "".join(
        f"<th scope='col'>{name}</th>"
        for name in ("property", "here", "all", term("lift"), term("q-value", "q"))
    )
    body = "".join(
        f"<tr{' class=quiet' if by_chance(row) else ''}><th scope='row'><span class='name' "
        f"dir='auto'>{plain(row.name)}</span><span class='track'><span class='bar' "
        f"style='width:{100 * row.share:.1f}%'></span><i style='left:{100 * row.base:.1f}%'></i>"
        f"</span></th><td title='95 % interval {numbers.share(row.low)} to "
        f"{numbers.share(row.high)}'>{numbers.share(row.share)} <span class='csp-range'>"
        f"{100 * row.low:.0f}–{100 * row.high:.0f}</span></td><td>{numbers.share(row.base)}</td>"
        f"<td>{row.lift:.1f}×</td><td>{plain(numbers.chance(row.q))}</td></tr>"
        for row in found.rows[:N_SHOWN]
    )
    but = ", where the property is known" if found.is_partly else ""
    return (
        "<h2 class='csp-h'>What the exemplars share</h2>"
        f"<table class='csp-table' style='--cells: 4'><caption>{found.n_chosen} "
        f"exemplars, one from each {term('group')} or set of near-duplicates, compared "
        f"with {numbers.count(bundle.n_images)} probe images{but}; 95 % intervals. The "
        f"tick marks the share among all images.</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )


def neighbours(bundle: Bundle, view: View) -> None:
    """Neurons with the nearest concept vectors."""
    near = nearest(bundle, store.MEMO, view.neuron, view.method)
    if not near:
        return
    show("<h2 class='csp-h'>Nearest neurons</h2>")
    packs = Packs(view.bundle, bundle)
    cards = [
        neuron_card(
            bundle,
            ref,
            view.method,
            view.params(model=ref.model, layer=ref.layer, unit=ref.unit),
            score=numbers.score(score),
            note="",
            n=4,
        )
        for ref, score in near
    ]
    card_list(cards, packs, label="Nearest neurons", key="nearest", compact=True)
