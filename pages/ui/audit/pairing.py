"""Try pairs of photographs now: choose them, wait for another process, keep what came of it."""

from __future__ import annotations

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.pasting.paste import ARTEFACTS
from csp_engine.pipeline.intervening.keeping import (
    Measured,
    keep_interventions,
    read_interventions,
)
from csp_engine.views.audit.interventions import conclusion, effects
from pages.ui.audit import effect, running
from pages.ui.parts.cards import plain, show

KIND = "intervene"
N_PAIRS = 60
"""Pairs of each pasted artefact in a quick trial."""
PASTE, LISTED = "Paste an artefact", "A table of pairs"


def section(bundle: Bundle, model: str) -> None:
    """What came of the trial of this session, and a way to try other pairs."""
    measured = fresh(bundle, model)
    if measured is not None:
        stored = measured.stored
        with st.container(key="paired"):
            told = plain(conclusion(stored.output, effects(stored)))
            show(f"<p class='csp-lead csp-left'>Just tried: {told}</p>")
            effect.section(bundle, model, stored)
            running.keep_or_drop(
                KIND, bundle, model, are_known=bundle.intervention(model) is not None, keep=_keep
            )
    why = running.why_not(bundle, model)
    if why:
        show(f"<p class='csp-quiet'>Other pairs: 'csp intervene' tries them. {plain(why)}</p>")
        return
    if not running.layers_of(bundle, model):
        show(
            "<p class='csp-quiet'>Pairs cannot be tried: every layer of "
            f"{plain(model)} is read through an autoencoder, into which nothing is swapped.</p>"
        )
        return
    is_open = running.held(KIND, bundle, model) is not None
    with st.expander("Try pairs of photographs now", expanded=is_open):
        if not running.is_awaited(KIND, bundle, model):
            _fields(bundle, model)


def _fields(bundle: Bundle, model: str) -> None:
    names = bundle.manifest.inputs["models"][model].get("class_names") or ()
    stored = bundle.intervention(model)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if names:
            usual = list(names).index(stored.output) if stored and stored.output in names else 0
            output = st.selectbox("Output", names, usual, key="intervene_output", width=220)
        else:
            output = st.text_input("Number of the output", "0", key="intervene_output", width=220)
        way = st.selectbox("Pairs", (PASTE, LISTED), key="intervene_way", width=220)
    artefacts: list[str] = []
    if way == PASTE:
        artefacts = st.multiselect(
            "Artefacts", ARTEFACTS, ["colour patch"], key="intervene_artefacts"
        )
        held = "A folder or a table; columns of 0 and 1 say which have the artefact already"
        images = st.text_input("Photographs", key="intervene_photos", placeholder=held)
    else:
        held = "A table with the columns artefact, without, with, and neutral, group if known"
        images = st.text_input("Table of pairs", key="intervene_pairs", placeholder=held)
    st.button(
        "Try them",
        type="primary",
        key="intervene_start",
        on_click=_start,
        args=(bundle, model, str(output or ""), way or PASTE, tuple(artefacts), images.strip()),
    )
    show(
        f"<p class='csp-quiet'>In a process of its own; at most {N_PAIRS} pairs of each pasted "
        "artefact, each beside the same paste of neutral texture. A paste is believed only where "
        "real photographs with the artefact show that it passes for one. It takes some minutes.</p>"
    )


def _start(
    bundle: Bundle, model: str, output: str, way: str, artefacts: tuple[str, ...], images: str
) -> None:
    """Start the process."""
    if way == PASTE and not artefacts:
        running.refuse(KIND, "Nothing to paste; choose an artefact.")
        return
    if not images:
        asked = "Paste into which photographs? Name a folder or table of them."
        running.refuse(KIND, asked if way == PASTE else "Which pairs? Name a table of them.")
        return
    arguments = [f"--output={output}"]
    if way == PASTE:
        arguments += [f"--n-pairs={N_PAIRS}", *(f"--paste={each}" for each in artefacts)]
    option = "--photos=" if way == PASTE else "--pairs="
    running.start(KIND, bundle, model, arguments, {option: images})


def fresh(bundle: Bundle, model: str) -> Measured | None:
    """What came of the trial of this session, if one has ended."""
    return running.read(KIND, bundle, model, read_interventions)


def _keep(bundle: Bundle, model: str) -> None:
    def work() -> dict[str, str]:
        measured = fresh(bundle, model)
        if measured is None:
            raise InputError("There is no result to keep; try the pairs again.")
        keep_interventions(bundle.path, measured)
        return {"model": model}

    running.keep(KIND, bundle, model, work)
