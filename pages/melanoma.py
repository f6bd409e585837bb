"""Melanoma: a guided audit of a classifier, from its accuracy to the neurons behind it."""

from dataclasses import replace

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import ALL_LAYERS, View
from csp_engine.views.case.audit import layers_of, melanoma, methods_of
from csp_engine.views.case.fate import other_model
from pages.ui.case import audit as case_audit
from pages.ui.case import fate as case_fate
from pages.ui.case import steps as case_steps
from pages.ui.parts.cards import plain, show
from pages.ui.shell import problems, store
from pages.ui.shell.page import opened, set_params


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    with problems.caught():
        walk(bundle, view)


def walk(bundle: Bundle, view: View) -> None:
    """The six steps; what the bundle lacks is said where it would have stood."""
    show(
        "<h1 class='csp-title'>What does a melanoma classifier look at?</h1>"
        "<p class='csp-lead'>A network can be right about a melanoma and still rely on "
        "the ruler beside it. Six steps lead from its accuracy to the neurons behind it. "
        "Every number comes from this bundle, and its evidence is one click away. <b>For "
        "research; not a medical device.</b></p>"
    )
    methods = methods_of(bundle, store.MEMO, view.model) or [view.method]
    if view.method not in methods:
        view = replace(view, method=methods[0])
    known = layers_of(bundle, melanoma(store.MEMO), view.model)
    layers = known if view.is_all_layers or view.layer not in known else (view.layer,)
    controls(bundle, view, methods, known, layers)
    other_name = other_model(bundle, melanoma(store.MEMO), view.model)
    steps = (
        ("How often it is right", lambda: case_steps.accuracy(bundle, view, other_name)),
        ("Search for what should and should not matter", lambda: case_steps.searches(bundle, view)),
        ("What influential neurons align with", lambda: case_audit.alignment(bundle, view, layers)),
        ("The spurious neurons", lambda: case_audit.spurious(bundle, view, layers)),
        ("After retraining", lambda: case_fate.retrained(bundle, view, layers, other_name)),
        ("What this shows, and what it does not", lambda: case_steps.limits(bundle, view)),
    )  # fmt: skip
    for number, (title, draw) in enumerate(steps, 1):
        show(f"<h2 class='csp-step'><span>{number}</span>{plain(title)}</h2>")
        with problems.caught():
            draw()


def controls(
    bundle: Bundle,
    view: View,
    methods: list[str],
    known: tuple[str, ...],
    layers: tuple[str, ...],
) -> None:
    """Which classifier, which of its layers, and whose concept vectors; held by the URL."""
    concepts = melanoma(store.MEMO)
    models = [m for m in bundle.model_names if layers_of(bundle, concepts, m)] or [view.model]
    if view.model not in models:
        models.insert(0, view.model)
    held = {"_model": view.model, "_method": view.method,
            "_layer": ALL_LAYERS if layers == known else layers[0]}  # fmt: skip
    for key, value in held.items():
        st.session_state[key] = value

    def changed(name: str) -> None:
        value = st.session_state[f"_{name}"]
        cleared = {"unit": "", **({"layer": "", "method": ""} if name == "model" else {})}
        chosen = "" if value == ALL_LAYERS else value
        set_params(**{"bundle": view.bundle, "model": view.model, **cleared, name: chosen})

    with st.container(horizontal=True, vertical_alignment="bottom"):
        for name, title, options, shown, width in (
            ("model", "Classifier", models, str, 190),
            ("layer", "Layer", [ALL_LAYERS, *known], all_layers, 170),
            ("method", "Concept vectors by", methods, method_title, 170),
        ):
            st.selectbox(
                title,
                options,
                format_func=shown,
                key=f"_{name}",
                on_change=changed,
                args=(name,),
                width=width,
            )


def all_layers(layer: str) -> str:
    """A layer in words."""
    return "All layers" if layer == ALL_LAYERS else layer


main()
