"""Audit: what adding an artefact to photographs does to a decision, and which neurons carry it."""

import streamlit as st

from csp_engine.bundle import Bundle, StoredIntervention
from csp_engine.views.address import View, pick
from csp_engine.views.audit.associations import in_question, models_associated
from csp_engine.views.audit.factors import models_factored
from csp_engine.views.audit.interventions import (
    audited,
    conclusion,
    effects,
    models_with,
    one_output,
)
from pages.ui.audit import (
    association,
    carrying,
    concept_set,
    effect,
    factoring,
    fixing,
    judging,
    pairing,
    reporting,
    trying,
)
from pages.ui.audit.curves import section as curves
from pages.ui.audit.marks import section as marks
from pages.ui.parts.cards import plain, show
from pages.ui.parts.contents import contents
from pages.ui.shell import problems
from pages.ui.shell.page import hold, opened, set_params, uncut
from pages.ui.table import narrowing

NONE = (
    "No pairs of images were tried on this bundle's networks. A pair is the same photograph with "
    "and without one artefact; with a table of them, 'csp intervene BUNDLE --pairs pairs.csv "
    "--output NAME' measures what the artefact does to an output and which neurons carry it."
)


BLIND = (
    "Blind: what is known of single neurons, by interventions, association, labels or the verdicts "
    "of others, is not shown on this page."
)


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    models = models_with(bundle)
    if not models:
        show("<h1 class='csp-title'>Does the decision rest on what should not matter?</h1>")
        st.text(NONE)
        if trying.asked_for():
            fix_alone(bundle, view)
        pairs_alone(bundle, view)
        factors_alone(bundle, view)
        association_alone(bundle, view)
        direction_alone(bundle, view)
        if not trying.asked_for():
            fix_alone(bundle, view)
        if not is_blind():
            reporting.section(bundle, view, view.model)
        return
    model, note = pick("model", view.model, models)
    stored = bundle.intervention(model)
    assert stored is not None
    with problems.caught():
        draw(bundle, view, model, models, stored, note or "")


def draw(
    bundle: Bundle,
    view: View,
    model: str,
    models: tuple[str, ...],
    stored: StoredIntervention,
    note: str,
) -> None:
    """The conclusion, the effect of every artefact, and what carries one of them."""
    found = effects(stored)
    show(
        f"<p class='csp-id'>{plain(view.bundle)} · {plain(model)}</p><h1 class='csp-title'>What "
        f"moves {plain(stored.output)}?</h1><p class='csp-lead'>"
        f"{plain(conclusion(stored.output, found))}</p>"
    )
    names = [each.artefact for each in found]
    usual = next(iter(in_question(names, concept_set.chosen())), names[0])
    artefact, other = pick("artefact", st.query_params.get("artefact") or usual, names)
    problems.notes(tuple(filter(None, (note if view.model not in models else "", other))))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        box("Network", "model", model, models)
        narrowing.method_box(bundle, view)
        contents()
    if trying.asked_for() and not is_blind():
        with problems.caught():
            fixing.section(bundle, model)
    effect.section(bundle, model, stored)
    if other_outputs := one_output(bundle, model, stored.output):
        show(f"<p class='csp-quiet'>{plain(other_outputs)}</p>")
    if is_blind():
        show(f"<p class='csp-quiet'>{BLIND}</p>")
        with problems.caught():
            judging.section(bundle, view, model, is_blind=True)
        return
    with problems.caught():
        pairing.section(bundle, model)
    box("Artefact", "artefact", artefact, tuple(each.artefact for each in found))
    chosen = audited(bundle, model, artefact, view.method)
    assert chosen is not None
    carrying.section(bundle, view, model, stored, chosen)
    with problems.caught():
        factoring.section(bundle, view, model)
    with problems.caught():
        association.section(bundle, view, model, artefact)
    with problems.caught():
        marks.section(bundle, view, model)
    if not trying.asked_for():
        with problems.caught():
            fixing.section(bundle, model)
    with problems.caught():
        curves.section(bundle, model)
    with problems.caught():
        judging.section(bundle, view, model, is_blind=False)
    reporting.section(bundle, view, model)


def pairs_alone(bundle: Bundle, view: View) -> None:
    """A way to try some pairs, where none were tried."""
    names = bundle.model_names
    if not names or is_blind():
        return
    model, _ = pick("model", view.model, names)
    with problems.caught():
        if len(names) > 1 and not models_associated(bundle):
            box("Network", "model", model, names)
        pairing.section(bundle, model)


def fix_alone(bundle: Bundle, view: View) -> None:
    """A way to hold neurons still, and what came of it, where no pairs were tried."""
    if bundle.model_names and not is_blind():
        model, _ = pick("model", view.model, bundle.model_names)
        with problems.caught():
            fixing.section(bundle, model)
        with problems.caught():
            curves.section(bundle, model)


def factors_alone(bundle: Bundle, view: View) -> None:
    """What pushes wrong decisions, where no pairs were tried."""
    models = models_factored(bundle) or bundle.model_names
    if models and not is_blind():
        model, _ = pick("model", view.model, models)
        with problems.caught():
            factoring.section(bundle, view, model)


def association_alone(bundle: Bundle, view: View) -> None:
    """What can be said where no pairs were tried."""
    models = models_associated(bundle)
    if not models or is_blind():
        return
    model, note = pick("model", view.model, models)
    problems.notes((note,) if note else ())
    with problems.caught():
        box("Network", "model", model, models)
        association.section(bundle, view, model)


def direction_alone(bundle: Bundle, view: View) -> None:
    """A direction from a few images, where no pairs were tried."""
    if bundle.model_names and not is_blind():
        model, _ = pick("model", view.model, bundle.model_names)
        with problems.caught():
            marks.section(bundle, view, model)


def is_blind() -> bool:
    """Whether what others know of neurons is hidden from whoever judges them."""
    return st.query_params.get("blind") == "yes"


def box(title: str, name: str, value: str, options: tuple[str, ...]) -> None:
    """A choice that the address holds."""
    hold(f"_{name}", value)
    st.selectbox(
        title,
        options,
        key=f"_{name}",
        width=220,
        on_change=uncut(lambda: set_params(**{name: st.session_state[f"_{name}"]})),
    )


main()
