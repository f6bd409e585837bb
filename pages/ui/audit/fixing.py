"""Test the fix: what becomes of decisions once part of the network is held still."""

from __future__ import annotations

import base64

import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle, StoredFix
from csp_engine.views.address import pick
from csp_engine.views.audit.fixes import (
    Tested,
    Turned,
    figures,
    kept,
    turned,
)
from pages.ui.audit import running, trying
from pages.ui.parts import intervened
from pages.ui.parts.cards import plain, show
from pages.ui.parts.words import term
from pages.ui.shell import problems, store
from pages.ui.shell.page import hold, set_params, uncut

MOST_SHOWN = 6


def section(bundle: Bundle, model: str) -> None:
    """The fixes that a bundle keeps, one of them in full, and a way to try another."""
    names = bundle.fixes(model)
    fresh = trying.fresh(bundle, model)
    is_possible = running.is_possible(bundle, model)
    if not (names or fresh or trying.asked_for() or is_possible):
        return
    show("<h2 class='csp-h' id='fix'>Test the fix</h2>")
    is_asked = fresh is None and bool(trying.asked_for())
    if is_asked:
        trying.form(bundle, model)
    if fresh is not None:
        with st.container(key="tried"):
            draw(figures(fresh), fresh)
            trying.keep_or_drop(bundle, model)
    elif names:
        name, note = pick("test of a fix", st.query_params.get("fix"), names)
        problems.notes((note,) if note else ())
        if len(names) > 1:
            hold("_fix", name)
            st.segmented_control(
                "What is taken out",
                names,
                key="_fix",
                on_change=uncut(lambda: set_params(fix=st.session_state["_fix"] or names[0])),
            )
        draw(kept(bundle, store.MEMO, model, name), bundle.fix(model, name))
    if not is_asked:
        trying.form(bundle, model)


def draw(found: Tested, stored: StoredFix) -> None:
    """The sentence, the figure, the numbers and the photographs whose decision turns."""
    show(
        f"<p class='csp-lead csp-left'>{plain(found.sentence)}</p>"
        f"<p class='csp-left'><strong>{plain(found.verdict)}</strong> {plain(found.details)}</p>"
    )
    show(intervened.drawing(found))
    if found.gap is not None:
        show(f"<p class='csp-left'>{plain(found.gap_sentence)}</p>")
    show(table(found))
    show(
        f"<p class='csp-quiet'>{plain(found.images)}; what is held still was "
        f"{plain(found.chosen_on)}. Intervals come from drawing photographs anew, the same for "
        f"both sides. A {term('random control')} is a set of other neurons, as active and as "
        "influential, or the direction with its numbers in another order.</p>"
    )
    pictures(found, stored)


def table(found: Tested) -> str:
    """The numbers: what is followed first, then all photographs, then what the score ranks."""
    others = [name for name, *_ in found.slices[0].beside]
    columns = [f"{found.output} found", "change", "right", "change", "AUROC"]
    columns += [f"{name}: found, right" for name in others]
    head = "".join(f"<th scope='col'>{plain(name)}</th>" for name in ("slice", *columns))
    rows = []
    for each in found.slices:
        cells = [
            f"{each.found.before.n_hits} → {each.found.after.n_hits} of {each.found.n}",
            each.found.change.signed,
            f"{_percent(each.right.before.share)} → {_percent(each.right.after.share)}",
            each.right.change.signed,
            " → ".join(each.ranked.words),
            *(f"{hits.n_hits}, {_percent(right.share)}" for _, right, hits, _ in each.beside),
        ]
        rows.append(
            f"<tr><th scope='row' dir='auto'>{plain(each.name)} <span class='csp-quiet'>n = "
            f"{numbers.count(each.right.n)}</span></th>"
            + "".join(f"<td>{plain(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    caption = "Before → after; changes in points with 95 % intervals"
    classes = (
        f"<table class='csp-table' style='--cells: {len(columns)}'><caption>{caption}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
    return classes + by_class(found)


def by_class(found: Tested) -> str:
    """How many of every true class are decided rightly, behind a fold."""
    names = list(dict.fromkeys(name for each in found.slices for name, _ in each.classes))
    names.sort(key=lambda name: name != found.output)
    head = "".join(f"<th scope='col'>{plain(each.name)}</th>" for each in found.slices)
    rows = []
    for name in names:
        cells = []
        for each in found.slices:
            counted = dict(each.classes).get(name)
            cells.append(
                numbers.UNKNOWN
                if counted is None
                else f"{counted.before.n_hits} → {counted.after.n_hits} of {counted.n}"
            )
        rows.append(
            f"<tr><th scope='row' dir='auto'>{plain(name)}</th>"
            + "".join(f"<td>{plain(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    return (
        "<details class='csp-fold'><summary>Right by true class</summary>"
        f"<table class='csp-table' style='--cells: {len(found.slices)}'><thead><tr><th "
        f"scope='col'>class</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></details>"
    )


def pictures(found: Tested, stored: StoredFix) -> None:
    """Photographs whose decision turns: mended and broken, what is followed first."""
    shown = turned(stored)
    for is_mended, title in ((True, "Decisions put right"), (False, "Decisions spoilt")):
        own = [each for each in shown if each.is_mended == is_mended]
        n_all = sum(each.n_mended if is_mended else each.n_broken for each in found.slices)
        if not own:
            continue
        cells = "".join(_picture(each, stored) for each in own[: 2 * MOST_SHOWN])
        show(
            f"<h3 class='csp-h3'>{title} <span class='csp-quiet'>{numbers.count(n_all)} in all"
            f"</span></h3><div class='csp-pairs' role='list'>{cells}</div>"
        )


def _picture(each: Turned, stored: StoredFix) -> str:
    content = base64.b64encode(stored.thumbs[each.picture]).decode()
    told = f"{each.truth} of {each.slice}: called {each.before}, then {each.after}"
    return (
        f"<div class='pair turned' role='listitem'><figure class='"
        f"{'called' if each.is_mended else 'other'}'><img alt='{plain(told)}' "
        f"title='{plain(told)}' src='data:image/webp;base64,{content}'><figcaption>"
        f"{plain(each.before)} → {plain(each.after)}</figcaption></figure></div>"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
