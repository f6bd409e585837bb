"""Steps of the melanoma story that say in sentences what other pages show in full."""

from __future__ import annotations

from dataclasses import replace

from csp_engine.bundle import Bundle
from csp_engine.reviews import as_rows
from csp_engine.views.address import View
from csp_engine.views.audit.agreement import agreement, pair_in_words
from csp_engine.views.case.story import Story
from csp_engine.views.images.pairs import pair_tiles
from csp_engine.views.neuron.looking import said_of_map, why_no_map
from pages.ui.case.charts import lead
from pages.ui.parts.cards import Packs, page_url, plain, show, tile_grid
from pages.ui.shell import reviewer, store
from pages.ui.shell.page import go

N_PAIRS = 4


def clearest(bundle: Bundle, view: View, story: Story) -> None:
    """One carrier with its truth, its pairs and what its map is worth."""
    found = story.clearest
    if found is None:
        lead("No set of neurons that was tried carries half of the effect, so none stands for it.")
        return
    neuron = found.suspect.neuron
    own = View(view.bundle, neuron.model, neuron.layer, neuron.unit, view.method)
    mark, said = "", why_no_map(bundle, neuron, "activation")
    if not said:
        mark, said = said_of_map(bundle, neuron, "activation")
    maps = f"Its own activation as a map. {mark} {said}" if mark else f"Its map: {said}"
    address = plain(page_url("neuron", {**own.params(), "look": "activation"}))
    lead(
        f"{plain(found.sentence)} In each pair, the left image excites it, and the right one is "
        "the most similar image that leaves it quiet."
    )
    image = tile_grid(
        pair_tiles(bundle, store.MEMO, neuron, N_PAIRS),
        Packs(view.bundle, bundle),
        label=f"Exemplars of {neuron} beside their contrast images",
        key="clearest",
    )
    show(
        f"<p class='csp-quiet'>{plain(maps)} <a target='_self' href='{address}'>Its page, with "
        "the map over its images</a></p>"
    )
    if image is not None:
        go("search", view.search_params("", image=image))


def others(story: Story) -> None:
    """Every further artefact: what was shown, and what was looked for and not found."""
    items = "".join(
        f"<li><b dir='auto'>{plain(name)}</b>: {plain(said)}</li>" for name, said in story.others
    )
    show(f"<ul class='csp-limits'>{items}</ul>" if items else "<p>Nothing else was tried.</p>")


def verdicts(bundle: Bundle, view: View, story: Story) -> None:
    """Who judged, how far they agree, and the ways to judge and to the report."""
    told = ["Whether such a neuron may be relied on is for people to say."]
    where = reviewer.place()
    rows = as_rows(bundle, reviewer.database(where)) if where.is_there else []
    found = agreement(rows, story.model)
    if not found.reviewers:
        told.append("Nobody has judged a neuron of this network yet.")
    told += [f"{name} judged {n}." for name, n in found.reviewers]
    told += [pair_in_words(pair) for pair in found.pairs]
    lead(plain(" ".join(told)))
    address = page_url("audit", replace(view, model=story.model, layer="").params(unit=""))
    show(
        f"<p class='csp-links'><a target='_self' href='{plain(address)}'>Judge the suspects, "
        "test other fixes, and take the report along: the page Audit</a></p>"
    )
