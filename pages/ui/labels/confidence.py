"""How likely a label is right, and whether that probability keeps its word."""

from __future__ import annotations

import math

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.evaluation.confidence import Bin
from csp_engine.views import confidence
from csp_engine.views.address import FIRST, View
from csp_engine.views.confidence import LIKELY, Learnt
from csp_engine.views.table import summary
from pages.ui.parts import words
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import store


def section(bundle: Bundle, view: View) -> None:
    """What the known neurons teach about the method's labels, and what follows for each layer."""
    found = confidence.learnt(bundle, store.MEMO, view.method)
    show(f"<h2 class='csp-h'>How likely a label of {words.method(view.method)} is right</h2>")
    if found is None:
        show(
            f"<p class='csp-quiet'>Labels are {confidence.NOT_CALIBRATED}: that takes neurons "
            f"whose {term('true concept')} is known, some labelled right and some wrong. "
            "Concept columns of the probe set give such neurons (docs/methods.md, Ground truth)."
            "</p>"
        )
        return
    show(f"<p class='csp-quiet'>{how(found)}</p>")
    show(diagram(found.bins))
    if found.holds:
        show(layers_table(bundle, view))


def to_see(bundle: Bundle, view: View, method: str) -> str:
    """Ways to the neurons whose labels may be used, and to those to look at, as HTML."""
    rows = summary.by_layer(bundle, store.MEMO, method)
    n_likely, n_all = sum(each.n_likely for each in rows), sum(each.n_units for each in rows)
    _, n_apart = summary.disagreements(bundle, store.MEMO, method, 0)
    here = view.params(unit="", layer="", model="", method=method)
    told = []
    if n_likely:
        href = page_url("layer", {**here, "where": f"confidence:{LIKELY}..", "sort": FIRST})
        told.append(
            f"<a target='_self' href='{plain(href)}'>{numbers.count(n_likely)} of "
            f"{numbers.count(n_all)} neurons</a> have a label by {words.method(method)} that is "
            f"likely right ({numbers.share(LIKELY)} or more)."
        )
    if n_apart:
        href = page_url("layer", {**here, "only": "disagree", "sort": "-disagreement"})
        told.append(
            f"On <a target='_self' href='{plain(href)}'>{numbers.count(n_apart)} neurons</a> two "
            "methods disagree, and each calls its label reliable: look at the images."
        )
    items = "".join(f"<li>{each}</li>" for each in told)
    return f"<ul class='csp-limits csp-left'>{items}</ul>" if told else ""


def how(found: Learnt) -> str:
    """Where the probability comes from, and how far off it is."""
    learnt = (
        f"Learnt from the {numbers.count(found.n_known)} neurons of this bundle whose truth is "
        "known (for some it is that they respond to none of the concepts)."
    )
    if found.n_judged < confidence.LEAST_JUDGED:
        return (
            f"{learnt} It could be tried on {numbers.count(found.n_judged)} of them while their "
            f"own {found.groups} taught nothing, which is too few to tell whether it keeps its "
            f"word ({confidence.LEAST_JUDGED} at least), so no probability is shown."
        )
    learnt = (
        f"{learnt} On {found.groups} left out meanwhile it is off by "
        f"{numbers.share(found.error)} on average ({term('expected calibration error')})."
    )
    if found.holds:
        return learnt
    limit = numbers.share(confidence.LARGEST_ERROR)
    return f"{learnt} That is more than {limit}, so no probability is shown."


def diagram(bins: tuple[Bin, ...]) -> str:
    """The reliability diagram as a table: what was said, and what came true."""
    rows = "".join(
        f"<tr><th scope='row'><span class='name'>said {numbers.share(each.mean)}</span>"
        f"<span class='track'><span class='bar' style='width:{100 * each.right.share:.1f}%'></span>"
        f"<i style='left:{100 * each.mean:.1f}%'></i></span></th>"
        f"<td>{numbers.share(each.right.share)}</td>"
        f"<td>{numbers.share_range(each.right.low, each.right.high)}</td>"
        f"<td>{numbers.count(each.right.n)}</td></tr>"
        for each in bins
    )
    return (
        "<table class='csp-table' style='--cells: 3'><caption>Said and come true, on neurons left "
        "out. The bar is the share that is right; the tick is what was said.</caption><thead><tr>"
        "<th scope='col'>probability</th><th scope='col'>right</th><th scope='col'>95 % interval"
        f"</th><th scope='col'>n</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def layers_table(bundle: Bundle, view: View) -> str:
    """How many labels of each layer are likely right, and how many of those are expected wrong."""
    rows = []
    for each in summary.by_layer(bundle, store.MEMO, view.method):
        href = page_url(
            "layer",
            view.params(
                model=each.model,
                layer=each.layer,
                unit="",
                where=f"confidence:{LIKELY}..",
                sort="-confidence",
            ),
        )
        wrong = numbers.UNKNOWN
        if not math.isnan(each.expected_wrong):
            wrong = numbers.share(each.expected_wrong)
        rows.append(
            f"<tr><th scope='row'><a href='{plain(href)}' target='_self'>{plain(each.model)} / "
            f"{plain(each.layer)}</a></th>"
            f"<td data-heading='neurons'>{numbers.count(each.n_units)}</td>"
            f"<td data-heading='likely right'>{numbers.count(each.n_likely)}</td>"
            f"<td data-heading='expected wrong'>{wrong}</td>"
            f"<td data-heading='plausible'>{numbers.count(each.n_plausible)}</td></tr>"
        )
    return (
        "<table class='csp-table wide'><caption>Likely right: "
        f"{numbers.share(LIKELY)} or more; plausible: half or more. Of the likely ones so many are "
        f"expected to be wrong ({term('false discovery rate')}).</caption><thead><tr>"
        "<th scope='col'>layer</th><th scope='col'>neurons</th><th scope='col'>likely right</th>"
        "<th scope='col'>expected wrong</th><th scope='col'>plausible</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
