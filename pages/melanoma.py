"""Melanoma: a guided audit of a classifier, from its accuracy to the neurons behind it."""

from collections.abc import Callable
from dataclasses import replace

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import ALL_LAYERS, View
from csp_engine.views.audit.interventions import carrier_sentence
from csp_engine.views.case.audit import layers_of, melanoma, methods_of
from csp_engine.views.case.fate import other_model
from csp_engine.views.case.story import Story, story_of
from pages.ui.case import audit as case_audit
from pages.ui.case import fate as case_fate
from pages.ui.case import steps as case_steps
from pages.ui.case import told
from pages.ui.case.charts import lead
from pages.ui.parts import intervened
from pages.ui.parts.cards import plain, show
from pages.ui.shell import problems, store
from pages.ui.shell.page import opened, set_params, uncut

WEAKER = (
    "The following steps need no pairs of photographs: what neurons resemble in words. That is "
    "weaker evidence; it finds candidates, and says of none that a decision rests on it."
)


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    with problems.caught():
        walk(bundle, view)


def walk(bundle: Bundle, view: View) -> None:
    """The steps; what the bundle lacks is said where it would have stood."""
    heading, boxes = st.columns([1.3, 1], gap="medium", vertical_alignment="bottom")
    with heading:
        show(
            "<h1 class='csp-title'>What does a melanoma classifier look at?</h1>"
            "<p class='csp-lead'>A network can be right about a melanoma and still rely on "
            "what lies beside it: a patch, a ruler, ink. These steps lead from its decisions to "
            "the neurons behind them. Every number comes from this bundle, and its evidence is "
            "one click away. <b>For research; not a medical device.</b></p>"
        )
    methods = methods_of(bundle, store.MEMO, view.model) or [view.method]
    if view.method not in methods:
        view = replace(view, method=methods[0])
    known = layers_of(bundle, melanoma(store.MEMO), view.model)
    layers = known if view.is_all_layers or view.layer not in known else (view.layer,)
    with boxes:
        controls(bundle, view, methods, known, layers)
    other_name = other_model(bundle, melanoma(store.MEMO), view.model)
    story = None
    with problems.caught():
        story = story_of(bundle, store.MEMO, melanoma(store.MEMO), view.model, view.method)
    steps = [
        ("How often it is right", lambda: case_steps.accuracy(bundle, view, other_name)),
        *([] if story is None else chapters(bundle, view, story)),
        ("Search for what should and should not matter", lambda: case_steps.searches(bundle, view)),
        ("What influential neurons align with", lambda: case_audit.alignment(bundle, view, layers)),
        ("The spurious neurons", lambda: case_audit.spurious(bundle, view, layers)),
        ("After retraining", lambda: case_fate.retrained(bundle, view, layers, other_name)),
        (
            "What this shows, and what it does not",
            lambda: case_steps.limits(bundle, view, story is not None),
        ),
    ]
    show(contents([title for title, _ in steps]))
    for number, (title, draw) in enumerate(steps, 1):
        if story is not None and number == len(steps) - 4:
            show(f"<p class='csp-lead'>{WEAKER}</p>")
        show(f"<h2 class='csp-step' id='step-{number}'><span>{number}</span> {plain(title)}</h2>")
        with problems.caught():
            draw()


def contents(titles: list[str]) -> str:
    """The steps in a line or two, each a way to it."""
    ways = "".join(
        f"<li><a href='#step-{number}'>{plain(title)}</a></li>"
        for number, title in enumerate(titles, 1)
    )
    return f"<nav aria-label='Steps'><ol class='csp-contents'>{ways}</ol></nav>"


def chapters(bundle: Bundle, view: View, story: Story) -> list[tuple[str, Callable[[], None]]]:
    """What interventions show, from the photograph to a fix; each from the page Audit."""
    stored = bundle.intervention(story.model)
    assert stored is not None
    effect, fix = story.main.effect, story.fix

    def moves() -> None:
        lead(plain(f"{effect.sentence(story.output)} {story.compared}"))
        show(intervened.pairs(bundle, story.model, stored, effect))

    def carried() -> None:
        lead(plain(carrier_sentence(story.main, story.output)))
        if story.main.layers:
            show(intervened.swaps(story.main.layers))

    def mended() -> None:
        if fix is None:
            lead(
                "Nothing was held still in this network yet; the page Audit and 'csp fix' do that."
            )
            return
        lead(plain(f"{fix.sentence} {fix.verdict} {fix.details}"))
        show(intervened.drawing(fix))
        show(f"<p class='csp-left'>{plain(fix.gap_sentence)}</p>")

    return [
        (f"The same photograph, with and without {effect.artefact}", moves),
        ("Which neurons, and which direction, carry it", carried),
        ("The clearest of them", lambda: told.clearest(bundle, view, story)),
        ("The other artefacts, found or not", lambda: told.others(story)),
        ("A fix, and retraining beside it", mended),
        ("What people say of it", lambda: told.verdicts(bundle, view, story)),
    ]


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

    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="strip_case"):
        for name, title, options, shown, width in (
            ("model", "Classifier", models, str, 150),
            ("layer", "Layer", [ALL_LAYERS, *known], all_layers, 150),
            ("method", "Concept vectors by", methods, method_title, 150),
        ):
            st.selectbox(
                title,
                options,
                format_func=shown,
                key=f"_{name}",
                on_change=uncut(changed),
                args=(name,),
                width=width,
            )


def all_layers(layer: str) -> str:
    """A layer in words."""
    return "All layers" if layer == ALL_LAYERS else layer


main()
