"""From neuron to neuron: which layer, which unit, and the list that previous and next walk."""

from __future__ import annotations

import random
from typing import Any

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.reviews import VERDICTS
from csp_engine.views import lists
from csp_engine.views.address import FIRST, VERSION, Narrowing, View
from csp_engine.views.finding.query import title_of
from csp_engine.views.lists import Queue
from csp_engine.views.places import places
from pages.ui.neuron import ahead, verdict
from pages.ui.parts.cards import asset, plain, show
from pages.ui.shell import access, problems, reviewer, store
from pages.ui.shell.page import hold, link, set_params, uncut

LETTERS = (("j", "next", "next"), ("k", "previous", "previous"), ("r", "random", "random"))
"""Keys beside the arrows: the letter, its word, and the button that it presses."""
DIGITS = [{"key": str(at + 1), "button": "verdict", "at": at} for at in range(len(VERDICTS))]
_KEYS = st.components.v2.component(
    "csp_keys",
    html=(
        "<div class='keys' role='group' aria-label='Keys'><span class='words'></span>"
        "<button type='button' title='Turn letter keys on or off'></button>"
        "</div><p class='said' role='status'></p>"
    ),
    css=asset("keys.css"),
    js="".join(map(asset, ("navigate.js", "packs.js", "tile_items.js", "walk.js", "keys.js"))),
)


def steps(bundle: Bundle, view: View) -> None:
    """Layer, unit, and steps through the list that the URL names."""
    queue, trouble = listed(bundle, view)
    every = places(bundle)
    n_units = bundle.n_units(view.model, view.layer)
    # Of this neuron alone, and asking for another: what a browser still holds of the last one, or
    # sends again, would lead back to it.
    place_key, unit_key = f"_place {view.model}/{view.layer}", f"_unit {view.neuron}"
    hold(place_key, (view.model, view.layer))
    hold(unit_key, view.unit)

    def to(place: dict[str, str | int] | None) -> None:
        if place is not None:
            set_params(bundle=view.bundle, **place)

    def chosen() -> None:
        model, layer = st.session_state[place_key]
        if (model, layer) != (view.model, view.layer):
            to({"model": model, "layer": layer, "unit": 0})

    def typed() -> None:
        unit = min(max(int(st.session_state[unit_key]), 0), n_units - 1)
        if unit != view.unit:
            to({"model": view.model, "layer": view.layer, "unit": unit})

    def anywhere() -> None:
        others = [at for at in range(len(queue.rows)) if at != queue.at]
        to(queue.neuron(random.choice(others)) if others else None)

    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="steps"):
        is_only = len(bundle.model_names) == 1
        st.selectbox(
            "Layer",
            every,
            format_func=lambda place: place[1] if is_only else f"{place[0]} / {place[1]}",
            key=place_key,
            on_change=uncut(chosen),
            label_visibility="collapsed",
            width=205,
        )
        with st.container(key="unit", width=120):
            st.number_input(
                "Unit",
                0,
                n_units - 1,
                key=unit_key,
                step=1,
                on_change=uncut(typed),
                label_visibility="collapsed",
            )
        st.button(
            "Previous", on_click=uncut(lambda: to(queue.step(-1))), shortcut="Left", key="previous"
        )
        st.button("Next", on_click=uncut(lambda: to(queue.step(1))), shortcut="Right", key="next")
        st.button("Random", on_click=uncut(anywhere), key="random")
        if not verdict.is_blind():
            like = view.params(like=f"{view.model}/{view.layer}/{view.unit}", **EMPTY)
            link("search", "Find neurons like it", like)
        hold("_blind", verdict.is_blind())
        st.toggle(
            "Blind",
            key="_blind",
            help="Labels, scores and what others said are not shown: judge by the images alone.",
            on_change=uncut(lambda: set_params(blind="yes" if st.session_state["_blind"] else "")),
        )
    keys = [{"key": key, "button": button, "at": 0} for key, _, button in LETTERS]
    words = [{"cap": key.upper(), "name": name} for key, name, _ in LETTERS]
    if verdict.can_record():
        keys += DIGITS
        words.append({"cap": f"1–{len(DIGITS)}", "name": "verdict"})
    with st.container(key="keys"):  # a line of its own, whose height is known before it is drawn
        walk = walked(bundle, view, queue)
        _KEYS(key="letters", data={"keys": keys, "words": words, "walk": walk})
    if trouble is not None:
        problems.failure(trouble)
        show("<p class='csp-quiet'>Previous and next go through the layer meanwhile.</p>")
    elif st.query_params.get("queue") in TITLES:
        in_queue(view, queue)
    elif not queue.is_layer:
        where(view, queue)


def listed(bundle: Bundle, view: View) -> tuple[Queue, CspError | None]:
    """The list that the URL names; where it cannot be made, the layer, and why."""
    try:
        query = store.query_of(bundle, view)
        review = reviewer.column(bundle, access.reviewer() if of_suspects() else "")
        return lists.queue_of(bundle, store.MEMO, view, st.query_params, query, review), None
    except CspError as error:
        return lists.layer_queue(bundle, view), error


N_KNOWN = 40
"""Neurons of a list, each way, to which a browser may step before it asks again."""


def walked(bundle: Bundle, view: View, queue: Queue) -> dict[str, Any]:
    """What a browser needs to show neighbours ahead of their pages, see ``walk.js``."""
    found: dict[str, Any] = {
        "of": str(view.neuron),
        "address": st.query_params.to_dict(),
        "bundle": view.bundle,
        "version": VERSION,
        "route": ahead.address(view.bundle, bundle),
        "list": None,
    }
    if not ahead.can_walk(view) or queue.rows.empty:
        return found
    if queue.is_layer:
        n = len(queue.rows)
        found["list"] = {"model": view.model, "layer": view.layer, "n": n, "at": view.unit}
        return found
    steps = range(1, N_KNOWN + 1)
    found["list"] = {
        "after": [_names(queue.step(by)) for by in steps],
        "before": [_names(queue.step(-by)) for by in steps],
    }
    return found


def _names(place: dict[str, str | int] | None) -> list[str | int]:
    return list((place or {}).values())


TITLES = {
    "suspects": "the queue of suspects that you have not judged",
    "disputed": "the queue of neurons on which reviewers differ",
}


def of_suspects() -> bool:
    """Whether previous and next step through what this reviewer has not judged."""
    return st.query_params.get("queue") == "suspects"


def in_queue(view: View, queue: Queue) -> None:
    """The place in a queue of judgement, and the ways back and out."""
    n = numbers.count(len(queue.rows))
    at = f"{n} left in" if queue.at is None else f"{numbers.count(queue.at + 1)} of {n} in"
    title = TITLES[st.query_params["queue"]]
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="list"):
        show(f"<p class='csp-quiet csp-list'>{at} {title}</p>")
        kept = {"blind": "yes"} if verdict.is_blind() else {}
        kept |= {"concepts": asked} if (asked := st.query_params.get("concepts")) else {}
        link("audit", "Back to the audit", {**view.params(unit="", layer=""), **kept})
        st.button("Leave the queue", key="leave", on_click=uncut(lambda: set_params(queue="")))


QUERY = ("q", "not", "image", "vec", "column")
EMPTY = {key: "" for key in ("model", "layer", "unit", *QUERY, "scope", "k")}


def where(view: View, queue: Queue) -> None:
    """Which list it is, the place in it, and the ways back and out."""
    names = []
    if view.has_query:
        names.append(f"the search for {title_of(view)}")
    elif view.column:
        names.append(f"the search by the concept column {view.column}")
    held = {key: st.query_params.get(key, "") for key in Narrowing().params()}
    if [key for key, value in held.items() if value] == ["sort"] and held["sort"] == FIRST:
        names.append("the table, likely labels first")
    elif any(held.values()):
        names.append(
            "these filters and this order" if names else "a table with filters or an order"
        )
    n = numbers.count(len(queue.rows))
    at = "not in" if queue.at is None else f"{numbers.count(queue.at + 1)} of {n} in"
    scope = {"model": "", "layer": ""} if view.scope != "layer" else {}
    back = {**view.params(unit="", scope="", show="", k="", **scope)}
    back |= {key: value for key, value in held.items() if value}
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="list"):
        show(f"<p class='csp-quiet csp-list'>{at} {plain(' with '.join(names))}</p>")
        link("search" if view.is_asking else "layer", "Back to the list", back)
        out = {key: "" for key in (*EMPTY, "like", *held) if key not in ("model", "layer", "unit")}
        st.button("Leave the list", key="leave", on_click=uncut(lambda: set_params(**out)))
