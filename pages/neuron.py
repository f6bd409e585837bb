"""Neuron: what excites it, what looks the same and does not, and what to call it."""

from contextlib import suppress
from dataclasses import asdict, replace

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.views.address import RESULT_COUNTS, SHOWS, View
from csp_engine.views.finding.examples import showcase
from csp_engine.views.images import choices
from csp_engine.views.images.groups import split_of
from pages.ui.neuron import ahead, candidates, changing, looking, sections, verdict, walking
from pages.ui.parts.cards import Packs, draw_tiles, plain, show, signature, tile_grid
from pages.ui.parts.words import explained, term
from pages.ui.shell import problems, sharing, store
from pages.ui.shell.page import go, hold, opened, set_params, uncut

BLIND_SHOWS = tuple(each for each in SHOWS if each != "groups")
"""Choices of images that name nothing: groups come with their labels."""


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    if not any(map(st.query_params.get, ("model", "layer", "unit"))):
        view = clearest(bundle, view)
    if view.card == "yes":
        with problems.caught():
            sharing.card(bundle, view)
        return
    is_blind = verdict.is_blind()
    if is_blind and view.show not in BLIND_SHOWS:
        view = replace(view, show=SHOWS[0])
    with problems.caught():
        walking.steps(bundle, view)
    with problems.caught():
        drawn = ahead.pieces(bundle, view, is_blind=is_blind)
        show(drawn.parts["head"])
        page(bundle, view, drawn, is_blind=is_blind)


def clearest(bundle: Bundle, view: View) -> View:
    """Where the address names no neuron: the one worth showing first, where there is one."""
    first = None
    with suppress(CspError):  # of what is damaged, the page says so where it would have stood
        first = showcase(bundle, store.MEMO, view.method)
    return view if first is None else replace(view, **asdict(first))


def page(bundle: Bundle, view: View, drawn: ahead.Pieces, *, is_blind: bool) -> None:
    """What is below the heading."""
    # On a phone the parts of both columns come one after another, in an order of the style sheet.
    with st.container(key="parts"):
        left, right = st.columns([1.45, 1], gap="medium")
    with left, problems.caught():
        images(bundle, view, drawn)
    below = left.container(key="near_changed")
    with left, problems.caught():
        if not is_blind:
            with st.container(key="near"):
                sections.neighbours(bundle, view)
    with right, problems.caught():
        with st.container(key="judging"):
            verdict.section(bundle, view)
        if not is_blind:
            show(drawn.parts["methods"])
            with st.container(key="ranked"):
                candidates.section(bundle, view)
    if is_blind:  # what is decided without it, too, says what a network sees in it
        return
    show(drawn.parts["facts"])
    sharing.embed_code(view)
    # Last, for the network may have to be loaded; it stands below the images.
    with below, problems.caught():
        changing.section(bundle, view)


def images(bundle: Bundle, view: View, drawn: ahead.Pieces) -> None:
    """The evidence: pairs, or images chosen otherwise."""
    with st.container(horizontal=True, vertical_alignment="center", key="strip_images"):
        hold("_show", view.show)
        hold("_hide", view.copies == "hide")
        st.segmented_control(
            "Images",
            BLIND_SHOWS if verdict.is_blind() else SHOWS,
            format_func=choices.TITLES.__getitem__,
            key="_show",
            required=True,
            label_visibility="collapsed",
            on_change=uncut(lambda: set_params(show=st.session_state["_show"])),
        )
        st.toggle(
            "Hide near-duplicates",
            key="_hide",
            help=explained("near-duplicate"),
            on_change=uncut(lambda: set_params(copies="hide" if st.session_state["_hide"] else "")),
        )
    chosen = pairs(bundle, view, drawn) if view.show == "contrast" else others(bundle, view)
    if chosen is not None:
        go("search", view.search_params("", image=chosen))
    n_exemplars = int(bundle.exemplars(view.model, view.layer).count_u[view.unit])
    more = [k for k in RESULT_COUNTS if k > view.k]
    if view.show == "contrast" and n_exemplars > view.k and more:
        k = next((k for k in more if k >= n_exemplars), more[-1])
        st.button(
            f"Show all {n_exemplars} pairs" if k >= n_exemplars else f"Show {k} pairs",
            key="more",
            on_click=uncut(lambda: set_params(k=k)),
        )


def pairs(bundle: Bundle, view: View, drawn: ahead.Pieces) -> int | None:
    """The pairs, with maps where they are asked for; the image that was chosen, or None."""
    tiles = drawn.tiles
    if tiles is None:
        st.text(choices.NO_EXEMPLARS)
        return None
    about(bundle, view, drawn.n_hidden)
    root = looking.section(bundle, view)
    if root:
        maps = [f"{root}/{url.rpartition('/')[2]}" for url in tiles["packs"]]
        tiles = {**tiles, "maps": maps, "signature": signature([tiles["signature"], maps])}
    return draw_tiles(tiles, key="images0")


def others(bundle: Bundle, view: View) -> int | None:
    """Images chosen otherwise, in their parts; the one that was chosen, or None."""
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
        return None
    about(bundle, view, found.n_hidden)
    packs = Packs(view.bundle, bundle)
    packs.map_root = looking.section(bundle, view)
    picked: list[int | None] = []
    for at, part in enumerate(found.parts):
        if part.heading:
            show(f"<h2 class='csp-h'>{plain(part.heading)}</h2>")
        label = f"{choices.TITLES[view.show]} of {view.neuron}"
        grid = tile_grid(part.tiles, packs, label=label, key=f"images{at}", tile_px=110)
        picked.append(grid)
    return next((image for image in picked if image is not None), None)


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
