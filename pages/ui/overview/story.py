"""The first thing on the start page: one decision that turns, and the neurons that turn it."""

from __future__ import annotations

import base64

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import View
from csp_engine.views.neuron.card import NeuronCard, neuron_card
from csp_engine.views.overview.story import Shot, Story
from pages.ui.parts.cards import Packs, card_list, page_url, plain, show
from pages.ui.parts.words import term

WHAT = "What every neuron of a vision network responds to, and what its decisions rest on"
"""What this product is about, above everything else."""


def section(bundle: Bundle, view: View, story: Story) -> None:
    """The decision, who carries it, and the way to all of it."""
    here = view.params(model=story.model, layer="", unit="")
    address = page_url("audit", {**here, "artefact": story.artefact})
    told = (
        f"<p class='csp-id'>{WHAT}</p>"
        f"<h1 class='csp-title csp-loud'>{plain(story.headline)}</h1>"
        f"<p class='csp-lead'>{plain(story.tried)}</p>"
        f"<p class='csp-lead'>{plain(story.carried)}</p>"
        f"<p class='csp-quiet'>{plain(story.compared)}</p><p><a class='csp-button' target='_self' "
        f"href='{plain(address)}'>See what else moves {plain(story.output)}</a></p>"
    )
    seen = pair(bundle, story) if story.pair else ""
    show(f"<div class='csp-story'><div>{told}</div>{seen}</div>")
    if story.carriers:
        cards = [card(bundle, view, story, at) for at in range(len(story.carriers))]
        scope = story.found.scope
        assert scope is not None
        more = f", <a target='_self' href='{plain(address)}'>all {scope.n_carriers}</a>"
        show(
            f"<h2 class='csp-h'>The neurons that carry it <span class='csp-quiet'>strongest of "
            f"{plain(scope.layer)}, with their part of the {term('effect')}"
            f"{more if (scope.n_carriers or 0) > len(cards) else ''}</span></h2>"
        )
        card_list(cards, Packs(view.bundle, bundle), label="Strongest carriers", key="carriers")


def pair(bundle: Bundle, story: Story) -> str:
    """One photograph without and with the artefact, each with the decision below it."""
    assert story.pair is not None
    before, after = story.pair
    n = story.n_pairs_shown
    which = "The pair of median effect of" if n > 2 else "One of"
    kept = f"{which} {numbers.count(n)} pictured pairs" if n > 1 else "The only pictured pair"
    return (
        f"<div class='pair'><div>{shot(bundle, story, before)}<span aria-hidden='true'>→</span>"
        f"{shot(bundle, story, after)}</div><p class='csp-quiet'>{kept} whose decision turns, of "
        f"{plain(story.images)}.</p></div>"
    )


def shot(bundle: Bundle, story: Story, each: Shot) -> str:
    """One version of the photograph."""
    content = base64.b64encode(bundle.shown_pair(story.model, each.picture)).decode()
    told = each.told(story.output)
    return (
        f"<figure class='{'called' if each.is_called else 'other'}'>"
        f"<img src='data:image/webp;base64,{content}' "
        f"alt='{plain(f'{each.version} {story.artefact}: {told}')}'>"
        f"<figcaption>{plain(each.version)} {plain(story.artefact)}<b>{plain(told)}</b>"
        "</figcaption></figure>"
    )


def card(bundle: Bundle, view: View, story: Story, at: int) -> NeuronCard:
    """One carrier: its label, its part of the effect, and what it truly responds to."""
    each = story.carriers[at]
    neuron = each.neuron
    return neuron_card(
        bundle,
        neuron,
        view.method,
        view.params(model=neuron.model, layer=neuron.layer, unit=neuron.unit),
        score=f"{100 * each.share:.0f} %",
        note=f"truly responds to {each.truth}" if each.truth and each.truth != "none" else "",
        n=6,
    )
