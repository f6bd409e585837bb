"""A direction from a few images: mark what shows it, see what ranks first, mark more, go again."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import streamlit as st

from csp_engine.bundle import Bundle, kinds
from csp_engine.pipeline.factoring.marking import DIRECTION, N_RANKED, Ranking, read_marked
from csp_engine.views.address import View
from csp_engine.views.images.copies import Copies
from pages.ui.audit import running
from pages.ui.parts.cards import plain, show
from pages.ui.parts.words import term
from pages.ui.shell import problems
from pages.ui.shell.page import uncut

KIND = "directions"
ROUND = "marking_round"
LEAST = 3
YES, NO = "yes", "no"
ASKED = "Does each show what you mean?"
ABOUT = (
    "What is spread over many neurons has no neuron of its own, but may have a direction of the "
    "layer. Mark at least three images that show what you mean; all others are then ranked by the "
    "direction that these give. Mark more among those that come first, also what does not belong "
    "there, and go again."
)


def section(bundle: Bundle, view: View, model: str) -> None:
    """Images to mark, and what the direction of those that were marked ranks first."""
    layers = [each for each in bundle.layers(model) if "+" not in each]
    if not layers:
        return
    show("<h2 class='csp-h' id='direction'>A direction from a few images</h2>")
    stage = kinds.ACTIVATIONS.name(model, layers[-1])
    if not bundle.has(stage) or bundle.stage(stage).omitted:
        show(
            "<p class='csp-quiet'>Directions are found in activations, which this copy of the "
            "bundle leaves out. A bundle that 'csp build' makes of the same images and network "
            "has them.</p>"
        )
        return
    why = running.why_not(bundle, model)
    if why:
        show(
            "<p class='csp-quiet'><code>csp directions BUNDLE --layer NAME --like IMAGE</code> "
            f"finds one from a few images. {plain(why)}</p>"
        )
        return
    with problems.caught():
        st.fragment(_rounds)(bundle, view, model, layers)


def _rounds(bundle: Bundle, view: View, model: str, layers: list[str]) -> None:
    """One round: what was ranked, or where to begin; drawn by itself when something is marked."""
    marks = _marks(bundle, model)
    ranking = _fresh(bundle, model)
    if running.is_awaited(KIND, bundle, model):
        return
    if ranking is None:
        show(f"<p class='csp-lead csp-left'>{ABOUT}</p>")
        usual = view.layer if view.layer in layers else layers[-1]
        place, images = _to_begin_with(bundle, view, model, layers, usual)
        told = f"Strongest images of neuron {place[1]} of {place[0]}. {ASKED}"
    else:
        show(f"<p class='csp-lead csp-left'>{plain(ranking.note)}</p>")
        images = list(ranking.ranked)
        told = f"Ranked first by the direction, of those not marked before. {ASKED}"
        usual = ranking.layer
    rest = [each for each in marks if each not in images]
    _pictures(bundle, model, told, images)
    if rest:
        _pictures(bundle, model, "Marked before.", rest)
    n, m = (sum(each is kind for each in marks.values()) for kind in (True, False))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if ranking is not None:
            usual = layers.index(usual)
            layer = st.selectbox("Layer", layers, usual, key="directions_of", width=200)
        else:
            layer = place[0]
        st.button(
            "Rank again" if ranking else "Find more like these",
            type="primary",
            key="directions_start",
            disabled=n < LEAST,
            on_click=_start,
            args=(bundle, model, layer),
        )
        if marks:
            st.button(
                "Forget all marks",
                key="directions_forget",
                on_click=uncut(_forget),
                args=(bundle, model),
            )
        if ranking is not None:
            folder = running.result(KIND, bundle, model)
            assert folder is not None
            st.download_button(
                "Download the direction",
                (folder / DIRECTION).read_bytes(),
                file_name=DIRECTION,
                mime="application/octet-stream",
                on_click="ignore",
                key="directions_file",
                help="For 'csp build --sae' (the direction becomes a neuron with a page of its "
                "own), 'csp fix --project' and 'csp intervene --swap'.",
            )
    lacking = f"; mark {LEAST - n} more that show it" if n < LEAST else ""
    show(
        f"<p class='csp-quiet'>Marked: {n} that {'shows' if n == 1 else 'show'} it, {m} that "
        f"{'does' if m == 1 else 'do'} not{lacking}. "
        f"{'Where none is marked as not, all others count so. ' if not m else ''}The "
        f"{term('activation')} on the direction ranks the images, in a process of its own; it "
        "takes some seconds.</p>"
    )


def _to_begin_with(
    bundle: Bundle, view: View, model: str, layers: list[str], usual: str
) -> tuple[tuple[str, int], list[int]]:
    """The layer, and the strongest images of one of its neurons, which somebody chooses."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer = st.selectbox(
            "Layer", layers, layers.index(usual), key="directions_layer", width=200
        )
        assert layer is not None
        most = bundle.n_units(model, layer) - 1
        first = view.unit if view.layer == layer and view.unit <= most else 0
        unit = st.number_input(
            "Begin with the images of neuron", 0, most, first, key=f"directions_unit_{layer}",
            width=220,
        )  # fmt: skip
    held = bundle.exemplars(model, layer)
    found = held.image_uk[int(unit), : int(held.count_u[int(unit)])].tolist()
    copies = Copies(bundle, is_hiding=True)
    return (layer, int(unit)), [each for each in found if copies.is_new(each)][:N_RANKED]


