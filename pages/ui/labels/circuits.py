"""Which neurons an output rests on, layer by layer, and which of them feed which."""

from __future__ import annotations

import math

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import View, pick
from csp_engine.views.neuron.circuit import Circuit, Node, circuit, outputs_of
from csp_engine.views.places import scoring_methods
from pages.ui.parts import words
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import problems
from pages.ui.shell.page import hold, set_params, uncut

WIDTH, GAP, BOX, HEIGHT = 190, 90, 72, 84
"""Pixels: width of a neuron's box, from column to column, height of a box, and with the space."""


def section(bundle: Bundle, view: View) -> None:
    """The circuit of the chosen output; nothing where the bundle holds none."""
    outputs = outputs_of(bundle, view.model)
    if not outputs:
        return
    output, note = pick("output", st.query_params.get("output"), outputs)
    problems.notes((note,) if note else ())
    found = circuit(bundle, view.model, output, view.method)
    if found is None:
        return
    show(f"<h2 class='csp-h'>What an output rests on: {term('circuit')}</h2>")
    if len(outputs) > 1:
        output_box(output, outputs)
    show(f"<p class='csp-quiet'>{how(bundle, view, found)}</p>{drawn(found, view)}")


def output_box(output: str, outputs: tuple[str, ...]) -> None:
    """Which output."""
    hold("_output", output)
    st.selectbox(
        "Output",
        outputs,
        key="_output",
        width=260,
        on_change=uncut(lambda: set_params(output=st.session_state["_output"])),
    )


def how(bundle: Bundle, view: View, found: Circuit) -> str:
    """What is drawn, in words."""
    n_most = max(len(places) for _, places in found.layers)
    told = (
        f"The {numbers.count(n_most)} neurons of each layer of {plain(view.model)} that drive "
        f"<b>{plain(found.output)}</b> most, by {term('gradient × activation')}. The bar is the "
        "effect on the output beside the largest of the layer. A line is the effect of one neuron "
        "on the activation of another, a mean over "
        f"{plain(found.images)}; amber is negative. "
        f"Named by {words.method(view.method)}."
    )
    others = [each for each in scoring_methods(bundle) if each == "invert" != view.method]
    if others:
        address = page_url("labels", view.params(unit="", method="invert", output=found.output))
        told += f" <a target='_self' href='{plain(address)}'>Show INVERT's formulas instead</a>."
    return told


def drawn(found: Circuit, view: View) -> str:
    """Columns of neurons from the first layer to the output, with lines between them."""
    columns = list(reversed(found.layers))
    n_most = max(len(places) for _, places in columns)
    high = n_most * HEIGHT
    middle = {
        node: (at * (WIDTH + GAP), (row + (n_most - len(places)) / 2 + 0.5) * HEIGHT)
        for at, (_, places) in enumerate(columns)
        for row, node in enumerate(places)
    }
    end = (len(columns) * (WIDTH + GAP), high / 2)
    lines = [
        line(middle[fed.node], middle[at], fed.share)
        for at, node in enumerate(found.nodes)
        for fed in node.fed_by
    ]
    lines += [
        line(middle[node], end, found.nodes[node].share)
        for layer, places in columns
        if layer in found.last_layers
        for node in places
    ]
    heads = "".join(
        f"<span class='head' style='left:{at * (WIDTH + GAP)}px;width:{WIDTH}px'>{plain(name)}"
        "</span>"
        for at, name in enumerate([*(layer for layer, _ in columns), "output"])
    )
    boxes = "".join(
        box(found, found.nodes[node], view, left, top) for node, (left, top) in middle.items()
    )
    boxes += (
        f"<span class='node' style='left:{end[0]}px;top:{end[1] - BOX / 2:.0f}px;width:{WIDTH}px'>"
        f"<b>{plain(found.output)}</b></span>"
    )
    wide = end[0] + WIDTH
    return (
        f"<div class='csp-circuit' tabindex='0' role='group' aria-label='Circuit of "
        f"{plain(found.output)}'><div style='width:{wide}px;height:{high}px'>"
        f"{''.join(lines)}{heads}{boxes}</div></div>"
    )


def line(start: tuple[float, float], end: tuple[float, float], share: float) -> str:
    """A line from the right of one box to the left of another: st.html takes no SVG."""
    x, y, dx, dy = start[0] + WIDTH, start[1], end[0] - start[0] - WIDTH, end[1] - start[1]
    side = " down" if share < 0 else ""
    return (
        f"<i class='edge{side}' style='left:{x}px;top:{y:.1f}px;width:{math.hypot(dx, dy):.1f}px;"
        f"height:{0.5 + 3.5 * abs(share):.1f}px;opacity:{0.12 + 0.6 * abs(share):.2f};"
        f"transform:rotate({math.atan2(dy, dx):.4f}rad)'></i>"
    )


def box(found: Circuit, node: Node, view: View, left: float, top: float) -> str:
    """A neuron: its name, its effect on the output, what feeds it, and the way to its page."""
    params = view.params(model=node.neuron.model, layer=node.neuron.layer, unit=node.neuron.unit)
    fed = "; ".join(
        f"{each.name} {found.nodes[each.node].label.title} {each.effect_text}"
        for each in node.fed_by
    )
    title = f"{node.neuron.layer} / {node.neuron.unit}: {node.label.title}, {node.effect_text}"
    title += f". Fed by {fed}" if fed else ""
    quiet = "" if node.label.is_named else " quiet"
    side = " down" if node.share < 0 else ""
    return (
        f"<a class='node{quiet}' target='_self' href='{plain(page_url('neuron', params))}' "
        f"title='{plain(title)}' style='left:{left}px;top:{top - BOX / 2:.0f}px;width:{WIDTH}px'>"
        f"<span class='name' dir='auto'>{plain(node.label.title)}</span>"
        f"<span class='csp-quiet'>{node.neuron.unit} · {plain(node.effect_text)}</span>"
        f"<span class='bar{side}' style='width:{100 * abs(node.share):.1f}%'></span></a>"
    )
