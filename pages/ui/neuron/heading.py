"""What stands above the evidence of a neuron: its name, its state, and a conclusion."""

from __future__ import annotations

from contextlib import suppress

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.errors import CspError
from csp_engine.views.address import View
from csp_engine.views.conclusion.claims import conclusion_of
from csp_engine.views.confidence import Trust
from csp_engine.views.neuron.label import Heading, best_label, heading_of
from pages.ui.parts.cards import badge, plain
from pages.ui.shell import problems, store


def part(name: str, of: str, body: str) -> str:
    """HTML that a step may replace: which place of the page it is, and whose."""
    return f"<div class='csp-part' data-part='{name}' data-of='{plain(of)}'>{body}</div>"


def heading(bundle: Bundle, view: View, trust: Trust | None, *, is_blind: bool) -> tuple[str, str]:
    """What a neuron is called, as text, and the whole heading, as HTML.

    ``trust`` is that of the best label by the view's method, None where it has no labels.
    """
    if is_blind:
        return blind(bundle, view)
    held = heading_of(bundle, view.neuron, view.method)
    label = held.label
    badges = "".join(badge(state.word, "warn") for state in held.states)
    if label.is_named:
        badges += worth(held, trust)
    kind = " dir='auto'" if label.is_named else ""
    css = "csp-title" if label.is_named else "csp-title none"
    return label.heading, (
        f"{place(bundle, view)}<div class='csp-head'><h1 class='{css}'{kind}>"
        f"{plain(label.heading)}</h1><div>{badges}</div></div>{concluded(bundle, view, trust)}"
        f"{reasons([*map(str, held.reasons), trust.doubt if trust else ''])}"
    )


def place(bundle: Bundle, view: View) -> str:
    """Where the neuron is, as HTML."""
    n_units = numbers.count(bundle.n_units(view.model, view.layer))
    return (
        f"<p class='csp-id'>{plain(view.model)} / {plain(view.layer)} / {view.unit} "
        f"<span>(of {n_units})</span></p>"
    )


def blind(bundle: Bundle, view: View) -> tuple[str, str]:
    """The heading that names nothing."""
    return "judged by its images", (
        f"{place(bundle, view)}<h1 class='csp-title none'>Judged by its images</h1>"
        "<p class='csp-lead'>Blind: labels, scores and what others said are not shown.</p>"
    )


def without_conclusion(
    bundle: Bundle, view: View, error: CspError, *, is_blind: bool
) -> tuple[str, str]:
    """The heading where something that a conclusion rests on cannot be read, and what that is."""
    told = f"<p class='csp-problem' role='alert'>{plain(problems.without_bundles(error))}</p>"
    if is_blind:
        said, head = blind(bundle, view)
        return said, head + told
    title = f"Unit {view.unit}"
    with suppress(CspError):
        title = best_label(bundle, view.neuron, view.method).heading
    return title, (
        f"{place(bundle, view)}<h1 class='csp-title' dir='auto'>{plain(title)}</h1>{told}"
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
