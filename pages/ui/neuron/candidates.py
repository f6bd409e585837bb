"""Candidate labels of a neuron: every method's best, then one method's list, with gamma to move."""

from __future__ import annotations

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import View, pick_share
from pages.ui.neuron import why
from pages.ui.parts import charts
from pages.ui.parts.cards import badge, bar_table, plain, show
from pages.ui.parts.words import explained, term
from pages.ui.shell.page import set_params
from pages.ui.views import candidates as relabel
from pages.ui.views import neuron as neurons
from pages.ui.views.candidates import Candidates


def section(bundle: Bundle, view: View) -> None:
    """Draw the section."""
    methods = bundle.methods(view.model, view.layer)
    if not methods:
        return
    is_one = len(methods) == 1
    every = "" if is_one else by_method([relabel.stored(bundle, view, name) for name in methods])
    show(f"<div class='csp-stack'><h2 class='csp-h'>Candidate labels</h2>{every}</div>")
    st.session_state["_method"] = view.method
    st.segmented_control(
        "Method",
        methods,
        format_func=neurons.method_title,
        key="_method",
        required=True,
        label_visibility="collapsed",
        on_change=lambda: set_params(method=st.session_state["_method"]),
    )
    built = relabel.built_gamma(bundle, view, view.method)
    if built is None:
        listed(relabel.stored(bundle, view, view.method))
    else:
        moving(bundle, view, built)


def by_method(found: list[Candidates]) -> str:
    """What each method would call the neuron, as HTML."""
    rows = []
    for each in found:
        title = f"<th scope='row'>{plain(neurons.method_title(each.method))}</th>"
        if not each.rows:
            rows.append(f"<tr class='quiet'>{title}<td class='text'>no label</td>{'<td></td>' * 3}")
            continue
        best = each.rows[0]
        kind, word = ("good", "reliable") if each.is_reliable else ("", "not reliable")
        above = "–"
        if each.best_percentile is not None:
            above = numbers.percentile(each.best_percentile, each.n_draws)
        rows.append(
            f"<tr{'' if each.is_reliable else ' class=quiet'}>{title}"
            f"<td class='text'><span dir='auto'>{plain(best.text)}</span> {badge(word, kind)}</td>"
            f"<td>{numbers.score(best.score)}</td><td>{numbers.score(best.margin)}</td>"
            f"<td>{above}</td></tr>"
        )
    head = (
        f"<th scope='col'>{term('method')}</th><th scope='col' class='text'>best label</th>"
        f"<th scope='col'>{term('score')}</th><th scope='col'>{term('margin')}</th>"
        f"<th scope='col'>{term('null', 'above null')}</th>"
    )
    return (
        "<table class='csp-table methods' style='--cells: 3'><caption>As built. Scores of "
        f"different methods are not on one scale.</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


@st.fragment
def moving(bundle: Bundle, view: View, built: float) -> None:
    """The labels at the gamma of the slider; only this part of the page runs again."""
    # The URL, not the view: a fragment keeps the view of the last run of the whole page.
    gamma, _ = pick_share("γ", st.query_params.get("gamma"), built)
    st.session_state["_gamma"] = gamma
    st.slider(
        f"γ (built with {built:g})",
        0.0,
        1.0,
        step=relabel.STEP,
        key="_gamma",
        format="%.2f",
        help=explained("gamma", "contrast image"),
        on_change=lambda: set_params(
            gamma=""
            if st.session_state["_gamma"] == built
            else f"{st.session_state['_gamma']:.2f}".rstrip("0").rstrip(".")
        ),
    )
    found = relabel.at_gamma(bundle, view, view.method, gamma)
    listed(found)
    if found.rows:
        texts = [row.text for row in found.rows[: relabel.N_PATHS]]
        paths = relabel.paths(bundle, view, view.method, texts)
        charts.gamma_paths(*paths, texts, gamma, key="paths")
        why.section(bundle, view, [row.text for row in found.rows], gamma)


def listed(found: Candidates) -> None:
    """One method's labels, with what contrast images did to each."""
    if not found.rows:
        st.text("No label: there is nothing to score, or nothing left of it.")
        return
    has_moved = found.rows[0].raw_place is not None
    values = [row.score for row in found.rows]
    both = values + ([row.raw for row in found.rows] if has_moved else [])
    low = min(0.0, *both)
    span = max(*both, 0.0) - low or 1.0
    rows = []
    for row in found.rows:
        moved = f"{numbers.score(row.raw)} → " if has_moved else ""
        above = "–" if row.percentile is None else numbers.percentile(row.percentile, found.n_draws)
        cells = [f"{moved}{numbers.score(row.score)}", numbers.score(row.margin), above]
        if row.raw_place is not None:
            cells.insert(1, _moved(row.raw_place, 1 + len(rows)))
        rows.append((row.text, (row.score - low) / span, cells))
    columns = ["label", term("score"), term("margin"), term("percentile", "null")]
    marks = None
    if has_moved:
        columns[1:2] = [f"{term('raw score', 'raw')} → {term('score')}", term("moved")]
        marks = [(row.raw - low) / span for row in found.rows]
    show(bar_table(_verdict(found), columns, rows, marks=marks, is_markup=True))
    proposed = ", ".join(f"“{plain(row.text)}”" for row in found.rows if row.is_proposed)
    if proposed:
        show(f"<p class='csp-quiet'>From the {term('captioner')}, in no list: {proposed}</p>")


def _verdict(found: Candidates) -> str:
    """How far the first label can be trusted, with what that rests on."""
    name = f"<b dir='auto'>{plain(found.rows[0].text)}</b>"
    at = "" if found.gamma is None else f"At γ = {found.gamma:g}, "
    since = f"from {numbers.count(found.n_exemplars)} exemplars"
    if found.best_percentile is None:
        return f"{at}{since}. No random image sets to compare with."
    beats = plain(numbers.beats(found.best_percentile, found.n_draws))
    word = term("reliable label", "reliable" if found.is_reliable else "not reliable")
    return f"{at}{since}: as the best of all labels {name} is {beats}, which is {word}."


def _moved(before: int, now: int) -> str:
    """How many places a label rose or fell when the look-alikes were taken away."""
    if before == now:
        return "="
    return f"▲ {before - now}" if before > now else f"▼ {now - before}"
