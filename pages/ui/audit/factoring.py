"""Which factors of a layer push wrong decisions more than right ones, and what becomes without."""

from __future__ import annotations

import base64
from dataclasses import asdict

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredFactors
from csp_engine.views.address import View, pick
from csp_engine.views.audit.factors import (
    Factor,
    Factored,
    factored,
    figures,
    layers_factored,
)
from pages.ui.audit import running, seeking
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.words import method, term
from pages.ui.shell import problems
from pages.ui.shell.page import hold, set_params, uncut

NONE = (
    "Nobody has looked for factors of {0} yet that push its wrong decisions more than its right "
    "ones. <code>csp factors BUNDLE --layer NAME --images TABLE</code> does, on photographs whose "
    "class is known; nobody has to say what the bias is."
)


def section(bundle: Bundle, view: View, model: str) -> None:
    """The factors of one layer, or how to get some, and a way to look for others."""
    layers = layers_factored(bundle, model)
    left = seeking.fresh(bundle, model)
    if not layers and left is None and not seeking.layers_of(bundle, model):
        return
    show("<h2 class='csp-h' id='factors'>What pushes its wrong decisions</h2>")
    if left is not None:
        with st.container(key="sought"):
            found = figures(bundle, model, left.layer, left.stored, view.method)
            draw(found, left.stored, view)
            is_known = left.layer in layers
            running.keep_or_drop(seeking.KIND, bundle, model, are_known=is_known, keep=seeking.keep)
    elif layers:
        _kept(bundle, view, model, layers)
    else:
        show(f"<p class='csp-lead csp-left'>{NONE.format(plain(model))}</p>")
    seeking.form(bundle, model)


def _kept(bundle: Bundle, view: View, model: str, layers: tuple[str, ...]) -> None:
    """What the bundle holds of one layer."""
    layer, note = pick("layer", st.query_params.get("factors"), layers)
    problems.notes((note,) if note else ())
    if len(layers) > 1:
        hold("_factors", layer)
        st.segmented_control(
            "Layer",
            layers,
            key="_factors",
            on_change=uncut(lambda: set_params(factors=st.session_state["_factors"] or layers[0])),
        )
    found = factored(bundle, model, layer, view.method)
    stored = bundle.factors(model, layer)
    assert found is not None
    assert stored is not None
    draw(found, stored, view)


def draw(found: Factored, stored: StoredFactors, view: View) -> None:
    """The sentence, the decisions that the first factors push most, all factors."""
    show(f"<p class='csp-lead csp-left'>{plain(found.sentence)}</p>")
    for each in found.called:
        show(pictures(each, stored))
    with st.expander(f"All {numbers.count(len(found.factors))} factors of {found.layer}"):
        show(table(found, view))
    show(
        f"<p class='csp-quiet'>{plain(found.photographs)} Nobody said what to look for: "
        f"{term('push')} asks only which decisions are wrong. What a factor shows is for you to "
        "see in the photographs above or in its strongest neurons.</p>"
    )


def pictures(each: Factor, stored: StoredFactors) -> str:
    """The wrong decisions that a factor pushes most, and the neurons that it is made of."""
    if not each.pictures:
        return ""
    shots = stored.photographs
    cells = []
    for at in each.pictures:
        row = shots.iloc[int(stored.shown["row"].iloc[at])]
        content = base64.b64encode(stored.thumbs[at]).decode()
        told = f"{row['class']}, called {row['decided']}"
        cells.append(
            "<div class='pair turned' role='listitem'><figure class='other'>"
            f"<img alt='{plain(told)}' title='{plain(told)}' "
            f"src='data:image/webp;base64,{content}'><figcaption>called "
            f"{plain(row['decided'])}, is {plain(row['class'])}</figcaption></figure></div>"
        )
    return (
        f"<h3 class='csp-h3'>Factor {each.number} <span class='csp-quiet'>wrong decisions that it "
        f"pushes most</span></h3><div class='csp-pairs' role='list'>{''.join(cells)}</div>"
    )


def table(found: Factored, view: View) -> str:
    """All factors by rank."""
    head = ("wrong less right (95 %)", "wrong", "right", "put right", "spoilt", "share",
            "strongest neurons")  # fmt: skip
    body = []
    for each in found.factors:
        neurons = "<br>".join(
            f"<a target='_self' href='{plain(page_url('neuron', view.params(**asdict(ref))))}'>"
            f"{ref.unit}</a> <span dir='auto'>{plain(label.title)}</span>"
            for ref, label in each.neurons
        )
        turning = each.turning
        cells = [
            each.gap.signed,
            *(f"{push:+.2f}".replace("-", "−") for push in (each.wrong, each.right)),
            numbers.UNKNOWN if turning is None else numbers.count(turning.n_mended),
            numbers.UNKNOWN if turning is None else numbers.count(turning.n_spoilt),
            f"{each.share:.2f}",
        ]
        told = "".join(
            f"<td data-heading='{name}'>{plain(cell)}</td>"
            for name, cell in zip(head, cells, strict=False)
        )
        called = " <span class='csp-quiet'>called</span>" if each.is_called else ""
        body.append(
            f"<tr><th scope='row'>{each.number}{called}</th>{told}<td class='text' "
            f"data-heading='strongest neurons'>{neurons}</td></tr>"
        )
    columns = "".join(
        f"<th scope='col'{' class=text' if name == head[-1] else ''}>{name}</th>" for name in head
    )
    return (
        f"<table class='csp-table wide' style='--cells: {len(head)}'><caption>Pushes in logits; "
        f"neurons named by {method(view.method)}</caption><thead><tr><th scope='col'>factor</th>"
        f"{columns}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )
