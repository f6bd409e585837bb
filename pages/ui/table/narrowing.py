"""The controls that narrow a table of neurons; what they hold always comes from the URL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import (
    ALL_LAYERS,
    FIRST,
    MAX_QUERY,
    ONLY,
    REVIEWS,
    Narrowing,
    Range,
    View,
    where_text,
)
from csp_engine.views.places import concept_names, places, scoring_methods
from csp_engine.views.table import first
from csp_engine.views.table.columns import COLUMNS, RANGED
from csp_engine.views.table.families import families_of
from csp_engine.views.table.rows import classes_of, models_of
from pages.ui.parts.cards import markdown_text, plain, show
from pages.ui.parts.words import about_column, explained
from pages.ui.shell import problems
from pages.ui.shell import reviewer as reviews
from pages.ui.shell.page import hold, set_params, uncut

ONLY_TITLES = {
    "all": "All neurons",
    "reliable": "Reliable label",
    "unclear": "No reliable label",
    "unsaid": "No word fits",
    "disagree": "Methods disagree",
    "live": "Not dead",
    "dead": "Dead or constant",
    "dense": "Dense",
    "flagged": "Any flag (dead, dense …)",
}
REVIEW_TITLES = {
    "all": "Any",
    "reviewed": "Reviewed",
    "unreviewed": "Not reviewed",
    "disagree": "Reviewers disagree",
}


def folded(line: Any, bundle: Bundle, view: View, rows: pd.DataFrame, keep: Narrowing) -> None:
    """All controls, behind a switch that is on while one of them narrows anything.

    They are half of a page of cards: drawn only where somebody asks for them. ``line`` is the
    container that gets the switch.
    """
    is_set = any(keep.params().values())
    with line:
        is_open = st.toggle("Filters and order", value=is_set, key=f"filters_{is_set}")
    if is_open:
        sortable = [name for name in COLUMNS if name in rows]
        ranged = [name for name in RANGED if name in rows]
        controls(bundle, view, rows, keep, sortable, ranged, is_asked_elsewhere=True)


def controls(
    bundle: Bundle,
    view: View,
    rows: pd.DataFrame,
    keep: Narrowing,
    sortable: Sequence[str],
    ranged: Sequence[str],
    *,
    is_asked_elsewhere: bool = False,
) -> None:
    """Layer, method, label text, state, order and ranges, in one line that wraps.

    ``is_asked_elsewhere``: the page has boxes for concept column and model already.
    """
    with st.container(
        horizontal=True, vertical_alignment="bottom", gap="xsmall", key="strip_narrowing"
    ):
        layer_box(bundle, view)
        models = models_of(rows)
        if len(models) > 1 and not is_asked_elsewhere:
            _box(
                st.selectbox,
                "Model",
                "network",
                keep.network,
                width=115,
                options=["", *models],
                format_func=lambda name: name or "All models",
            )
        method_box(bundle, view)
        _box(
            st.text_input,
            "Label contains",
            "has",
            keep.has,
            width=105,
            type="search",
            placeholder="any",
            max_chars=MAX_QUERY,
        )
        _box(
            st.selectbox,
            "Show",
            "only",
            keep.only,
            width=130,
            options=ONLY,
            format_func=ONLY_TITLES.__getitem__,
        )
        if not is_asked_elsewhere:
            column_box(bundle, view)
        family_box(rows, keep)
        orders = [sign + name for name in sortable for sign in ("-", "")]
        orders = [*([""] if view.is_asking else []), FIRST, *orders]
        _box(
            st.selectbox,
            "Order",
            "sort",
            keep.sort,
            width=165,
            options=orders,
            format_func=lambda order: order_title(order, best_match(view), rows),
        )
        n_set = len(keep.where) + bool(keep.of) + (keep.review != REVIEWS[0])
        title = f"More ({n_set})" if n_set else "More"
        with st.popover(title, width=80, key="ranges"):
            classes = classes_of(rows)
            if classes:
                _box(
                    st.selectbox,
                    "Class",
                    "class",
                    keep.of,
                    options=["", *classes],
                    format_func=lambda name: name or "Any",
                    help=about_column(COLUMNS["class"]),
                )
            if "review" in rows or keep.review != REVIEWS[0]:
                _box(
                    st.selectbox,
                    "Review",
                    "review",
                    keep.review,
                    options=REVIEWS,
                    format_func=lambda name: REVIEW_TITLES.get(name, name.capitalize()),
                    help=about_column(COLUMNS["review"]),
                )
            for name in ranged:
                _range(rows[name], name, dict(keep.where))
        if any({**keep.params(), "sort": ""}.values()):
            nothing = dict.fromkeys(keep.params().keys() - {"sort"}, "")
            st.button(
                "Clear", type="tertiary", key="clear", on_click=uncut(lambda: set_params(**nothing))
            )
    trouble = reviews.trouble()
    if trouble:
        show(f"<p class='csp-quiet'>{plain(problems.told(trouble))}</p>")


def family_box(rows: pd.DataFrame, keep: Narrowing) -> None:
    """Neurons whose reliable labels mean the same, where there are any."""
    names = families_of(rows)
    if not names:
        return
    n_of = rows["family"].value_counts()
    _box(
        st.selectbox,
        "Family",
        "family",
        keep.family,
        width=125,
        options=["", *(name for name in names if n_of[name] or name == keep.family)],
        format_func=lambda name: f"{name} ({numbers.count(n_of[name])})" if name else "Any",
        help=about_column(COLUMNS["family"]),
    )


def best_match(view: View) -> str:
    """What comes first where something is asked for and nobody chose an order."""
    return "Best match first" if view.has_query else "Column AUROC, high to low"


def order_title(order: str, usual: str, rows: pd.DataFrame) -> str:
    """An order in words; ``usual`` for none."""
    if not order:
        return usual
    if order == FIRST:
        return first.title(rows)
    if order.removeprefix("-") == "layer":
        return "Layer and unit" if order == "layer" else "Layer, last first"
    column = COLUMNS[order.removeprefix("-")]
    if column.kind == "text":
        return f"{column.title}, {'Z to A' if order.startswith('-') else 'A to Z'}"
    if column.kind == "flag":
        return f"{column.title} {'first' if order.startswith('-') else 'last'}"
    return f"{column.title}, {'high to low' if order.startswith('-') else 'low to high'}"


def layer_box(bundle: Bundle, view: View) -> None:
    """One layer, or all."""
    every = places(bundle)
    is_only = len(bundle.model_names) == 1
    titles = {ALL_LAYERS: "All layers"} | {
        f"{at}": layer if is_only else f"{model} / {layer}"
        for at, (model, layer) in enumerate(every)
    }
    here = ALL_LAYERS if view.is_all_layers else str(every.index((view.model, view.layer)))
    hold("_place", here)

    def chosen() -> None:
        value = st.session_state["_place"]
        model, layer = ("", "") if value == ALL_LAYERS else every[int(value)]
        set_params(bundle=view.bundle, model=model, layer=layer, unit="")

    st.selectbox(
        "Layer",
        list(titles),
        format_func=titles.__getitem__,
        key="_place",
        on_change=uncut(chosen),
        width=115 if view.is_all_layers else 170,
    )


def model_pills(bundle: Bundle) -> None:
    """One target model or all, by one click."""
    models = list(bundle.model_names)
    if len(models) < 2:
        return
    asked = st.query_params.get("network", "")
    hold("_models", asked if asked in models else "")
    st.segmented_control(
        "Models",
        ["", *models],
        format_func=lambda name: markdown_text(name) if name else "All models",
        key="_models",
        required=True,
        label_visibility="collapsed",
        on_change=uncut(lambda: set_params(network=st.session_state["_models"], page="")),
    )


def column_box(bundle: Bundle, view: View) -> None:
    """The concept column that neurons are compared with, where the probe set has any."""
    names = concept_names(bundle)
    if names:
        _box(
            st.selectbox,
            "Concept column",
            "column",
            view.column,
            width=127,
            options=["", *names],
            format_func=lambda name: name or "Best of each",
            help=explained("concept column"),
        )


def method_box(bundle: Bundle, view: View, width: int = 115) -> None:
    """The label method; it is wider where its name stands beside it."""
    methods = scoring_methods(bundle)
    if methods:
        _box(
            st.selectbox,
            "Method",
            "method",
            view.method,
            width=width,
            options=methods,
            format_func=method_title,
        )


def _box(widget: Any, label: str, name: str, value: str, **looks: Any) -> None:
    """A widget that shows a URL parameter and changes it."""
    hold(f"_{name}", value)

    def changed() -> None:
        held = st.session_state[f"_{name}"] or ""
        set_params(**{name: held})

    widget(label, key=f"_{name}", on_change=uncut(changed), **looks)


def _range(values: pd.Series, name: str, where: dict[str, Range]) -> None:
    """A slider over the values that occur; an end that it touches is open."""
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low) or low == high:
        return
    low, high = math.floor(low * 100) / 100, math.ceil(high * 100) / 100
    asked = where.get(name, (None, None))
    held = [
        end if value is None else min(max(value, low), high)
        for value, end in zip(asked, (low, high), strict=True)
    ]
    hold(f"_where_{name}", tuple(sorted(held)))

    def changed() -> None:
        start, stop = st.session_state[f"_where_{name}"]
        ends = (start if start > low else None, stop if stop < high else None)
        others = [(key, ends) for key, ends in where.items() if key != name]
        mine = [] if ends == (None, None) else [(name, ends)]
        set_params(where=where_text(others + mine))

    column = COLUMNS[name]
    st.slider(
        column.title,
        low,
        high,
        step=0.01,
        key=f"_where_{name}",
        on_change=uncut(changed),
        help=about_column(column),
    )
