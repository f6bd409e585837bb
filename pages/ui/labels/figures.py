"""How the label methods of a bundle compare: what they claim, and how often they are right."""

from __future__ import annotations

import math
from typing import Any

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.evaluation.label_accuracy import N_RESAMPLES, TOP
from csp_engine.methods import method_title
from csp_engine.stats.intervals import share_of
from csp_engine.views.accuracy import kept_accuracy, reliable_claims
from pages.ui.parts.cards import bar_table, plain, show
from pages.ui.parts.words import term
from pages.ui.shell import store

REFUSED = {"none": "without a true concept", "noise": "planted noise"}
"""Kinds of neurons for which no label is right, as the page calls them."""


def section(bundle: Bundle) -> None:
    """Which method is right, where that is known, or what each claims."""
    figures = kept_accuracy(bundle, store.MEMO)
    show("<h2 class='csp-h'>Which method is right</h2>")
    if figures is None:
        show(
            "<p class='csp-quiet'>That cannot be said here, because it is not known what the "
            f"neurons truly respond to ({term('ground truth')}).</p>{claims_table(bundle)}"
        )
    else:
        show(first_table(figures))


def more(bundle: Bundle) -> None:
    """The other figures of the methods, to unfold."""
    figures = kept_accuracy(bundle, store.MEMO)
    if figures is None:
        return
    told = f"{accuracy_table(figures)}{worth_table(figures)}"
    if figures["differences"]:
        told += f"<ul class='csp-limits'>{''.join(differences(figures))}</ul>"
    show(
        "<details class='csp-fold'><summary>Concept by concept, pair by pair, and what is refused"
        f"</summary><div class='csp-stack'>{told}{claims_table(bundle)}</div></details>"
    )


def first_table(figures: dict[str, Any]) -> str:
    """How often each method is right, and how often it relies on what is wrong."""
    rows = []
    for method, found in figures["methods"].items():
        best = share_of(found["best"]["n_hits"], found["best"]["n"])
        wrong = found.get("claimed_and_wrong")
        cells = [
            numbers.share(best.share),
            numbers.share_range(best.low, best.high),
            numbers.UNKNOWN if wrong is None else numbers.share(wrong["share"]),
        ]
        rows.append((method_title(method), best.share, cells))
    rows.sort(key=lambda row: -row[1])
    first = next(iter(figures["methods"].values()))
    blind = first["chance"]
    chance = "" if blind is None else f" Labels drawn at random: {numbers.share(blind)}."
    caption = (
        f"Of the {numbers.count(figures['n_with_truth'])} neurons whose {term('true concept')} is "
        "known: for how many the best label names it, and for how many a label that is called "
        f"{term('reliable label', 'reliable')} does not.{chance}"
    )
    columns = ["method", "right", "95 % interval", "reliable, but wrong"]
    return bar_table(caption, columns, rows, is_markup=True)


def claims_table(bundle: Bundle) -> str:
    """For how many neurons each method claims a reliable label."""
    rows = [
        (method_title(method), claims.share, interval_cells(claims))
        for method, claims in reliable_claims(bundle).items()
    ]
    columns = ["method", term("reliable label", "reliable"), "95 % interval", "n"]
    return bar_table("Neurons with a reliable label", columns, rows, is_markup=True)


def accuracy_table(figures: dict[str, Any]) -> str:
    """How often the best label, and one of the first five, names the true concept."""
    rows = []
    for method, found in figures["methods"].items():
        best = share_of(found["best"]["n_hits"], found["best"]["n"])
        mean = found["best_by_concept"]
        ends = numbers.share_range(mean["low"], mean["high"])
        cells = [*interval_cells(best), numbers.share(found["top"]["share"])]
        rows.append((method_title(method), best.share, [*cells, numbers.share(mean["mean"]), ends]))
    first = next(iter(figures["methods"].values()))
    n_concepts = numbers.count(first["best_by_concept"]["n_concepts"])
    blind = first["chance"]
    chance = "" if blind is None else f" A label drawn at random: {numbers.share(blind)}."
    caption = (
        f"Best label right, for the {numbers.count(figures['n_with_truth'])} neurons with a known "
        f"{term('true concept')}, {n_concepts} concepts in all.{chance} By concept: the mean over "
        f"concepts, its interval from {numbers.count(N_RESAMPLES)} draws of concepts (seed 0)."
    )
    columns = ["method", "right", "95 % interval", "n", f"in {TOP}", "by concept", "95 % interval"]
    return bar_table(caption, columns, rows, is_markup=True)


def worth_table(figures: dict[str, Any]) -> str:
    """What "reliable" is worth: how often it goes with a right label, and how often it is denied.

    Labels of other tools are left out, which never say how reliable they are.
    """
    rows = []
    kinds = [kind for kind in figures["n_by_kind"] if kind in REFUSED]
    for method, found in figures["methods"].items():
        if "silent_by_kind" not in found:
            continue
        right, wrong = found["claimed_and_right"], found["claimed_and_wrong"]
        refused = [found["silent_by_kind"].get(kind) for kind in kinds]
        cells = [
            *(numbers.share(each["share"]) for each in (right, wrong)),
            *(numbers.share(each["share"]) if each else numbers.UNKNOWN for each in refused),
        ]
        rows.append((method_title(method), right["share"], cells))
    counts = "; ".join(f"{numbers.count(figures['n_by_kind'][kind])} {REFUSED[kind]}"
                       for kind in kinds)  # fmt: skip
    caption = (
        f"What {term('reliable label', 'reliable')} is worth, of all neurons with a known true "
        "concept; and how often a label is called not reliable where it should be."
    )
    if counts:
        caption += f" Of these there are {counts}."
    columns = ["method", "reliable and right", "reliable and wrong",
               *(f"not reliable: {REFUSED[kind]}" for kind in kinds)]  # fmt: skip
    return bar_table(caption, columns, rows, is_markup=True)


def interval_cells(share: Any) -> list[str]:
    """A share, its bounds and what it rests on."""
    ends = numbers.share_range(share.low, share.high)
    return [numbers.share(share.share), ends, numbers.count(share.n)]


def differences(figures: dict[str, Any]) -> list[str]:
    """Each two methods in a sentence; an interval that holds zero is called a tie."""
    told = []
    for pair in figures["differences"]:
        one, two = plain(method_title(pair["first"])), plain(method_title(pair["second"]))
        over = [
            (pair["over_neurons"]["difference"], pair["over_neurons"], "over neurons"),
            (pair["by_concept"]["mean"], pair["by_concept"], "over concepts"),
        ]
        parts = [
            f"{where} {points(gap)} points ({between(each['low'], each['high'])}), "
            f"{verdict(each['low'], each['high'], one, two)}"
            for gap, each, where in over
        ]
        told.append(f"<li>{one} minus {two}: {'; '.join(parts)}.</li>")
    return told


def verdict(low: float, high: float, one: str, two: str) -> str:
    """Who is ahead by an interval of the first less the second."""
    if math.isnan(low):
        return "too few to tell"
    if low > 0:
        return f"{one} is ahead"
    return f"{two} is ahead" if high < 0 else "a tie"


def between(low: float, high: float) -> str:
    """The ends of an interval in percentage points."""
    return "no interval" if math.isnan(low) else f"{points(low)} to {points(high)}"


def points(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.0f}".replace("-", "−")
