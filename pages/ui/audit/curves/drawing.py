"""Ablation curves as a figure and as tables."""

from __future__ import annotations

from urllib.parse import quote

from csp_engine import numbers
from csp_engine.bundle.checks.held import RANDOM
from csp_engine.views.curves.steps import Step
from csp_engine.views.curves.told import Curved, percent
from pages.ui.parts.cards import plain
from pages.ui.parts.words import method, term

WIDTH, HEIGHT = 300, 120
COLOURS = {
    RANDOM: ("#64748b", ""),
    "influence": ("#0d9488", ""),
    "category": ("#6366f1", "7 3"),
    "attribute": ("#db2777", "2 3"),
    "relation": ("#78716c", "8 3 2 3"),
    "words": ("#d97706", ""),
}
"""Of every order, a colour that stands out from white and from black, and its dashes."""
MARGIN = 0.05
"""Of the share, above and below what is drawn."""


def figure(found: Curved) -> str:
    """One panel for each slice, all on one scale: a line for each order, random ones as a band."""
    low = max(0.0, min(each.least for each in found.steps) - MARGIN)
    high = max(each.most for each in found.steps)
    high = min(1.0, max(high, *(each.share for each in found.before.values())) + MARGIN)
    most = max(each.n_units for each in found.steps)
    keys = "".join(
        f"<span><img alt='' src='{_picture(22, 6, _line(name, '0,3 22,3'))}'>"
        f"{plain(found.name(name))}</span>"
        for name in found.orders
    )
    panels = "".join(_panel(found, name, low, high, most) for name in found.slices)
    return (
        "<figure class='csp-curves'><figcaption>Share of photographs decided rightly, by how many "
        f"neurons are held<span class='key'>{keys}</span></figcaption><div class='panels'>{panels}"
        "</div></figure>"
    )


def _panel(found: Curved, slice_: str, low: float, high: float, most: int) -> str:
    def at(n_units: int, share: float) -> str:
        y = HEIGHT * (high - share) / (high - low)
        return f"{WIDTH * n_units / most:.1f},{y:.1f}"

    start = at(0, found.before[slice_].share)
    random = found.curve(slice_, RANDOM)
    upper = [start, *(at(each.n_units, each.most) for each in random)]
    lower = [at(each.n_units, each.least) for each in reversed(random)]
    band = " ".join([*upper, *lower])
    drawn = f'<polygon fill="{COLOURS[RANDOM][0]}" fill-opacity=".28" points="{band}"/>'
    told = []
    for name in reversed(found.orders):
        own = found.curve(slice_, name)
        points = " ".join([start, *(at(each.n_units, each.right) for each in own)])
        drawn += _line(name, points)
        told.append(f"{found.name(name)} {percent(own[-1].right)} at {own[-1].n_units}")
    before = percent(found.before[slice_].share)
    words = f"{slice_}: {before} as it is; {'; '.join(told)}"
    return (
        f"<div class='panel'><p dir='auto'>{plain(slice_)}</p><div class='plot'>"
        f"<span class='top'>{100 * high:.0f} %</span><span class='bottom'>{100 * low:.0f} %</span>"
        f"<img alt='{plain(words)}' src='{_picture(WIDTH, HEIGHT, drawn)}'></div>"
        "<p class='ends'><span>0</span>"
        f"<span>{numbers.count(most)}</span></p></div>"
    )


def _line(order: str, points: str) -> str:
    colour, dashes = COLOURS[order]
    return (
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}" '
        f'vector-effect="non-scaling-stroke" points="{points}"/>'
    )


def _picture(width: int, height: int, drawn: str) -> str:
    """An address that is a drawing; of numbers and colours alone, nothing comes from outside."""
    return "data:image/svg+xml," + quote(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'preserveAspectRatio="none">{drawn}</svg>'
    )


def last(found: Curved) -> str:
    """Of every order where its curve ends, on the worst slice; all points behind a fold."""
    most = list(found.last(found.slices[0]))
    n_all = numbers.count(len(found.steps))
    return (
        _table(found, most, "Where a curve ends; changes in points with 95 % intervals")
        + f"<details class='csp-fold'><summary>All {n_all} points</summary>"
        + _table(found, list(found.steps), "Every point")
        + "</details>"
    )


def note(found: Curved) -> str:
    """What the photographs and orders are."""
    labels = f" Labels are by {method(found.method)}." if found.method else ""
    repeats = max(found.n_repeats.values())
    return (
        f"<p class='csp-quiet'>{plain(found.images)}. Those that choose say which neurons matter "
        f"and what they are held at; figures are of the others.{labels} Random orders and those of "
        f"a kind of label are drawn {numbers.count(repeats)} times; <em>orders</em> are their "
        f"extremes. Intervals come from drawing photographs anew; of many comparisons with random "
        f"orders one in twenty leaves 0 out by chance. {term('ablation curve')}: a network can "
        "fail at 0 because it has never seen such values.</p>"
    )


def _table(found: Curved, steps: list[Step], caption: str) -> str:
    head = ("order", "held", "right", "orders", "change", "against random")
    rows = []
    for each in steps:
        cells = (
            found.name(each.order),
            numbers.count(each.n_units),
            percent(each.right),
            f"{100 * each.least:.1f} to {100 * each.most:.1f}",
            each.change.signed,
            numbers.UNKNOWN if each.order == RANDOM else each.against.signed,
        )
        told = "".join(
            f"<td{' class=text' if not at else ''} data-heading='{name}'>{plain(cell)}</td>"
            for at, (name, cell) in enumerate(zip(head, cells, strict=True))
        )
        rows.append(
            f"<tr><th scope='row' dir='auto'>{plain(each.slice)} <span class='csp-quiet'>n = "
            f"{numbers.count(each.n_photographs)}</span></th>{told}</tr>"
        )
    columns = "".join(
        f"<th scope='col'{' class=text' if name == 'order' else ''}>{name}</th>" for name in head
    )
    return (
        f"<table class='csp-table wide' style='--cells: {len(head)}'><caption>{caption}</caption>"
        f"<thead><tr><th scope='col'>slice</th>{columns}</tr></thead><tbody>{''.join(rows)}"
        "</tbody></table>"
    )
