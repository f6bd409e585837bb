"""Candidate labels of a neuron: every method's best, then one method's list, with gamma to move."""

from __future__ import annotations

import math

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import View, pick_share
from csp_engine.views.benchmark.faithfulness import Faithful, about
from csp_engine.views.confidence import Trust, uncalibrated
from csp_engine.views.neuron import candidates as relabel
from csp_engine.views.neuron.candidates import CandidateLabels
from csp_engine.views.neuron.proposals import proposals
from pages.ui.neuron import ranked, why
from pages.ui.parts import charts
from pages.ui.parts.cards import badge, facts, markdown_text, plain, quoted, show
from pages.ui.parts.words import explained, term
from pages.ui.shell import store
from pages.ui.shell.page import hold, keep_up, set_params, uncut


def every_method(bundle: Bundle, found: list[CandidateLabels], trusted: list[Trust]) -> str:
    """The heading, and every method's best label with what is known of it, as HTML."""
    if not found:
        return ""
    is_measured = any(each.faithful is not None for each in found)
    every = by_method(found, trusted, about(bundle)) if len(found) > 1 or is_measured else ""
    return f"<div class='csp-stack'><h2 class='csp-h'>Candidate labels</h2>{every}</div>"


def section(bundle: Bundle, view: View) -> None:
    """One method's list, below ``every_method``."""
    methods = bundle.methods(view.model, view.layer)
    if not methods:
        said(bundle, view)
        return
    hold("_method", view.method)
    st.segmented_control(
        "Method",
        methods,
        format_func=lambda name: markdown_text(method_title(name)),
        key="_method",
        required=True,
        label_visibility="collapsed",
        on_change=uncut(lambda: set_params(method=st.session_state["_method"])),
    )
    built = relabel.built_gamma(bundle, view.neuron, view.method)
    if built is None:
        show(ranked.listing(relabel.stored(bundle, view.neuron, view.method)))
    else:
        moving(bundle, view, built)
    said(bundle, view)


def by_method(found: list[CandidateLabels], trusted: list[Trust], predicted_by: str) -> str:
    """What each method would call the neuron, and how likely that is right, as HTML.

    ``predicted_by`` says who predicts the neuron from its label, and is empty where nobody does.
    """
    rows = []
    n_cells = 4 if predicted_by else 3
    for each, trust in zip(found, trusted, strict=True):
        title = f"<th scope='row'>{plain(method_title(each.method))}</th>"
        if not each.rows:
            rows.append(
                f"<tr class='quiet'>{title}<td class='text'>no label</td>{'<td></td>' * n_cells}"
                "</tr>"
            )
            continue
        best = each.rows[0]
        rows.append(
            f"<tr{'' if trust.is_good else ' class=quiet'}>{title}<td class='text'>"
            f"<span dir='auto'>{plain(best.text)}</span> "
            f"{badge(trust.words, 'good' if trust.is_good else '')}</td>"
            f"<td>{numbers.score(best.score)}</td><td>{numbers.score(trust.lead)}</td>"
            f"<td>{each.percentile_of_best}</td>"
            f"{predicting(each.faithful) if predicted_by else ''}</tr>"
        )
    head = (
        f"<th scope='col'>{term('method')}</th><th scope='col' class='text'>best "
        f"label</th><th scope='col'>{term('score')}</th>"
        f"<th scope='col'>{term('lead', 'ahead')}</th><th scope='col'>{term('percentile')}</th>"
    )
    also = f" {plain(uncalibrated(trusted))}" if uncalibrated(trusted) else ""
    if predicted_by:
        head += f"<th scope='col'>{term('faithfulness', 'predicts')}</th>"
        also += (
            f" Predicts: {term('Pearson correlation')} of activation and prediction, with its "
            f"95 % {term('interval')}. {plain(predicted_by)}"
        )
    return (
        f"<table class='csp-table methods' style='--cells: {n_cells}'><caption>As built. Scores "
        "of different methods are on different scales. The percentile compares with the "
        f"best label of each random image set.{also}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def predicting(faithful: Faithful | None) -> str:
    """How well the label predicts the neuron, as a cell."""
    if faithful is None or math.isnan(faithful.pearson.value):
        return f"<td>{numbers.UNKNOWN}</td>"
    r = faithful.pearson
    return (
        f"<td title='AUPRC {plain(faithful.auprc.spread)}'>{numbers.score(r.value)} "
        f"<span class='csp-range'>{r.ends}</span></td>"
    )


@st.fragment
def moving(bundle: Bundle, view: View, built: float) -> None:
    """The labels at the gamma of the slider; only this part of the page runs again."""
    keep_up()
    # The URL, not the view: a fragment keeps the view of the last run of the whole page.
    gamma, _ = pick_share("γ", st.query_params.get("gamma"), built)
    hold("_gamma", gamma)
    st.slider(
        f"γ (built with {built:g})",
        0.0,
        1.0,
        step=relabel.STEP,
        key="_gamma",
        format="%.2f",
        help=explained("gamma", "contrast image"),
        on_change=uncut(
            lambda: set_params(
                gamma=""
                if st.session_state["_gamma"] == built
                else f"{st.session_state['_gamma']:.2f}".rstrip("0").rstrip(".")
            )
        ),
    )
    found = ranked.at(bundle, view.neuron, view.method, gamma)
    show(found.body)
    if found.texts:
        ranked.stays_with_slider(bundle, view, gamma)
        texts = list(found.texts[: relabel.N_PATHS])
        paths = relabel.paths(bundle, view.neuron, view.method, texts)
        charts.gamma_paths(*paths, texts, gamma, key="paths")
        why.section(bundle, view, list(found.texts), gamma)


def said(bundle: Bundle, view: View) -> None:
    """What a captioner was shown and asked, and what it answered, as text and nothing else."""
    found = proposals(bundle, store.MEMO, view.neuron)
    if not found:
        return
    with st.expander("What the captioner said"):
        for each in found:
            rows = (
                ("Shown", each.shown),
                ("Phrases", each.phrases or "none"),
                ("Outcome", each.happened),
                ("Model", each.model),
                ("Seed", each.seed),
            )
            show(facts(rows))
            for title, text in (("Answer", each.answer), ("Question", each.prompt)):
                if text:
                    show(f"<p class='csp-quiet'>{title}</p>{quoted(text)}")
