"""What becomes of decisions as more and more of a layer is held still, and a way to try it."""

from __future__ import annotations

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.bundle.checks.held import MODES
from csp_engine.errors import InputError
from csp_engine.pipeline.added.curves import Left, add_curves, read_curves
from csp_engine.views.address import pick
from csp_engine.views.curves.told import Curved, figures, kept, layers_curved
from pages.ui.audit import running, trying
from pages.ui.audit.curves import drawing
from pages.ui.parts.cards import plain, show
from pages.ui.shell import problems, store
from pages.ui.shell.page import hold, set_params, uncut

KIND = "ablate"
LIMIT, N_STEPS, N_ORDERS = 60, 5, 3
"""Photographs of each slice, points of a curve and random orders, in a quick trial."""
NONE = (
    "Whether {0} needs the neurons that labels set apart is not known yet. <code>csp ablate BUNDLE "
    "--layer NAME --keep</code> holds more and more of them still."
)


def section(bundle: Bundle, model: str) -> None:
    """The curves of one layer, or how to get some, and a way to draw others."""
    layers = layers_curved(bundle, model)
    left = fresh(bundle, model)
    if not layers and left is None and not running.layers_of(bundle, model):
        return
    show("<h2 class='csp-h' id='curves'>Does it need what its labels name?</h2>")
    if left is not None:
        with st.container(key="ablated"):
            draw(_figures(bundle, model, left))
            running.keep_or_drop(KIND, bundle, model, are_known=left.layer in layers, keep=_keep)
    elif layers:
        layer, note = pick("layer", st.query_params.get("curves"), layers)
        problems.notes((note,) if note else ())
        if len(layers) > 1:
            hold("_curves", layer)
            st.segmented_control(
                "Layer",
                layers,
                key="_curves",
                on_change=uncut(
                    lambda: set_params(curves=st.session_state["_curves"] or layers[0])
                ),
            )
        draw(kept(bundle, store.MEMO, model, layer))
    else:
        show(f"<p class='csp-lead csp-left'>{NONE.format(plain(model))}</p>")
    form(bundle, model)


def draw(found: Curved) -> None:
    """The sentence, the figure, the numbers."""
    show(f"<p class='csp-lead csp-left'>{plain(found.sentence)}</p>")
    if found.details:
        show(f"<p class='csp-left'>{plain(found.details)}</p>")
    show(drawing.figure(found))
    show(drawing.last(found))
    show(drawing.note(found))


def form(bundle: Bundle, model: str) -> None:
    """Which layer and words, and the trial that runs; or why nothing is tried here."""
    why = running.why_not(bundle, model)
    if why:
        show(f"<p class='csp-quiet'>{plain(why)}</p>")
        return
    if not running.layers_of(bundle, model):
        return
    is_open = running.held(KIND, bundle, model) is not None
    with st.expander("Hold more and more of a layer still", expanded=is_open):
        if not running.is_awaited(KIND, bundle, model):
            _fields(bundle, model)


def _fields(bundle: Bundle, model: str) -> None:
    labelled = [each for each in running.layers_of(bundle, model) if bundle.methods(model, each)]
    if not labelled:
        st.text(f"No layer of {model} has labels; 'csp label' makes some.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer = st.selectbox("Layer", labelled, key="ablate_layer", width=200)
        mode = st.selectbox(
            "Held at", MODES, key="ablate_mode", format_func=trying.HELD.__getitem__, width=250
        )
    words = st.text_input(
        "Words of labels",
        key="ablate_words",
        placeholder="patch, sticker",
        help="Also hold the neurons whose label has one of these words, with commas between them.",
    )
    prints = st.checkbox(
        "Also print the name of another class in a corner of every photograph", key="ablate_print"
    )
    images, output = running.images_field(KIND, bundle, model, "slice and group"), ""
    if bundle.intervention(model) is None:
        names = bundle.manifest.inputs["models"][model].get("class_names") or ()
        output = st.selectbox("Output", names, key="ablate_output", width=250) or ""
    st.button(
        "Draw curves",
        type="primary",
        key="ablate_start",
        on_click=_start,
        args=(bundle, model, layer, mode, words, prints, images, output),
    )
    show(
        f"<p class='csp-quiet'>{LIMIT} photographs of each slice and up to a fifth of the layer, "
        "in a process of its own: a minute or so.</p>"
    )


def _start(
    bundle: Bundle,
    model: str,
    layer: str,
    mode: str,
    words: str,
    prints: bool,
    images: str,
    output: str,
) -> None:
    """Start the process."""
    if not images and not running.draws_its_own(bundle, model):
        running.refuse(KIND, "Which photographs? Name a table of them.")
        return
    arguments = [
        f"--layer={layer}",
        f"--mode={mode}",
        f"--limit={LIMIT}",
        f"--steps={N_STEPS}",
        f"--orders={N_ORDERS}",
    ]
    if words.strip(" ,"):
        arguments.append(f"--words={words.strip(' ,')}")
    if prints:
        arguments.append("--print-names")
    if output:
        arguments.append(f"--output={output}")
    reads = {"--images=": images} if images else {}
    running.start(KIND, bundle, model, arguments, reads)


def fresh(bundle: Bundle, model: str) -> Left | None:
    """What came of the trial of this session, if one has ended."""
    return running.read(KIND, bundle, model, read_curves)


def _figures(bundle: Bundle, model: str, left: Left) -> Curved:
    """Its figures, worked out once."""
    folder = running.result(KIND, bundle, model)
    key = ("fresh curves", str(folder), model, left.layer)
    return store.MEMO.once(key, lambda: figures(model, left.layer, left.stored))


def _keep(bundle: Bundle, model: str) -> None:
    def work() -> dict[str, str]:
        left = fresh(bundle, model)
        if left is None:
            raise InputError("There is no result to keep; draw the curves again.")
        add_curves(bundle.path, model, left.layer, left.stored)
        return {"curves": left.layer}

    running.keep(KIND, bundle, model, work)
