"""What carries the effect of one artefact: pairs to look at, swaps by layer, and the suspects."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.pasting.pairs import VERSIONS
from csp_engine.views.address import View
from csp_engine.views.audit.interventions import (
    Audited,
    Carried,
    Suspect,
    carrier_sentence,
    pictures,
)
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.words import method, term

ABOVE = {"without": "without", "neutral": "neutral paste", "with": "with"}


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
    show(pairs(bundle, model, stored, found.effect.artefact))
    show(
        "<h2 class='csp-h'>Which neurons carry it</h2><p class='csp-lead csp-left'>"
        f"{plain(carrier_sentence(found, output))}</p>"
    )
    if found.layers:
        show(swaps(found.layers))
    if found.suspects:
        show(suspects(found, view))


def pairs(bundle: Bundle, model: str, stored: StoredIntervention, artefact: str) -> str:
    """Photographs with and without an artefact, as HTML; empty where no pictures are kept."""
    found = pictures(stored, artefact)
    if not found:
        return ""
    shown = "".join(pair(bundle, model, each, stored.output) for each in found)
    return (
        f"<div class='csp-pairs' role='list'>{shown}</div><p class='csp-quiet'>Pairs at equal "
        "steps from the lowest effect to the highest, so none is picked by hand. An amber "
        f"frame: the network does not call it {plain(stored.output)}.</p>"
    )


def pair(bundle: Bundle, model: str, row: Mapping[str, Any], output: str) -> str:
    """The versions of one photograph, each with the decision, and the effect below."""
    cells = []
    for version in VERSIONS:
        if version not in row["picture"]:
            continue
        content = base64.b64encode(bundle.shown_pair(model, row["picture"][version])).decode()
        is_called = row["called"][version]
        told = f"{ABOVE[version]}: {'' if is_called else 'not '}called {output}"
        cells.append(
            f"<figure class='{'called' if is_called else 'other'}'><img alt='{plain(told)}' "
            f"title='{plain(told)}' src='data:image/webp;base64,{content}'>"
            f"<figcaption>{ABOVE[version]}</figcaption></figure>"
        )
    effect = f"{row['effect']:+.2f}".replace("-", "−")
    return f"<div class='pair' role='listitem'><div>{''.join(cells)}</div><p>{effect}</p></div>"


def swaps(layers: tuple[Carried, ...]) -> str:
    """By layer, the share of the effect that leaves with sets of neurons, as a table."""
    sizes = sorted({s.n_units for each in layers for s in each.strongest})
    head = "".join(f"<th scope='col'>{size}</th>" for size in sizes)
    body = []
    for each in layers:
        of = {s.n_units: s for s in each.strongest}
        cells = [
            f"<td>{of[size].necessity.value:.2f}</td>".replace("-", "−")
            if size in of
            else f"<td>{numbers.UNKNOWN}</td>"
            for size in sizes
        ]
        random = numbers.UNKNOWN if each.random_most is None else f"{each.random_most:.2f}"
        along = numbers.UNKNOWN if each.direction is None else each.direction.necessity.share
        cells += [f"<td>{plain(random.replace('-', '−'))}</td>", f"<td>{plain(along)}</td>"]
        body.append(
            f"<tr><th scope='row'>{plain(each.layer)} <span class='csp-quiet'>of "
            f"{numbers.count(each.n_units)}</span></th>{''.join(cells)}</tr>"
        )
    n_random = max(each.n_random for each in layers)
    size = max(each.random_size for each in layers)
    caption = (
        "Share of the effect that is gone when the activations of that many strongest carriers "
        "come from the other version"
    )
    note = (
        f"Carriers are ranked by {term('attribution')} on one half of the photographs and swapped "
        "on the other. A share above 1 means that what is left works the other way. Random: the "
        f"most that any of {n_random} sets of other neurons, as active and as influential, removes."
    )
    return (
        f"<table class='csp-table' style='--cells: {len(sizes) + 2}'><caption>{caption}</caption>"
        f"<thead><tr><th scope='col'>layer</th>{head}<th scope='col'>random {size}</th>"
        f"<th scope='col'>one direction</th></tr></thead><tbody>{''.join(body)}</tbody></table>"
        f"<p class='csp-quiet'>{note}</p>"
    )


def suspects(found: Audited, view: View) -> str:
    """The strongest carriers of the layer in which fewest carry the effect, each with its page."""
    assert found.scope is not None
    has_truth = any(each.truth for each in found.suspects)
    head = ["neuron", "part of the effect", "label"]
    head += ["truly responds to"] if has_truth else []
    rows = "".join(suspect(each, view, has_truth) for each in found.suspects)
    columns = "".join(f"<th scope='col'>{name}</th>" for name in head)
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
        f"<table class='csp-table' style='--cells: {len(head) - 1}'><caption>{caption}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>{note}"
    )


def suspect(each: Suspect, view: View, has_truth: bool) -> str:
    """One row."""
    address = page_url("neuron", view.params(**asdict(each.neuron)))
    truth = f"<td>{plain(each.truth)}</td>" if has_truth else ""
    quiet = "" if each.label.is_named else " class='csp-quiet'"
    return (
        f"<tr><th scope='row'><a target='_self' href='{plain(address)}'>{each.neuron.unit}</a></th>"
        f"<td>{100 * each.share:.0f} %</td><td{quiet} dir='auto'>{plain(each.label.title)}</td>"
        f"{truth}</tr>"
    )
