"""Verdicts on the suspects: the queue, who judged how much, and how far reviewers agree."""

from __future__ import annotations

import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.reviews import as_rows
from csp_engine.types import NeuronRef
from csp_engine.views.address import View
from csp_engine.views.audit.agreement import agreement, pair_in_words, together_in_words
from csp_engine.views.audit.queue import positions, queue, with_uncertainty
from csp_engine.views.neuron.label import best_label
from csp_engine.views.places import places
from pages.ui.audit import concept_set
from pages.ui.parts.cards import page_url, plain, show
from pages.ui.shell import access, reviewer, store

N_SHOWN = 10
N_DISPUTED = 20


def section(bundle: Bundle, view: View, model: str, is_blind: bool) -> None:
    """The queue and, where people have judged, their agreement."""
    rows = queue(bundle, store.MEMO, model, concept_set.chosen())
    if len(rows):
        show(
            "<h2 class='csp-h'>Judge the suspects</h2><p class='csp-lead csp-left'>In the order in "
            "which a judgement matters: how much of what was tried reaches the output through a "
            "neuron (influence), the part of it that comes from what should not matter "
            "(suspicion), and whether people have settled it (uncertainty).</p>"
        )
        mine = states(bundle, rows, access.reviewer())
        listed = unnamed(view, rows, mine) if is_blind else table(bundle, view, model, rows)
        show(links(view, model, rows, mine) + listed)
    where = reviewer.place()
    if is_blind or not where.is_there:
        return
    found = agreement(as_rows(bundle, reviewer.database(where)), model)
    if not found.reviewers:
        return
    told = [
        f"{name} judged {numbers.count(n)} neuron{'' if n == 1 else 's'} of {model}."
        for name, n in found.reviewers
    ]
    told += [pair_in_words(pair) for pair in found.pairs]
    told += [each for each in [together_in_words(found)] if each]
    items = "".join(f"<li dir='auto'>{plain(each)}</li>" for each in told)
    show(f"<h2 class='csp-h'>Verdicts and agreement</h2><ul class='csp-limits'>{items}</ul>")
    if found.pairs:
        show(
            "<p class='csp-quiet'>κ is the agreement beyond chance: 0 as chance, 1 whole. "
            "Intervals come from drawing the neurons anew.</p>"
        )
    if found.differing:
        show(disputed(view, found.differing))


def address(view: View, neuron: NeuronRef, which: str, is_blind: bool) -> str:
    """The page of a neuron whose next is that of a queue."""
    held = view.params(model=neuron.model, layer=neuron.layer, unit=neuron.unit, q="", scope="")
    more = {"queue": which, **({"blind": "yes"} if is_blind else {})}
    more |= {"concepts": carried} if (carried := concept_set.link()) else {}
    return plain(page_url("neuron", {**held, **more}))


def states(bundle: Bundle, rows: pd.DataFrame, by: str = "") -> list[str]:
    """What is said of each neuron of the queue, by all or by one person; empty for nothing."""
    said = reviewer.column(bundle, by)
    if said is None:
        return [""] * len(rows)
    at = positions(bundle, places(bundle), rows)
    return ["" if pd.isna(each) else str(each) for each in said[at]]


def links(view: View, model: str, rows: pd.DataFrame, mine: list[str]) -> str:
    """The two ways in, with everything shown or blind, at the first that is not judged yet."""
    at = mine.index("") if "" in mine else 0
    first = NeuronRef(model, str(rows["layer"].iloc[at]), int(rows["unit"].iloc[at]))
    return (
        f"<p class='csp-links'><a target='_self' href='{address(view, first, 'suspects', False)}'>"
        f"Judge them one by one</a> · <a target='_self' "
        f"href='{address(view, first, 'suspects', True)}'>Judge them blind</a></p>"
    )


def unnamed(view: View, rows: pd.DataFrame, mine: list[str]) -> str:
    """The first that the reviewer has not judged, in an order that no verdict of others changes."""
    left = rows[[not said for said in mine]].head(N_SHOWN)
    items = "".join(
        f"<li><a target='_self' href='{address(view, neuron, 'suspects', True)}'>"
        f"{plain(neuron.layer)}/{neuron.unit}</a></li>"
        for neuron in (
            NeuronRef(str(row["model"]), str(row["layer"]), int(row["unit"]))
            for _, row in left.iterrows()
        )
    )
    return f"<ul class='csp-limits'>{items}</ul>"


def table(bundle: Bundle, view: View, model: str, rows: pd.DataFrame) -> str:
    """The first of the queue as it stands now."""
    body = []
    for _, row in with_uncertainty(rows, states(bundle, rows)).head(N_SHOWN).iterrows():
        neuron = NeuronRef(model, str(row["layer"]), int(row["unit"]))
        cells = [
            numbers.score(row["influence"]),
            numbers.share(row["suspicion"]),
            f"{row['uncertainty']:.2f}",
            row["state"] or numbers.UNKNOWN,
            best_label(bundle, neuron, view.method).title,
        ]
        body.append(
            f"<tr><th scope='row'><a target='_self' "
            f"href='{address(view, neuron, 'suspects', False)}'>{plain(neuron.layer)}/"
            f"{neuron.unit}</a></th>"
            + "".join(f"<td>{plain(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    columns = ["neuron", "influence", "suspicion", "uncertainty", "verdict", "label"]
    head = "".join(f"<th scope='col'>{name}</th>" for name in columns)
    return (
        f"<table class='csp-table' style='--cells: {len(columns) - 1}'><caption>The first "
        f"{len(body)} of {numbers.count(len(rows))}; influence in log-odds</caption><thead><tr>"
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def disputed(view: View, differing: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]) -> str:
    """Neurons on which reviewers differ, each with what they said."""
    items = []
    for neuron, said in differing[:N_DISPUTED]:
        href = address(view, NeuronRef.parse(neuron), "disputed", False)
        words = ", ".join(f"{plain(name)}: {plain(verdict)}" for name, verdict in said)
        items.append(
            f"<li><a target='_self' href='{href}'>{plain(neuron)}</a> <bdi>{words}</bdi></li>"
        )
    n = numbers.count(len(differing))
    one = len(differing) == 1
    return (
        f"<p class='csp-quiet'>On {n} neuron{'' if one else 's'}, reviewers differ:</p>"
        f"<ul class='csp-limits'>{''.join(items)}</ul>"
    )
