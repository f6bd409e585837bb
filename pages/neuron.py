"""Neuron: what excites it, what looks the same and does not, and what to call it."""

import streamlit as st

from csp_engine.bundle import Bundle
from pages.ui import candidates, neurons, numbers, problems, sections
from pages.ui.cards import Packs, badge, plain, show, tile_grid
from pages.ui.page import opened, set_params
from pages.ui.state import RESULT_COUNTS, SHOWS, View


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    n_units = bundle.n_units(view.model, view.layer)
    steps(bundle, view, n_units)
    header(bundle, view, n_units)
    left, right = st.columns([1.6, 1], gap="medium")
    with left, problems.caught():
        images(bundle, view)
        sections.neighbours(bundle, view)
    with right, problems.caught():
        candidates.section(bundle, view)
        sections.activations(bundle, view)


def steps(bundle: Bundle, view: View, n_units: int) -> None:
    """Previous, next, and which layer."""
    places = [(m, layer) for m in bundle.model_names for layer in bundle.layers(m)]
    st.session_state["_place"] = (view.model, view.layer)
    st.session_state["_unit"] = view.unit

    def move(by: int) -> None:
        here = {"bundle": view.bundle, "model": view.model, "layer": view.layer}
        set_params(**here, unit=(view.unit + by) % n_units)

    def chosen() -> None:
        model, layer = st.session_state["_place"]
        set_params(bundle=view.bundle, model=model, layer=layer, unit=0)

    def typed() -> None:
        move(int(st.session_state["_unit"]) - view.unit)

    with st.container(horizontal=True, vertical_alignment="bottom"):
        is_only = len(bundle.model_names) == 1
        st.selectbox(
            "Layer",
            places,
            format_func=lambda place: place[1] if is_only else f"{place[0]} / {place[1]}",
            key="_place",
            on_change=chosen,
            width=260,
        )
        st.number_input("Unit", 0, n_units - 1, key="_unit", step=1, on_change=typed, width=130)
        st.button("Previous", on_click=move, args=(-1,), shortcut="Left", key="previous")
        st.button("Next", on_click=move, args=(1,), shortcut="Right", key="next")


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
    st.session_state["_show"] = view.show
    st.segmented_control(
        "Images",
        SHOWS,
        format_func=neurons.SHOW_TITLES.__getitem__,
        key="_show",
        required=True,
        label_visibility="collapsed",
        on_change=lambda: set_params(
            show="" if st.session_state["_show"] == SHOWS[0] else st.session_state["_show"]
        ),
    )
    packs = Packs(view.bundle, bundle)
    if view.show == "contrast":
        tiles = neurons.pair_tiles(bundle, view, view.k)
        hint = (
            "<p class='csp-quiet csp-key'><span></span> excites the neuron, "
            "<span class='quiet'></span> looks most like it and leaves it quiet. "
            "Similarity is their cosine in the encoder.</p>"
        )
    else:
        tiles = neurons.sample_tiles(bundle, view)
        hint = (
            "<p class='csp-quiet'>Images from every band of activation, strongest first.</p>"
            if view.show == "stratified"
            else "<p class='csp-quiet'>Images drawn at random from the probe set.</p>"
        )
    if not tiles:
        st.text("No image excites this neuron more than another, so it has no exemplars.")
        return
    show(hint)
    tile_grid(
        tiles,
        packs,
        label=f"{neurons.SHOW_TITLES[view.show]} of {view.model}/{view.layer}/{view.unit}",
        key="images",
        tile_px=220 if view.show == "contrast" else 110,
        prefetch=neurons.prefetch_packs(bundle, view, (view.unit + 1, view.unit - 1)),
    )
    n_exemplars = int(bundle.exemplars(view.model, view.layer).count_u[view.unit])
    more = [k for k in RESULT_COUNTS if k > view.k]
    if view.show == "contrast" and n_exemplars > view.k and more:
        st.button(
            f"Show {min(more[0], n_exemplars)} pairs",
            key="more",
            on_click=lambda: set_params(k=more[0]),
        )


main()
