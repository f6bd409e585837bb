"""Neuron: what excites it, what looks the same and does not, and what to call it."""

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import RESULT_COUNTS, SHOWS, View
from pages.ui.neuron import candidates, sections, verdict, walking
from pages.ui.parts.cards import Packs, badge, plain, show, tile_grid
from pages.ui.parts.words import explained, term
from pages.ui.shell import problems, sharing
from pages.ui.shell.page import go, opened, set_params
from pages.ui.views import images as evidence
from pages.ui.views import neuron as neurons


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
    header(bundle, view, n_units)
    # On a phone the parts of both columns come one after another, in an order of the style sheet.
    with st.container(key="parts"):
        left, right = st.columns([1.6, 1], gap="medium")
    with left, problems.caught():
        images(bundle, view)
        with st.container(key="near"):
            sections.neighbours(bundle, view)
    with right, problems.caught():
        verdict.section(bundle, view)
        candidates.section(bundle, view)
        with st.container(key="facts"):
            sections.activations(bundle, view)
            sharing.embed_code(view)


def header(bundle: Bundle, view: View, n_units: int) -> None:
    """Name, label and state."""
    label = neurons.best_label(bundle, view.model, view.layer, view.unit, view.method)
    row = bundle.units(view.model, view.layer).iloc[view.unit]
    words = "".join(badge(word, "warn") for word, _ in neurons.flags(row))
    title = neurons.method_title(view.method)
    if label.is_reliable:
        name = f"<h1 class='csp-title' dir='auto'>{plain(label.text)}</h1>"
        words += badge(f"{title} {numbers.score(label.score)}", "good")
    else:
        name = "<h1 class='csp-title none'>No reliable label</h1>"
    show(
        f"<p class='csp-id'>{plain(view.model)} / {plain(view.layer)} / {view.unit} "
        f"<span>(of {numbers.count(n_units)})</span></p>{name}<div>{words}</div>"
    )
    reasons = [why for _, why in neurons.flags(row)]
    if not label.is_reliable and label.text:
        reasons.append(
            f"The best {title} label, “{label.text}”, does no better than the best label of random "
            "image sets of the same size."
        )
    elif not label.text:
        reasons.append(f"{title} has nothing to go by: no exemplars, or nothing left of them.")
    if reasons:
        show(f"<p class='csp-lead'>{plain(' '.join(reasons))}</p>")


def images(bundle: Bundle, view: View) -> None:
    """The evidence: pairs, or images chosen otherwise."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.session_state.update({"_show": view.show, "_hide": view.copies == "hide"})
        st.segmented_control(
            "Images",
            SHOWS,
            format_func=evidence.SHOW_TITLES.__getitem__,
            key="_show",
            required=True,
            label_visibility="collapsed",
            on_change=lambda: set_params(
                show="" if st.session_state["_show"] == SHOWS[0] else st.session_state["_show"]
            ),
        )
        st.toggle(
            "Hide near-duplicates",
            key="_hide",
            help=explained("near-duplicate"),
            on_change=lambda: set_params(copies="hide" if st.session_state["_hide"] else ""),
        )
    parts, n_hidden = evidence.tiles_of(bundle, view)
    if not parts:
        st.text(
            "The bundle has no groups for this neuron."
            if view.show == "groups"
            else "No image excites this neuron more than another, so it has no exemplars."
        )
        return
    about(bundle, view, n_hidden)
    packs = Packs(view.bundle, bundle)
    is_pairs = view.show == "contrast"
    picked: list[int | None] = []
    for at, (heading, tiles) in enumerate(parts):
        if heading:
            show(f"<h2 class='csp-h'>{plain(heading)}</h2>")
        first = at == 0
        ahead = (view.unit + 1, view.unit - 1) if first and is_pairs else ()
        grid = tile_grid(
            tiles,
            packs,
            label=f"{evidence.SHOW_TITLES[view.show]} of {view.model}/{view.layer}/{view.unit}",
            key=f"images{at}",
            tile_px=220 if is_pairs else 110,
            prefetch=neurons.prefetch_packs(bundle, view, ahead),
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


def about(bundle: Bundle, view: View, n_hidden: int) -> None:
    """What the images are."""
    if view.show == "contrast":
        words = (
            "<span></span> excites the neuron, <span class='quiet'></span> looks most like it and "
            "leaves it quiet. Similarity is their cosine in the encoder."
        )
    elif view.show == "groups":
        row = bundle.units(view.model, view.layer).iloc[view.unit]
        words = (
            f"The scored exemplars split in two. {term('polysemanticity', 'Polysemanticity')} "
            f"{numbers.score(float(row['polysemanticity']))}, "
            f"{term('silhouette')} {numbers.score(float(row['silhouette']))}: "
            f"{evidence.split_in_words(row)} Labels of a group are the nearest, not tested."
        )
    else:
        words = plain(evidence.ABOUT_SHOW[view.show])
    hidden = f" {n_hidden} near-duplicates hidden." if n_hidden else ""
    show(f"<p class='csp-quiet csp-key csp-left'>{words}{hidden}</p>")


main()
