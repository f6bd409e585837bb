"""Which neurons excite for an artefact by what the images say of themselves, and which do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.exports.html.site import slug
from csp_engine.views.address import View, pick
from csp_engine.views.audit.associations import (
    Linked,
    Looked,
    Sought,
    all_suspects,
    area,
    columns_with,
    layers_with,
    look,
    rests_on,
    sought_in,
    usual_column,
    usual_layer,
)
from csp_engine.views.audit.driving import images_csv, images_of_associated
from pages.ui.audit import concept_set
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.exporting import csv_button
from pages.ui.parts.words import method, term
from pages.ui.shell import problems, store
from pages.ui.shell.page import hold, set_params, uncut

N_SHOWN = 10
"""Suspects that stand on the page; the others follow folded."""
NONE = (
    "The images of this bundle have no columns of 0 and 1, so what neurons go with was not "
    "measured. Build with a table that has one for each artefact, such as ruler or patch."
)


def section(bundle: Bundle, view: View, model: str, artefact: str = "") -> None:
    """Suspects of one column in one layer, what else could be why, and what was not found."""
    show("<h2 class='csp-h' id='association'>Which neurons respond to it in the probe images</h2>")
    layers = layers_with(bundle, model)
    concepts = concept_set.chosen()
    known = columns_with(bundle, model, concepts)
    if not layers or not known:
        st.text(NONE)
        return
    concept_set.form(bundle, model)
    usual = usual_column(bundle, model, concepts, artefact)
    column, note = pick("concept column", view.column or usual, known)
    usual_place = usual_layer(bundle, model, column, view.method)
    asked = "" if view.is_all_layers else view.layer
    layer, other = pick("layer", asked if asked in layers else usual_place, layers)
    problems.notes(tuple(filter(None, (note, other))))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _box("Concept", "column", column, known)
        _box("Layer", "layer", layer, layers)
    found = look(bundle, store.MEMO, model, layer, column, view.method, concepts)
    assert found is not None
    show(f"<p class='csp-lead csp-left'>{plain(found.sentence())}</p>")
    if found.truth is not None:
        show(f"<p>{plain(found.truth.sentence())}</p>")
    if found.suspects:
        seen = all_suspects(bundle, model, concepts)
        show(f"<p>{plain(f'{seen} {rests_on(bundle, model, column)}'.strip())}</p>")
    if found.sought.is_tried:
        show(f"<p class='csp-quiet'>{plain(found.confounding())}</p>")
    if found.suspects:
        show(suspects(found, view, found.suspects[:N_SHOWN]))
        rest = found.suspects[N_SHOWN:]
        if rest:
            with st.expander(f"{numbers.count(len(rest))} further suspects"):
                show(suspects(found, view, rest))
        csv_button(
            "the images that drive them",
            lambda: images_csv(
                images_of_associated(
                    bundle, store.MEMO, model, (layer,), view.method, concepts, column
                )
            ),
            file_name=f"{slug(bundle.name)}-{slug(column)}-images.csv",
            key="association-images",
        )
    show(f"<p class='csp-quiet'>{about(found)}</p>")
    with st.expander(f"What was looked for in {layer}, and what would have been found"):
        show(looked_for(sought_in(bundle, model, layer, concepts), layer))


def suspects(found: Looked, view: View, shown: Sequence[Linked]) -> str:
    """The suspects, those that go with the column best first, each with its page."""
    has_truth = found.truth is not None
    has_within = any(each.within.is_known for each in shown)
    head = ["neuron", "AUROC (95 % interval)", "difference", "q"]
    head += ["within"] if has_within else []
    head += ["label", "also"]
    head += ["truly responds to"] if has_truth else []
    body = []
    for each in shown:
        address = page_url("neuron", view.params(**asdict(each.neuron)))
        cells = [
            f"<td data-heading='AUROC'>{plain(each.auroc.words)}</td>",
            f"<td data-heading='difference'>{plain(numbers.signed(each.difference))} SD</td>",
            f"<td data-heading='q'>{plain(numbers.chance(each.q_suspect))}</td>",
        ]
        if has_within:
            cells.append(f"<td data-heading='within'>{plain(each.within.words)}</td>")
        quiet = "" if each.label.is_named else " csp-quiet"
        more = f"{each.more} {area(each.more_auroc)}" if each.more else numbers.UNKNOWN
        cells.append(
            f"<td class='text{quiet}' data-heading='label' dir='auto'>"
            f"{plain(each.label.title)}</td>"
        )
        cells.append(f"<td class='text' data-heading='also'>{plain(more)}</td>")
        if has_truth:
            cells.append(
                f"<td class='text' data-heading='truly responds to'>{plain(each.truth)}</td>"
            )
        body.append(
            f"<tr><th scope='row' data-heading='neuron'><a target='_self' href='{plain(address)}'>"
            f"{each.neuron.unit}</a></th>{''.join(cells)}</tr>"
        )
    caption = f"{plain(found.layer)}: suspects of {plain(found.sought.name)}, named by "
    columns = "".join(f"<th scope='col'{_text(name)}>{name}</th>" for name in head)
    return (
        f"<table class='csp-table wide units' style='--cells: {len(head) - 1}'><caption>{caption}"
        f"{method(view.method)}</caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _text(name: str) -> str:
    return " class='text'" if name in ("label", "also", "truly responds to") else ""


def about(found: Looked) -> str:
    """What the figures are, and what they are not."""
    sought, rule = found.sought, found.rule
    groups = ""
    if sought.n_with != sought.n_positive:
        groups = f", in {numbers.count(sought.n_with)} groups that are drawn and exchanged whole"
    q = area(float(rule["q"]))
    return (
        f"{numbers.count(sought.n_positive)} of {numbers.count(sought.n_images)} probe images show "
        f"{plain(sought.name)}{groups}. {term('AUROC')}: the chance that one of them excites the "
        f"neuron more than another image. q: of all neurons called at {q}, no more than that share "
        f"is expected to lie below the bar in truth; {numbers.count(found.n_tests)} pairs of "
        f"neuron and column were compared. {numbers.count(sought.n_associated)} neurons of this "
        "layer go with it at all, strongly or weakly (family-wise at 5 %). Association says what "
        "excites a neuron, not that a decision rests on it."
    )


def looked_for(rows: Sequence[Sought], layer: str) -> str:
    """Every column, those that should not matter first."""
    head = ("images", "suspects", "best AUROC (95 %)", "least found")
    body = []
    for each in rows:
        found = numbers.count(each.n_suspects) if each.is_tried else "too few images"
        cells = (
            numbers.count(each.n_positive),
            found,
            each.best.words,
            area(each.least) if each.is_findable else "none",
        )
        told = "".join(
            f"<td data-heading='{name}'>{plain(cell)}</td>"
            for name, cell in zip(head, cells, strict=True)
        )
        kind = "class" if each.kind == "class" else each.tag
        body.append(
            f"<tr><th scope='row'><bdi>{plain(each.name)}</bdi> "
            f"<span class='csp-quiet'>{kind}</span></th>{told}</tr>"
        )
    columns = "".join(f"<th scope='col'>{name}</th>" for name in ("column", *head))
    return (
        f"<table class='csp-table' style='--cells: {len(head)}'><caption>{plain(layer)}: least "
        "found is the smallest AUROC that would have been called with a chance of 80 %</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _box(title: str, name: str, value: str, options: tuple[str, ...]) -> None:
    """A choice that the address holds."""
    hold(f"_association_{name}", value)
    st.selectbox(
        title,
        options,
        key=f"_association_{name}",
        width=220,
        on_change=uncut(lambda: set_params(**{name: st.session_state[f"_association_{name}"]})),
    )
