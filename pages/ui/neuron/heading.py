"""What stands above the evidence of a neuron: its name, its state, and a conclusion."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import View
from csp_engine.views.conclusion.claims import conclusion_of
from csp_engine.views.confidence import Trust
from csp_engine.views.neuron.label import Heading, heading_of
from pages.ui.parts.cards import badge, plain
from pages.ui.shell import store


def part(name: str, of: str, body: str) -> str:
    """HTML that a step may replace: which place of the page it is, and whose."""
    return f"<div class='csp-part' data-part='{name}' data-of='{plain(of)}'>{body}</div>"


def heading(bundle: Bundle, view: View, trust: Trust | None, *, is_blind: bool) -> tuple[str, str]:
    """What a neuron is called, as text, and the whole heading, as HTML.

    ``trust`` is that of the best label by the view's method, None where it has no labels.
    """
    n_units = numbers.count(bundle.n_units(view.model, view.layer))
    place = (
        f"<p class='csp-id'>{plain(view.model)} / {plain(view.layer)} / {view.unit} "
        f"<span>(of {n_units})</span></p>"
    )
    if is_blind:
        return "judged by its images", (
            f"{place}<h1 class='csp-title none'>Judged by its images</h1><p class='csp-lead'>"
            "Blind: labels, scores and what others said are not shown.</p>"
        )
    held = heading_of(bundle, view.neuron, view.method)
    label = held.label
    badges = "".join(badge(state.word, "warn") for state in held.states)
    if label.is_named:
        badges += worth(held, trust)
    kind = " dir='auto'" if label.is_named else ""
    css = "csp-title" if label.is_named else "csp-title none"
    return label.heading, (
        f"{place}<div class='csp-head'><h1 class='{css}'{kind}>{plain(label.heading)}</h1>"
        f"<div>{badges}</div></div>{concluded(bundle, view, trust)}"
        f"{reasons([*map(str, held.reasons), trust.doubt if trust else ''])}"
    )


def worth(held: Heading, trust: Trust | None) -> str:
    """Beside a name: how likely it is right, or else which method has tested it; as HTML."""
    if trust is None or not trust.is_learnt:
        return badge(f"reliable by {held.method}", "good") if held.label.is_reliable else ""
    return badge(trust.words, "good" if trust.is_good else "warn" if trust.doubts else "")


def concluded(bundle: Bundle, view: View, trust: Trust | None) -> str:
    """What is measured of the neuron, as a paragraph of HTML."""
    claims = conclusion_of(bundle, store.MEMO, view.neuron, view.method, trust)
    said = " ".join(
        f"<span class='{claim.kind}'>"
        + "".join(
            f"<bdi>{plain(text)}</bdi>" if named else plain(text) for text, named in claim.words
        )
        + "</span>"
        for claim in claims
    )
    return f"<p class='csp-lead csp-concluded'>{said}</p>" if said else ""


def reasons(sentences: list[str]) -> str:
    """Why the neuron is in a state, or has no reliable label, to unfold; as HTML."""
    told = " ".join(filter(None, sentences))
    if not told:
        return ""
    return f"<details class='csp-fold'><summary>Why</summary><p>{plain(told)}</p></details>"
