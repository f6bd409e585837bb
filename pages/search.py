"""Search: words in, neurons out, with what the encoder was asked and what chance would give."""

from dataclasses import replace

import streamlit as st

from csp_engine.bundle import Bundle
from pages.ui import finding, numbers, problems, store
from pages.ui import results as outcome
from pages.ui.cards import Packs, card_list, markdown_text, show
from pages.ui.neurons import method_title, neuron_card
from pages.ui.page import go, link, opened, set_params
from pages.ui.state import ALL_LAYERS, MAX_QUERY, RESULT_COUNTS, View


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    methods = store.searchable_methods(bundle)
    if not methods:
        st.title("Search")
        st.text(
            f"Bundle {view.bundle} has no search index yet; run 'csp build' again to finish it."
        )
        return
    if view.method not in methods:
        view = replace(view, method=methods[0])
    controls(bundle, view, methods)
    if not view.q:
        start(bundle, view)
        return
    with problems.caught():
        results(bundle, view)


def controls(bundle: Bundle, view: View, methods: tuple[str, ...]) -> None:
    """The boxes; what they hold always comes from the URL."""
    places = {ALL_LAYERS: "All layers"}
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            is_only = len(bundle.model_names) == 1
            places[f"{model}\n{layer}"] = layer if is_only else f"{model} / {layer}"
    here = ALL_LAYERS if view.is_all_layers else f"{view.model}\n{view.layer}"
    held = {
        "_q": view.q,
        "_not": view.but_not,
        "_method": view.method,
        "_layer": here,
        "_k": view.k,
    }
    for key, value in held.items():
        st.session_state[key] = value

    def changed(name: str) -> None:
        value = st.session_state[f"_{name}"]
        if name == "layer":
            model, _, layer = ("", "", "") if value == ALL_LAYERS else value.partition("\n")
            set_params(model=model, layer=layer, unit="")
        else:
            set_params(**{name: value or "", "bundle": view.bundle})

    def box(name: str) -> dict:
        return {"key": f"_{name}", "on_change": changed, "args": (name,)}

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Respond to",
            type="search",
            placeholder="a word or a short description; several with commas",
            max_chars=MAX_QUERY,
            width=420,
            **box("q"),
        )
        st.text_input(
            "But not",
            type="search",
            placeholder="optional",
            max_chars=MAX_QUERY,
            width=220,
            **box("not"),
        )
        st.selectbox("Method", methods, format_func=method_title, width=150, **box("method"))
        st.selectbox(
            "Layer", list(places), format_func=places.__getitem__, width=190, **box("layer")
        )
        st.selectbox("Results", RESULT_COUNTS, width=90, **box("k"))


def start(bundle: Bundle, view: View) -> None:
    """Before the first search."""
    show(
        "<p class='csp-lead'>Neurons are ranked by the cosine between your words and their concept "
        "vectors. Words of the vocabulary answer at once; other words load the encoder first.</p>"
    )
    examples = finding.example_queries(bundle, view.method, 12)
    if examples:
        st.caption("Labels that some neuron here carries reliably")
        with st.container(horizontal=True, gap="xsmall", key="examples"):
            for text in examples:
                link("search", text, view.search_params(text))


def results(bundle: Bundle, view: View) -> None:
    """Ranked neurons."""
    texts = finding.texts_of(bundle, view.q) + finding.texts_of(bundle, view.but_not)
    if store.is_quick(bundle, texts):
        found = finding.find(bundle, view)
    else:
        spec = markdown_text(bundle.manifest.inputs["encoder"]["spec"])
        with st.spinner(f"Not in the vocabulary: loading the encoder {spec} once…"):
            found = finding.find(bundle, view)
    if not found.hits:
        st.text("No neuron with evidence in this layer; choose another layer.")
        return
    packs = Packs(view.bundle, bundle)
    cards = [
        neuron_card(
            bundle,
            view,
            hit.neuron.model,
            hit.neuron.layer,
            hit.neuron.unit,
            score=numbers.score(hit.score),
            note=(
                ""
                if hit.percentile is None
                else numbers.beats(hit.percentile, found.n_draws).replace(" image", "")
            ),
            n=6,
        )
        for hit in found.hits
    ]
    outcome.summary(view, found)
    picked = card_list(cards, packs, label=f"Neurons that respond to {view.q}", key="results")
    outcome.asked(view, found)
    if picked is not None:
        go("neuron", cards[picked].params)


main()
