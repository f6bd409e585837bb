"""Overview: what is being looked at, the state of each layer, and where to start."""

import base64

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle, kinds
from csp_engine.exports.html import of_layers
from csp_engine.methods import method_title
from csp_engine.views import glossary
from csp_engine.views.address import View
from csp_engine.views.finding.examples import showcase, starting_points
from csp_engine.views.finding.index import searchable_methods
from csp_engine.views.images.pairs import pair_tiles
from csp_engine.views.images.seen import cut_notices
from csp_engine.views.neuron.label import BestLabel, best_label, when_reliable
from csp_engine.views.overview import provenance
from csp_engine.views.overview.story import story_of
from csp_engine.views.places import places
from csp_engine.views.sentence import listed
from pages.ui.overview import layers, story, summary
from pages.ui.parts import exporting
from pages.ui.parts.cards import Packs, facts, page_url, plain, show, tile_grid
from pages.ui.parts.words import term
from pages.ui.search import asking
from pages.ui.shell import problems, store
from pages.ui.shell.page import bundle_picker, go, link, opened


def main() -> None:
    """Draw the page."""
    found = opened()
    if found is None:
        return
    bundle, view = found
    methods = searchable_methods(bundle)
    method = methods[0] if methods else view.method
    bundle_picker(view.bundle)
    told = None
    with problems.caught():
        told = story_of(bundle, store.MEMO, method)
    if told is None:
        name = f"<h1 class='csp-title csp-loud'>{plain(view.bundle)}</h1>"
        show(f"<p class='csp-id'>{story.WHAT}</p>{name}{size(bundle)}")
        with problems.caught():
            summary.section(bundle, view, method)
    else:
        with problems.caught():
            story.section(bundle, view, told)
    if methods:
        with problems.caught():
            search_box(view, bundle, method)
    with problems.caught():
        one_neuron(bundle, view, method)
    with problems.caught():
        layers.section(bundle, view, method)
    with problems.caught():
        made_from(bundle, "" if told is None else size(bundle))


def size(bundle: Bundle) -> str:
    """How many neurons of what, on how many images, as HTML."""
    n_neurons = sum(bundle.n_units(*place) for place in places(bundle))
    return (
        f"<p class='csp-lead'>{numbers.count(n_neurons)} neurons of "
        f"{plain(listed(bundle.model_names))}, described by what excites them in "
        f"{numbers.count(bundle.n_images)} image{'' if bundle.n_images == 1 else 's'}.</p>"
    )


def search_box(view: View, bundle: Bundle, method: str) -> None:
    """Search from here, or follow an example."""
    query = st.text_input(
        "Find neurons by what they respond to",
        type="search",
        placeholder="a word or a short description",
        max_chars=300,
    )
    asking.warm_up(view, page_url("search", view.search_params("", method=method)))
    if query.strip():  # Enter leads there without this; leaving the box does not
        go("search", view.search_params(query, method=method))
    examples = starting_points(bundle, store.MEMO, method)
    if examples:
        with st.container(
            horizontal=True, vertical_alignment="center", gap="xsmall", key="examples"
        ):
            st.caption("For example", width="content")
            for text in examples:
                link("search", text, view.search_params(text, method=method))


def one_neuron(bundle: Bundle, view: View, method: str) -> None:
    """How to read a neuron, on the clearest one."""
    neuron = showcase(bundle, store.MEMO, method)
    if neuron is None:
        return
    here = View(view.bundle, neuron.model, neuron.layer, neuron.unit, method)
    label = best_label(bundle, neuron, method)
    show("<h2 class='csp-h'>How to read a neuron</h2>")
    show(five_sentences(bundle, here, label))
    packs = Packs(view.bundle, bundle)
    tile_grid(
        pair_tiles(bundle, store.MEMO, neuron, 4),
        packs,
        label=f"Exemplars of {neuron} beside their contrast images",
        key="showcase",
    )
    with st.container(key="open"):
        link("neuron", f"Open {neuron}", here.params())


def five_sentences(bundle: Bundle, here: View, label: BestLabel) -> str:
    """What a neuron is, what its pictures are, and what a name for it is worth; as HTML."""
    title = method_title(here.method)
    method = term(title) if title in glossary.meanings() else plain(title)
    contrast = term("contrast image", "contrast images")
    n_labels = numbers.count(len(bundle.method_labels(here.model, here.layer, here.method)))
    sentences = (
        f"A {term('neuron')} gives every image one number, its {term('activation')}; this one is "
        f"unit {here.unit} of {plain(here.model)} / {plain(here.layer)}.",
        f"<span class='mark'></span>Solid frames show {term('exemplar', 'exemplars')}: of "
        f"{numbers.count(bundle.n_images)} images, those that excite it most.",
        f"<span class='mark quiet'></span>Dashed frames show {contrast}: each looks most "
        "like the exemplar beside it but leaves the neuron quiet.",
        "What the exemplars show and the contrast images lack is what the neuron "
        f"responds to: of {n_labels} {term('label', 'labels')}, {method} finds that "
        f"<b dir='auto'>{plain(label.text)}</b> fits best.",
        f"A label is a guess, called {term('reliable label', 'reliable')} only if it "
        f"{plain(when_reliable(here.method))}; trust the images more than the label.",
    )
    items = "".join(f"<li>{sentence}</li>" for sentence in sentences)
    return f"<ol class='csp-five csp-left'>{items}</ol>"


PARTS = {
    "Probe set": "probe set",
    "Encoder": "encoder",
    "Vocabulary": "vocabulary",
    "Contrast images": "contrast image",
    "Bundle": "bundle",
}


def named(name: str) -> str:
    """The name of an input, with what it means."""
    if name.startswith("Model "):
        return f"{term('target model', 'Model')} {plain(name.removeprefix('Model '))}"
    return term(PARTS[name], name) if name in PARTS else plain(name)


def made_from(bundle: Bundle, said: str) -> None:
    """What everything here was made from; ``said`` is HTML that comes first."""
    show(f"<h2 class='csp-h'>Made from</h2>{said}")
    for notice in cut_notices(bundle):
        show(f"<p class='csp-note'>{plain(notice)}</p>")
    sheets = "".join(sheet(bundle, model) for model in bundle.model_names)
    if sheets:
        show(
            f"<details class='csp-fold'><summary>What the networks see</summary>{sheets}</details>"
        )
    made_from = [(what, problems.told(said)) for what, said in provenance.provenance(bundle)]
    show(facts(made_from, named))
    n_neurons = sum(bundle.n_units(*place) for place in places(bundle))
    exporting.pages_button(
        bundle, n_neurons, lambda: of_layers(bundle), what="all neurons", key="export_pages"
    )


def sheet(bundle: Bundle, model: str) -> str:
    """What a model and the encoder get of a few images, beside the images, as HTML."""
    picture = bundle.seen(model)
    if picture is None:
        return ""
    n_rows = bundle.fact(kinds.SEEN.name(model), "n_rows")
    rows = f"above, images of the probe set; below them, what {model} sees of each"
    rows += "; in the last row, what the encoder sees" if n_rows == 3 else ""
    source = base64.b64encode(picture).decode()
    return (
        f"<figure class='csp-seen'><img src='data:image/webp;base64,{source}' "
        f"alt='{plain(rows)}'><figcaption class='csp-quiet'>"
        f"{plain(rows.capitalize())}.</figcaption></figure>"
    )


main()
