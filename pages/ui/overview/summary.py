"""A bundle of one's own in three blocks: what was found, what to doubt, what to do next."""

from __future__ import annotations

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.views.address import View
from csp_engine.views.overview.summary import Step, Summary, summary_of
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.shell import store


def section(bundle: Bundle, view: View, method: str) -> None:
    """Draw the blocks."""
    found = summary_of(bundle, store.MEMO, method)
    show(
        "<div class='csp-three'>"
        f"<section><h2 class='csp-h'>Found</h2>{paragraphs(found.found)}"
        f"{common(view, found, method)}</section>"
        f"<section><h2 class='csp-h'>To be doubted</h2>{paragraphs(found.doubtful)}</section>"
        f"<section><h2 class='csp-h'>Next</h2>"
        f"{''.join(step(view, each, at) for at, each in enumerate(found.steps))}</section></div>"
    )


def paragraphs(sentences: tuple[str, ...]) -> str:
    """Sentences, each on its own."""
    return "".join(f"<p>{plain(sentence)}</p>" for sentence in sentences) or "<p>Nothing.</p>"


def common(view: View, found: Summary, method: str) -> str:
    """The commonest labels, each a search."""
    if not found.common:
        return ""
    ways = ", ".join(
        f"<a target='_self' dir='auto' "
        f"href='{plain(page_url('search', view.search_params(text, method=method)))}'>"
        f"{plain(text)}</a> ({numbers.count(n)})"
        for text, n in found.common
    )
    return f"<p class='csp-links'>Most often: {ways}.</p>"


def step(view: View, each: Step, at: int) -> str:
    """One thing to do; the first view is a button."""
    if each.command:
        return f"<p>{plain(each.words)}<br><code>{plain(each.command)}</code></p>"
    if not each.page:
        return f"<p>{plain(each.words)}</p>"
    params = {**view.params(unit="", layer="", model=""), **(each.params or {})}
    address = page_url(each.page, {key: value for key, value in params.items() if value})
    look = " class='csp-button'" if at == 0 else ""
    return (
        f"<p class='csp-links'><a{look} target='_self' href='{plain(address)}'>"
        f"{plain(each.words)}</a></p>"
    )
