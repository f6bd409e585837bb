"""One neuron and what every method calls it: what the figures of the page mean, in pictures."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.address import View
from csp_engine.views.images import choices
from csp_engine.views.table.summary import Answer, Telling
from pages.ui.parts.cards import Packs, badge, page_url, plain, show, tile_grid
from pages.ui.shell import store
from pages.ui.shell.page import go

N_IMAGES, TILE_PX = 5, 84


def section(bundle: Bundle, view: View, found: Telling) -> None:
    """Its strongest exemplars, and the answers."""
    neuron = found.neuron
    here = view.params(model=neuron.model, layer=neuron.layer, unit=neuron.unit)
    n = len(found.answers)
    count = WORDS.get(n, numbers.count(n))
    truth = f" It truly follows <b dir='auto'>{plain(found.truth)}</b>." if found.truth else ""
    href = plain(page_url("neuron", here))
    show(
        f"<h2 class='csp-h'>One neuron, {count} answers</h2><p class='csp-quiet'>What excites "
        f"<a target='_self' href='{href}'>{plain(neuron)}</a> most, and what each method calls "
        f"it.{truth}</p>"
    )
    chosen = choices.chosen_images(
        bundle, store.MEMO, neuron, "exemplars", limit=N_IMAGES, is_hiding=True
    )
    if chosen.parts:
        picked = tile_grid(
            chosen.parts[0].tiles[:N_IMAGES],
            Packs(view.bundle, bundle),
            label=f"Exemplars of {neuron}",
            key="telling",
            tile_px=TILE_PX,
        )
        if picked is not None:
            go("search", view.search_params("", image=picked))
    show(
        f"<table class='csp-table answers' style='--cells: 1' aria-label='What each method calls "
        f"{plain(neuron)}'><thead><tr><th scope='col'>method</th>"
        "<th scope='col' class='text'>best label</th></tr></thead>"
        f"<tbody>{''.join(map(row, found.answers))}</tbody></table>"
    )


WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}


def row(answer: Answer) -> str:
    """What a method says, and whether that is right."""
    mark = ""
    if answer.is_right is not None:
        mark = badge("right", "good") if answer.is_right else badge("wrong", "warn")
    said = f"<span dir='auto'>{plain(answer.text)}</span> {mark}" if answer.text else "no label"
    return (
        f"<tr><th scope='row'>{plain(method_title(answer.method))}</th>"
        f"<td class='text'>{said}</td></tr>"
    )
