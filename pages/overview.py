"""Overview: what is being looked at, the state of each layer, and where to start."""

import pandas as pd
import streamlit as st

from csp_engine import provenance
from csp_engine.bundle import Bundle
from csp_engine.static_pages import of_layers
from pages.ui import exporting, finding, numbers, problems, store, table
from pages.ui.cards import Packs, facts, plain, show, tile_grid
from pages.ui.evidence import pair_tiles
from pages.ui.neurons import best_label, method_title
from pages.ui.page import bundle_picker, go, link, opened
from pages.ui.state import View


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    methods = store.searchable_methods(bundle)
    method = methods[0] if methods else view.method
    with st.container(horizontal=True, vertical_alignment="bottom"):
        with st.container():
            models = ", ".join(bundle.model_names)
            n_neurons = sum(
                bundle.n_units(m, layer) for m in bundle.model_names for layer in bundle.layers(m)
            )
            show(
                f"<h1 class='csp-title'>{plain(view.bundle)}</h1><p class='csp-lead'>"
                f"{numbers.count(n_neurons)} neurons of {plain(models)}, described by what excites "
                f"them in {numbers.count(bundle.n_images)} images.</p>"
            )
        bundle_picker(view.bundle)
    if methods:
        with problems.caught():
            search_box(view, bundle, method)
    with problems.caught():
        one_neuron(bundle, view, method)
    with problems.caught():
        layer_table(bundle, view, method)
    with problems.caught():
        made_from(bundle)


def search_box(view: View, bundle: Bundle, method: str) -> None:
    """Search from here, or follow an example."""
    query = st.text_input(
        "Find neurons by what they respond to",
        type="search",
        placeholder="a word or a short description",
        max_chars=300,
    )
    if query:
        go("search", view.search_params(query, method=method))
    examples = finding.example_queries(bundle, method)
    if examples:
        with st.container(
            horizontal=True, vertical_alignment="center", gap="xsmall", key="examples"
        ):
            st.caption("For example", width="content")
            for text in examples:
                link("search", text, view.search_params(text, method=method))


def one_neuron(bundle: Bundle, view: View, method: str) -> None:
    """How to read a neuron, on the clearest one."""
    neuron = finding.showcase(bundle, method)
    if neuron is None:
        return
    here = View(view.bundle, neuron.model, neuron.layer, neuron.unit, method)
    label = best_label(bundle, neuron.model, neuron.layer, neuron.unit, method)
    st.subheader("How to read a neuron")
    show(
        "<p class='csp-lead csp-key'>Each pair shows <span></span>an image that excites the neuron "
        "and <span class='quiet'></span>the most similar image that leaves it quiet. What the "
        "first has and the second lacks is what the neuron stands for; here "
        f"{plain(method_title(method))} says <b dir='auto'>{plain(label.text)}</b>.</p>"
    )
    packs = Packs(view.bundle, bundle)
    tile_grid(
        pair_tiles(bundle, here, 4),
        packs,
        label=f"Exemplars of {neuron} beside their contrast images",
        key="showcase",
    )
    with st.container(key="open"):
        link("neuron", f"Open {neuron}", here.params())


def layer_table(bundle: Bundle, view: View, method: str) -> None:
    """Every layer, with how many of its neurons can be trusted."""
    rows = []
    for model in bundle.model_names:
        for layer in bundle.layers(model):
            units = bundle.units(model, layer)
            row = {"Model": model, "Layer": layer, "Neurons": len(units)}
            for key in ("dead", "dense", "constant"):
                row[key.capitalize()] = int(units[f"is_{key}"].sum())
            for each in bundle.methods(model, layer):
                n_reliable = int(bundle.scores(model, layer, each).reliable_u.sum())
                row[f"Labelled · {method_title(each)}"] = n_reliable
            rows.append(row)
    st.subheader("Layers")
    event = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        key="layers",
        on_select="rerun",
        selection_mode="single-row",
        alt="Layers with counts of neurons, flags and reliable labels",
    )
    st.caption(
        "Labelled: the best label beats the best label of random image sets of the same size. "
        "Select a row for the table of its neurons."
    )
    chosen = event.selection.rows
    if chosen and 0 <= chosen[0] < len(rows):
        row = rows[chosen[0]]
        here = View(view.bundle, str(row["Model"]), str(row["Layer"]), 0, method)
        go("layer", here.params(unit=""))


def made_from(bundle: Bundle) -> None:
    """What everything here was made from."""
    st.subheader("Made from")
    show(facts(provenance.provenance(bundle)))
    n_neurons = sum(bundle.n_units(*place) for place in table.places(bundle))
    exporting.pages_button(
        bundle, n_neurons, lambda: of_layers(bundle), what="all neurons", key="export_pages"
    )


main()
