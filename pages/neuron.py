"""Neuron: what excites it, what looks the same and does not, and what to call it."""

from dataclasses import replace

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import RESULT_COUNTS, SHOWS, View
from csp_engine.views.conclusion.claims import conclusion_of
from csp_engine.views.confidence import Trust, trust_of
from csp_engine.views.images import choices
from csp_engine.views.images.groups import split_of
from csp_engine.views.images.pairs import images_in_pairs
from csp_engine.views.neuron.candidates import stored
from csp_engine.views.neuron.label import heading_of
from pages.ui.neuron import candidates, looking, sections, verdict, walking
from pages.ui.parts.cards import Packs, badge, plain, show, tile_grid
from pages.ui.parts.words import explained, term
from pages.ui.shell import problems, sharing, store
from pages.ui.shell.page import go, hold, opened, set_params


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    if view.card == "yes":
        with problems.caught():
            sharing.card(bundle, view)
        return
    n_units = bundle.n_units(view.model, view.layer)
    with problems.caught():
        walking.steps(bundle, view)
    is_blind = verdict.is_blind()
    if is_blind:
        blind_header(view, n_units)
    else:
        header(bundle, view, n_units)
    # On a phone the parts of both columns come one after another, in an order of the style sheet.
    with st.container(key="parts"):
        left, right = st.columns([1.45, 1], gap="medium")
    with left, problems.caught():
        images(bundle, view)
        if not is_blind:
            with st.container(key="near"):
                sections.neighbours(bundle, view)
    with right, problems.caught():
        verdict.section(bundle, view)
        if is_blind:
            return
        candidates.section(bundle, view)
        with st.container(key="facts"):
            sections.activations(bundle, view)
            sharing.embed_code(view)


def blind_header(view: View, n_units: int) -> None:
    """Which neuron it is, and that the rest is not shown."""
    show(
        f"<p class='csp-id'>{plain(view.model)} / {plain(view.layer)} / {view.unit} "
        f"<span>(of {numbers.count(n_units)})</span></p><h1 class='csp-title none'>Judged by its "
        "images</h1><p class='csp-lead'>Blind: labels, scores and what others said are not shown."
        "</p>"
    )


def header(bundle: Bundle, view: View, n_units: int) -> None:
    """Name, label and state, and what is measured, in a few sentences."""
    heading = heading_of(bundle, view.neuron, view.method)
    label = heading.label
    badges = "".join(badge(state.word, "warn") for state in heading.states)
    if label.is_reliable:
        badges += badge(f"{heading.method} {numbers.score(label.score)}", "good")
    trust = None
    if view.method in bundle.methods(view.model, view.layer):
        found = stored(bundle, view.neuron, view.method)
        trust = trust_of(bundle, store.MEMO, view.neuron, found)
    if trust is not None and trust.is_learnt:
        badges += badge(trust.words, "good" if trust.is_good else "")
    kind = " dir='auto'" if label.is_named else ""
    css = "csp-title" if label.is_named else "csp-title none"
    show(
        f"<p class='csp-id'>{plain(view.model)} / {plain(view.layer)} / {view.unit} "
        f"<span>(of {numbers.count(n_units)})</span></p>"
        f"<div class='csp-head'><h1 class='{css}'{kind}>{plain(label.heading)}</h1>"
        f"<div>{badges}</div></div>{concluded(bundle, view, trust)}"
        f"{reasons([*map(str, heading.reasons), trust.doubt if trust else ''])}"
    )


def concluded(bundle: Bundle, view: View, trust: Trust | None) -> str:
    """What is measured of the neuron, as a paragraph of HTML."""
    claims = conclusion_of(bundle, store.MEMO, view.neuron, view.method, trust)
    said = " ".join(
        f"<span class='{claim.kind}'>"
        + "".join(
            f"<bdi>{plain(text)}</bdi>" if named else plain(text) for text, named in claim.words
        )
        + "</span>"
        for claim in claims
    )
    return f"<p class='csp-lead csp-concluded'>{said}</p>" if said else ""