def _pictures(bundle: Bundle, model: str, told: str, images: Sequence[int]) -> None:
    """Images with what is said of each."""
    marks, names = _marks(bundle, model), bundle.images()["file"]
    at = st.session_state.get(ROUND, 0)
    show(f"<h3 class='csp-h3'>{plain(told)}</h3>")
    with st.container(horizontal=True, key=f"directions_{told.partition(' ')[0].lower()}"):
        for image in images:
            with st.container(width=136):
                content = base64.b64encode(bundle.thumbnail(image)).decode()
                name = plain(names.iloc[image])
                show(
                    f"<figure class='csp-marked'><img alt='{name}' title='{name}' "
                    f"src='data:image/webp;base64,{content}'></figure>"
                )
                st.segmented_control(
                    f"{names.iloc[image]} shows what you mean",
                    (YES, NO),
                    default={True: YES, False: NO}.get(marks.get(image)),
                    key=f"mark_{at}_{image}",
                    label_visibility="collapsed",
                    on_change=uncut(_mark),
                    args=(bundle, model, image, f"mark_{at}_{image}"),
                )


def _mark(bundle: Bundle, model: str, image: int, key: str) -> None:
    said = st.session_state.get(key)
    marks = {**_marks(bundle, model)}
    marks.pop(image, None)
    if said is not None:
        marks[image] = said == YES
    st.session_state[_key(bundle, model)] = marks


def _start(bundle: Bundle, model: str, layer: str) -> None:
    """Start the process."""
    names = bundle.images()["file"]
    marked = [
        f"--{'like' if is_it else 'unlike'}={names.iloc[image]}"
        for image, is_it in _marks(bundle, model).items()
    ]
    running.start(KIND, bundle, model, [f"--layer={layer}", *marked], {})
    _next_round()


def _next_round() -> None:
    """Have every image drawn anew, with the mark that it has by now."""
    st.session_state[ROUND] = st.session_state.get(ROUND, 0) + 1


def _fresh(bundle: Bundle, model: str) -> Ranking | None:
    """What came of the last round of this session, if it has ended."""
    return running.read(KIND, bundle, model, read_marked)


def _forget(bundle: Bundle, model: str) -> None:
    running.forget(KIND, bundle, model)
    st.session_state.pop(_key(bundle, model), None)
    _next_round()


def _marks(bundle: Bundle, model: str) -> dict[int, bool]:
    """What this session has said of images: whether they show what is meant."""
    return st.session_state.get(_key(bundle, model), {})


def _key(bundle: Bundle, model: str) -> str:
    return f"marks/{bundle.path}/{model}"
