"""Look for factors now: choose a layer, wait for another process, keep what came of it."""

from __future__ import annotations

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.pipeline.factoring.keeping import Left, add_factors, read_factors
from pages.ui.audit import running
from pages.ui.parts.cards import show

KIND = "factors"
LIMIT, LIMIT_OF_A_TABLE = 100, 300
"""Photographs of each slice in a quick look: those that the demo draws, and those of a table."""


def layers_of(bundle: Bundle, model: str) -> list[str]:
    """Layers in which one may look: of a classifier with named outputs, and not latents."""
    if not bundle.manifest.inputs["models"][model].get("class_names"):
        return []
    return [layer for layer in bundle.layers(model) if "+" not in layer]


def form(bundle: Bundle, model: str) -> None:
    """Where to look, and the search that runs."""
    layers = layers_of(bundle, model)
    if not layers or not running.is_possible(bundle, model):
        return
    is_open = running.held(KIND, bundle, model) is not None
    with st.expander("Look for factors now", expanded=is_open):
        if not running.is_awaited(KIND, bundle, model):
            _fields(bundle, model, layers)


def _fields(bundle: Bundle, model: str, layers: list[str]) -> None:
    layer = st.selectbox("Layer", layers, key="factors_layer", width=200)
    images = running.images_field(KIND, bundle, model, "group")
    st.button(
        "Look for them",
        type="primary",
        key="factors_start",
        on_click=_start,
        args=(bundle, model, layer, images),
    )
    limit = LIMIT if running.draws_its_own(bundle, model) else LIMIT_OF_A_TABLE
    show(
        f"<p class='csp-quiet'>At most {limit} photographs of each slice, in a process of its own: "
        "some rank the factors, others tell whether they hold. It takes a minute or so.</p>"
    )


def _start(bundle: Bundle, model: str, layer: str, images: str) -> None:
    """Start the process."""
    if not images and not running.draws_its_own(bundle, model):
        running.refuse(KIND, "Which photographs? Name a table of them.")
        return
    limit = LIMIT_OF_A_TABLE if images else LIMIT
    reads = {"--images=": images} if images else {}
    running.start(KIND, bundle, model, [f"--layer={layer}", f"--limit={limit}"], reads)


def fresh(bundle: Bundle, model: str) -> Left | None:
    """What came of the search of this session, if one has ended."""
    return running.read(KIND, bundle, model, read_factors)


def keep(bundle: Bundle, model: str) -> None:
    """Put the factors that were found into the bundle."""

    def work() -> dict[str, str]:
        left = fresh(bundle, model)
        if left is None:
            raise InputError("There is no result to keep; look again.")
        add_factors(bundle.path, model, left.layer, left.stored, left.seed)
        return {"factors": left.layer}

    running.keep(KIND, bundle, model, work)