def reasons(sentences: list[str]) -> str:
    """Why the neuron is in a state, or has no reliable label, to unfold; as HTML."""
    told = " ".join(filter(None, sentences))
    if not told:
        return ""
    return f"<details class='csp-fold'><summary>Why</summary><p>{plain(told)}</p></details>"


def images(bundle: Bundle, view: View) -> None:
    """The evidence: pairs, or images chosen otherwise."""
    with st.container(horizontal=True, vertical_alignment="center"):
        hold("_show", view.show)
        hold("_hide", view.copies == "hide")
        st.segmented_control(
            "Images",
            SHOWS,
            format_func=choices.TITLES.__getitem__,
            key="_show",
            required=True,
            label_visibility="collapsed",
            on_change=lambda: set_params(show=st.session_state["_show"]),
        )
        st.toggle(
            "Hide near-duplicates",
            key="_hide",
            help=explained("near-duplicate"),
            on_change=lambda: set_params(copies="hide" if st.session_state["_hide"] else ""),
        )
    found = choices.chosen_images(
        bundle,
        store.MEMO,
        view.neuron,
        view.show,
        limit=view.k,
        is_hiding=view.copies == "hide",
    )
    if not found.parts:
        st.text(choices.NO_GROUPS if view.show == "groups" else choices.NO_EXEMPLARS)
        return
    about(bundle, view, found.n_hidden)
    packs = Packs(view.bundle, bundle)
    looking.section(bundle, view, packs)
    is_pairs = view.show == "contrast"
    picked: list[int | None] = []
    for at, part in enumerate(found.parts):
        if part.heading:
            show(f"<h2 class='csp-h'>{plain(part.heading)}</h2>")
        grid = tile_grid(
            part.tiles,
            packs,
            label=f"{choices.TITLES[view.show]} of {view.neuron}",
            key=f"images{at}",
            tile_px=205 if is_pairs else 110,
            prefetch=next_packs(bundle, view) if at == 0 and is_pairs else (),
        )
        picked.append(grid)
    chosen = [image for image in picked if image is not None]
    if chosen:
        go("search", view.search_params("", image=chosen[0]))
    n_exemplars = int(bundle.exemplars(view.model, view.layer).count_u[view.unit])
    more = [k for k in RESULT_COUNTS if k > view.k]
    if is_pairs and n_exemplars > view.k and more:
        st.button(
            f"Show {min(more[0], n_exemplars)} pairs",
            key="more",
            on_click=lambda: set_params(k=more[0]),
        )


def next_packs(bundle: Bundle, view: View) -> list[str]:
    """The thumbnail requests that the pages of the next unit and the one before will make."""
    found: list[str] = []
    for unit in (view.unit + 1, view.unit - 1):
        if 0 <= unit < bundle.n_units(view.model, view.layer):
            packs = Packs(view.bundle, bundle)
            for image in images_in_pairs(bundle, replace(view.neuron, unit=unit), view.k):
                packs.at(image)
            found += packs.urls()
    return found


def about(bundle: Bundle, view: View, n_hidden: int) -> None:
    """What the images are."""
    if view.show == "contrast":
        words = (
            "<span></span> excites the neuron; <span class='quiet'></span> looks most like "
            "it but leaves the neuron quiet. Similarity is the cosine of the two in the "
            "encoder."
        )
    elif view.show == "groups":
        split = split_of(bundle, view.neuron)
        words = (
            "The scored exemplars, split in two. "
            f"{term('polysemanticity', 'Polysemanticity')} "
            f"{numbers.score(split.polysemanticity)}, {term('silhouette')} "
            f"{numbers.score(split.silhouette)}: {split.words} Each has the labels "
            "that set it apart; whether they are reliable is not tested."
        )
    else:
        words = plain(choices.ABOUT[view.show])
    hidden = f" {n_hidden} near-duplicates hidden." if n_hidden else ""
    show(f"<p class='csp-quiet csp-key csp-left'>{words}{hidden}</p>")


main()
