"""What carries the effect of one artefact: pairs to look at, swaps by layer, and the suspects."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.exports.html.site import slug
from csp_engine.views.address import View
from csp_engine.views.audit.driving import images_csv, images_of_carriers
from csp_engine.views.audit.interventions import (
    Audited,
    Suspect,
    carrier_sentence,
)
from pages.ui.parts import intervened
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.exporting import csv_button
from pages.ui.parts.words import method


def section(
    bundle: Bundle, view: View, model: str, stored: StoredIntervention, found: Audited
) -> None:
    """One artefact, from the photographs to the neurons."""
    output = stored.output
    show(f"<p class='csp-lead csp-left'>{plain(found.effect.sentence(output))}</p>")
    gate = found.effect.gate
    if gate is not None and not found.effect.is_withheld:
        told = gate.sentence(found.effect.effect)
        show(f"<p class='csp-quiet'>{plain(told)}</p>")
    show(intervened.pairs(bundle, model, stored, found.effect.artefact))
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


def suspects(found: Audited, view: View) -> str:
    """The strongest carriers of the layer in which fewest carry the effect, each with its page."""
    assert found.scope is not None
    has_truth = any(each.truth for each in found.suspects)
    head = ["neuron", "part of the effect", "label"]
    head += ["truly responds to"] if has_truth else []
    rows = "".join(suspect(each, view, has_truth) for each in found.suspects)
    columns = "".join(
        f"<th scope='col'{' class=text' if at > 1 else ''}>{name}</th>"
        for at, name in enumerate(head)
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
    note = f"<p class='csp-quiet'>They truly respond to {told}.</p>" if told else ""
    return (
        f"<table class='csp-table wide units' style='--cells: {len(head) - 1}'>"
        f"<caption>{caption}</caption><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>{note}"
    )


def suspect(each: Suspect, view: View, has_truth: bool) -> str:
    """One row."""
    address = page_url("neuron", view.params(**asdict(each.neuron)))
    truth = ""
    if has_truth:
        truth = f"<td class='text' data-heading='truly responds to'>{plain(each.truth)}</td>"
    quiet = "" if each.label.is_named else " csp-quiet"
    return (
        f"<tr><th scope='row' data-heading='neuron'><a target='_self' href='{plain(address)}'>"
        f"{each.neuron.unit}</a></th>"
        f"<td data-heading='part of the effect'>{100 * each.share:.0f} %</td>"
        f"<td class='text{quiet}' data-heading='label' dir='auto'>{plain(each.label.title)}</td>"
        f"{truth}</tr>"
    )
