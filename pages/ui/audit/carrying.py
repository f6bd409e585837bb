"""What carries the effect of one artefact: pairs to look at, swaps by layer, and the suspects."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.errors import InputError, LeftOutError
from csp_engine.exports.html.site import slug
from csp_engine.views.address import View
from csp_engine.views.audit.driving import every_neuron_csv, images_csv, images_of_carriers
from csp_engine.views.audit.groups import Firing, FiringGroup, firing, layer_beside
from csp_engine.views.audit.interventions import (
    Audited,
    Suspect,
    carrier_sentence,
)
from pages.ui.parts import intervened
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.exporting import csv_button
from pages.ui.parts.words import method, term
from pages.ui.shell import store

N_GROUPS = 8
"""Groups of what fires together that are shown at once; the rest fold."""

CONFIRMED, MOVED = "on the other half (95 %)", "change of its activation"


def section(
    bundle: Bundle, view: View, model: str, stored: StoredIntervention, found: Audited
) -> None:
    """One artefact, from the photographs to the neurons."""
    output = stored.output
    show(f"<p class='csp-lead csp-left'>{plain(found.effect.sentence(output))}</p>")
    gate = found.effect.gate
    if gate is not None and not found.effect.is_withheld:
        told = gate.sentence()
        show(f"<p class='csp-quiet'>{plain(told)}</p>")
    show(intervened.pairs(bundle, model, stored, found.effect))
    show(
        "<h2 class='csp-h'>Which neurons carry it</h2><p class='csp-lead csp-left'>"
        f"{plain(carrier_sentence(found, output))}</p>"
    )
    if found.layers:
        show(intervened.swaps(found.layers))
    if found.given:
        show(intervened.given(found.given))
    if found.suspects:
        show(suspects(found, view))
        csv_button(
            "the images that drive them",
            lambda: images_csv(images_of_carriers(bundle, found)),
            file_name=f"{slug(bundle.name)}-{slug(found.effect.artefact)}-carrier-images.csv",
            key="carrier-images",
        )
    if found.layers:
        csv_button(
            "what it does to every neuron",
            lambda: every_neuron_csv(stored, found.effect),
            file_name=f"{slug(bundle.name)}-{slug(found.effect.artefact)}-neurons.csv",
            key="every-neuron",
        )
    together(bundle, view, model, found)


def together(bundle: Bundle, view: View, model: str, found: Audited) -> None:
    """Groups of neurons that fire together, by their part of the effect, or why there are none."""
    layer = layer_beside(bundle, model, found)
    if not layer:
        return
    show("<h3 class='csp-h3' id='together'>Neurons that fire together</h3>")
    try:
        groups = firing(bundle, store.MEMO, model, layer, view.method, found)
    except LeftOutError:
        show(
            f"<p class='csp-quiet'>Which neurons of {plain(layer)} fire together is found in its "
            "activations, which this copy of the bundle leaves out. <code>csp cofiring</code> "
            "finds it in a whole copy.</p>"
        )
        return
    except InputError as error:
        show(f"<p class='csp-quiet'>{plain(str(error))}</p>")
        return
    show(f"<p class='csp-lead csp-left'>{plain(groups.sentence)}</p>")
    if not groups.groups:
        return
    show(firing_table(groups.groups[:N_GROUPS], groups, view))
    if len(groups.groups) > N_GROUPS:
        with st.expander(f"{numbers.count(len(groups.groups) - N_GROUPS)} more"):
            show(firing_table(groups.groups[N_GROUPS:], groups, view))
    swap = f"--swap '{layer}:{groups.groups[0].name}'"
    show(
        f"<p class='csp-quiet'>Groups come by what {term('attribution')} gives them, less what "
        f"works against it. <code>csp intervene {plain(swap)}</code> measures how much of the "
        "effect passes through one.</p>"
    )


def firing_table(groups: tuple[FiringGroup, ...], found: Firing, view: View) -> str:
    """Groups of what fires together, each with a few of its neurons."""
    head = ["neurons", "part of the effect", "rank correlation (95 %)", "for example"]
    head += ["truly respond to"] if any(each.truths for each in groups) else []
    rows = []
    for each in groups:
        members = "<br>".join(
            f"<a target='_self' href='{plain(page_url('neuron', view.params(**asdict(ref))))}'>"
            f"{ref.unit}</a> <span dir='auto'>{plain(label.title)}</span>"
            for ref, label in each.members
        )
        cells = [numbers.count(len(each.unit_k)), each.part, each.together.share]
        told = "".join(
            f"<td data-heading='{name}'>{plain(cell)}</td>"
            for name, cell in zip(head, cells, strict=False)
        )
        told += f"<td class='text' data-heading='for example'>{members}</td>"
        if len(head) > 4:
            told += f"<td class='text' data-heading='truly respond to'>{plain(each.answers)}</td>"
        here = view.params(model=found.model, unit="", hold=f"{found.layer}:{each.name}")
        hold = (
            f"<br><a class='csp-quiet' target='_self' href='{plain(page_url('audit', here))}'>hold "
            "still</a>"
        )
        rows.append(f"<tr><th scope='row'>{plain(each.name)}{hold}</th>{told}</tr>")
    columns = "".join(
        f"<th scope='col'{' class=text' if at > 2 else ''}>{name}</th>"
        for at, name in enumerate(head)
    )
    return (
        f"<table class='csp-table wide firing' style='--cells: {len(head)}'><caption>"
        f"{plain(found.layer)}: neurons named by {method(view.method)}</caption><thead><tr>"
        f"<th scope='col'>group</th>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def suspects(found: Audited, view: View) -> str:
    """The strongest carriers of the layer in which fewest carry the effect, each with its page."""
    assert found.scope is not None
    has_truth = any(each.truth for each in found.suspects)
    is_confirmed = any(each.confirmed.is_known for each in found.suspects)
    head = ["neuron", "part of the effect"]
    head += [CONFIRMED, MOVED] if is_confirmed else []
    head += ["label"]
    head += ["truly responds to"] if has_truth else []
    rows = "".join(suspect(each, view, has_truth, is_confirmed) for each in found.suspects)
    columns = "".join(
        f"<th scope='col'{' class=text' if name in ('label', 'truly responds to') else ''}>"
        f"{name}</th>"
        for name in head
    )
    caption = (
        f"{plain(found.scope.layer)}: the {len(found.suspects)} strongest carriers, named by "
        f"{method(view.method)}"
    )
    counted = Counter(each.truth for each in found.suspects if each.truth)
    told = ", ".join(
        f"{'nothing that is known' if name == 'none' else plain(name)} ({n})"
        for name, n in counted.most_common()
    )
    notes = [f"They truly respond to {told}."] if told else []
    if is_confirmed:
        notes.append(
            "One half of the photographs ranks them; on the other half are measured, each with its "
            f"own 95 % interval, the {term('attribution')} in log-odds and by how much the "
            "neuron's mean activation changes."
        )
    note = f"<p class='csp-quiet'>{' '.join(notes)}</p>" if notes else ""
    return (
        f"<table class='csp-table wide units' style='--cells: {len(head) - 1}'>"
        f"<caption>{caption}</caption><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>{note}"
    )


def suspect(each: Suspect, view: View, has_truth: bool, is_confirmed: bool) -> str:
    """One row."""
    address = page_url("neuron", view.params(**asdict(each.neuron)))
    truth = ""
    if has_truth:
        truth = f"<td class='text' data-heading='truly responds to'>{plain(each.truth)}</td>"
    quiet = "" if each.label.is_named else " csp-quiet"
    confirmed = ""
    if is_confirmed:
        confirmed = (
            f"<td data-heading='{CONFIRMED}'>{plain(each.confirmed.fine)}</td>"
            f"<td data-heading='{MOVED}'>{plain(each.moved.fine)}</td>"
        )
    return (
        f"<tr><th scope='row' data-heading='neuron'><a target='_self' href='{plain(address)}'>"
        f"{each.neuron.unit}</a></th>"
        f"<td data-heading='part of the effect'>{100 * each.share:.0f} %</td>{confirmed}"
        f"<td class='text{quiet}' data-heading='label' dir='auto'>{plain(each.label.title)}</td>"
        f"{truth}</tr>"
    )
