"""Search: words, an image or a neuron in; neurons or images out, and what chance would give."""

import streamlit as st

from csp_engine.bundle import Bundle
from csp_engine.printable import shown_spec
from csp_engine.views import lists
from csp_engine.views.address import FINDS, View, with_method
from csp_engine.views.finding import standing
from csp_engine.views.finding.examples import pictured
from csp_engine.views.finding.index import searchable_methods
from csp_engine.views.finding.query import title_of
from csp_engine.views.neuron.card import NeuronCard, first_exemplars, where_of
from csp_engine.views.places import concept_names, scoring_methods
from pages.ui.parts import exporting
from pages.ui.parts.cards import Packs, card_list, markdown_text, plain, show
from pages.ui.parts.words import term
from pages.ui.search import asking, by_column
from pages.ui.search import results as outcome
from pages.ui.shell import problems, reviewer, store
from pages.ui.shell.page import hold, link, opened, set_params, uncut
from pages.ui.table import narrowing

FIND_TITLES = {
    "neurons": "Neurons",
    "families": "By meaning",
    "layers": "Layer by layer",
    "images": "Probe images",
}


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    methods = searchable_methods(bundle)
    if not methods:
        show("<h1 class='csp-title'>Find neurons by what they respond to</h1>")
        missing = "no labels yet; add some with 'csp label'"
        if scoring_methods(bundle):
            missing = "no search index yet; run 'csp build' again to finish it"
        st.text(f"Bundle {view.bundle} has {missing}.")
        return
    view = with_method(view, methods)
    asked = view.q or (title_of(view) if view.has_query else view.column)
    if view.is_asking:
        show(f"<h1 class='csp-unseen'>Search: {plain(asked)}</h1>")
    else:
        show("<h1 class='csp-title'>Find neurons by what they respond to</h1>")
    asking.boxes(bundle, view)
    asking.warm_up(view)
    if not view.is_asking:
        start(bundle, view)
        return
    with problems.caught():
        if view.has_query:
            results(bundle, view)
        else:
            by_column.results(bundle, view)


def start(bundle: Bundle, view: View) -> None:
    """Before the first search."""
    show(
        "<p class='csp-lead csp-left'>Type a word or a few, or give an image. The neurons "
        "that respond to it most come first, beside the images that excite them, and you are told "
        "whether that is more than chance would give.</p>"
    )
    with problems.caught():
        examples(bundle, view)
    ways(bundle)
    asking.vocabulary(bundle, view)


N_EXAMPLES = 9


def examples(bundle: Bundle, view: View) -> None:
    """A few searches to follow, each with what excites a neuron of its first answers."""
    cards = [
        NeuronCard(
            title=text,
            score="",
            id=where_of(bundle, neuron),
            note="",
            is_reliable=True,
            params=view.search_params(text),
            images=first_exemplars(bundle, neuron, 6),
        )
        for text, neuron in pictured(bundle, store.MEMO, view.method, N_EXAMPLES)
    ]
    if cards:
        show(
            "<h2 class='csp-h'>For example <span class='csp-quiet'>each with one of the first "
            "answers</span></h2>"
        )
        packs = Packs(view.bundle, bundle)
        card_list(cards, packs, label="Example searches", key="pictured", page="search")


def ways(bundle: Bundle) -> None:
    """All that a search can start from."""
    told = [
        f"<b>Words.</b> {term('vocabulary', 'Words of the vocabulary')} are answered at once; for "
        "others the encoder is loaded first. With commas between them, several are looked for "
        "together.",
        "<b>But not.</b> Words that the answer is to stay away from: a patch, but not a blue one.",
        "<b>By image.</b> Choose or paste one: which neurons respond to what it shows?",
    ]
    if concept_names(bundle):
        told.append(
            f"<b>By {term('concept column')}.</b> Which neurons tell images with something from "
            "images without it? Neither words nor an encoder decide."
        )
    told.append("<b>From a neuron.</b> On its page, <i>Find neurons like it</i> looks for its kin.")
    items = "".join(f"<li>{each}</li>" for each in told)
    show(f"<h2 class='csp-h'>What can be asked</h2><ul class='csp-limits csp-left'>{items}</ul>")


def results(bundle: Bundle, view: View) -> None:
    """What was found, as the URL wants it shown."""
    if store.is_quick(bundle, view):
        query = store.query_of(bundle, view)
    else:
        spec = markdown_text(shown_spec(bundle.manifest.inputs["encoder"]["spec"]))
        with st.spinner(f"Not in the vocabulary: loading the encoder {spec} once…"):
            query = store.query_of(bundle, view)
    line = st.container(horizontal=True, vertical_alignment="center", key="strip_found")
    with line:
        hold("_find", view.find)
        st.segmented_control(
            "Results",
            FINDS,
            format_func=FIND_TITLES.__getitem__,
            key="_find",
            required=True,
            label_visibility="collapsed",
            on_change=uncut(lambda: set_params(find=st.session_state["_find"], page="")),
        )
        narrowing.model_pills(bundle)
        link("layer", "As a table", view.params(unit="", k="", find="", page=""))
    assert query is not None
    if view.find == "images":
        outcome.images(bundle, view, query)
        outcome.asked(view, query)
        return
    whole = lists.searched(bundle, store.MEMO, view, query, reviewer.column(bundle))
    keep = lists.narrowing_of(st.query_params, whole)
    problems.notes(keep.notes)
    narrowing.folded(line, bundle, view, whole, keep)
    rows = lists.ordered(whole, view, keep)
    if rows.empty:
        st.text(
            "No neuron passes these filters; widen or clear one of them."
            if len(whole)
            else "No neuron here has evidence: no image excites one more than another. Choose "
            "another layer, or build again with more images, which differ from each other."
        )
        return
    judged = standing.judged(bundle, store.MEMO, query, view.method, whole)
    outcome.summary(bundle, view, query, judged, rows, len(whole))
    outcome.did_you_mean(bundle, view, judged)
    if view.find == "families":
        outcome.by_family(bundle, view, keep, rows, judged)
    elif view.find == "layers":
        outcome.by_layer(bundle, view, keep, rows, judged)
    else:
        outcome.merged(bundle, view, keep, rows, judged)
    outcome.asked(view, query)
    first = rows.iloc[: standing.RANKED]
    what = f"the first {len(first)}" if len(first) < len(rows) else "these neurons"
    title = lists.title_of(view, keep)
    exporting.rows_button(bundle, first, title, what=what, key="export_pages")


main()
