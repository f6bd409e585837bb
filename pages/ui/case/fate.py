"""The step of the melanoma walk that follows the neurons into another classifier."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.cells import csv_text
from csp_engine.types import NeuronRef
from csp_engine.views.address import View
from csp_engine.views.case.audit import Case, examine, neuron_of, with_interval
from csp_engine.views.case.fate import Fate, fate
from csp_engine.views.comparison import named
from pages.ui.case import audit as case_audit
from pages.ui.case.charts import lead, points
from pages.ui.parts import words
from pages.ui.parts.cards import bar_table, markdown_text, plain, show
from pages.ui.parts.exporting import csv_button
from pages.ui.parts.strips import strip_urls
from pages.ui.shell import store
from pages.ui.shell.page import go
from pages.ui.table.neuron_rows import chosen, label_column, pressed


def retrained(bundle: Bundle, view: View, layers: tuple[str, ...], other: str | None) -> None:
    """What became of the neurons in the other classifier."""
    case = case_audit.examined(bundle, view, layers, case_audit.NEEDS)
    if case is None:
        return
    if other is None:
        lead(
            "This bundle holds no second classifier with layers like those of "
            f"{plain(view.model)} to compare with."
        )
        return
    second = examine(bundle, store.MEMO, case.concepts, other, case.layers, view.method)
    if isinstance(second, str):
        lead(plain(second))
        return
    found = fate(bundle, case, second, view.method)
    lead(
        "Retraining changes what each unit responds to, so a unit's number means little "
        f"in the other network. Each influential neuron of {plain(case.model)} is "
        f"therefore matched with the neuron in the same layer of {plain(other)} that has "
        "the nearest concept vector."
    )
    left, right = st.columns([1.25, 1], gap="medium")
    with right:
        show(kind_table(case, second))
    with left:
        lead(carried(case, second))
        lead(verdict(case, found))
    pairs(bundle, view, found)


def carried(case: Case, second: Case) -> str:
    """How much of all influence spurious neurons carry in both networks, in words."""
    mine, theirs = (each.influence_by_kind()["spurious"] for each in (case, second))
    return (
        "Without any matching: neurons that align with artefacts carry "
        f"<b>{numbers.share(mine)}</b> of all influence on <i>{plain(case.output)}</i> in "
        f"{plain(case.model)} and <b>{numbers.share(theirs)}</b> in {plain(second.model)}."
    )


def verdict(case: Case, found: Fate) -> str:
    """The counts, against the valid neurons as a control, in words."""
    spurious_, valid = found.smaller["spurious"], found.smaller["valid"]
    if not spurious_.n:
        return "There is no spurious neuron to follow."
    mine = found.rows[found.rows["kind"] == "spurious"]
    text = (
        f"Of the spurious neurons, {with_interval(spurious_)} have a match that carries a "
        f"smaller share of the influence on <i>{plain(case.output)}</i> (median cosine of "
        f"the matches {numbers.score(float(mine['cosine'].median()))}). Some loss is to "
        "be expected, because they were chosen for being influential here. "
    )
    if not valid.n:
        return text + "There is no valid neuron to compare with, so this says little."
    gap, low, high = found.gap
    text += (
        f"Of the valid neurons, chosen in the same way, {with_interval(valid)} do. The "
        f"difference is {points(gap)} points (95 % interval {points(low)} to "
        f"{points(high)}), so "
    )
    if low > 0:
        text += "spurious neurons lost more than valid ones."
    elif high < 0:
        text += "spurious neurons lost less than valid ones."
    else:
        text += "these counts do not show that spurious neurons lost more than valid ones."
    return text + (
        " The intervals treat neurons as independent, although those of one layer are not."
    )


def kind_table(case: Case, second: Case) -> str:
    """How the influence of both networks divides among the kinds."""
    first, other = case.influence_by_kind(), second.influence_by_kind()
    rows = [
        (f"{kind} · {each.model}", values[kind], [numbers.share(values[kind])])
        for kind in case.kinds
        for each, values in ((case, first), (second, other))
    ]
    caption = f"Share of all influence on {case.output}, mean over layers"
    return bar_table(caption, ("neurons", "share"), rows)


def pairs(bundle: Bundle, view: View, found: Fate) -> None:
    """Spurious neurons and their matches, side by side."""
    rows = found.rows[found.rows["kind"] == "spurious"].reset_index(drop=True)
    if rows.empty:
        return
    theirs = pd.DataFrame({"place": rows["match_place"], "unit": rows["match"]})
    shown = pd.DataFrame(
        {
            "strip": strip_urls(view.bundle, bundle, rows),
            "neuron": rows["layer"].astype(str) + "/" + rows["unit"].astype(str),
            "label": named(rows["label"], rows["reliable"]),
            "share": 100 * rows["share"],
            "match_strip": strip_urls(view.bundle, bundle, theirs),
            "match": rows["layer"].astype(str) + "/" + rows["match"].astype(str),
            "match_label": named(rows["match_label"], rows["match_reliable"]),
            "cosine": rows["cosine"],
            "match_share": 100 * rows["match_share"],
        }
    )
    kinds, other = st.column_config, found.other.model
    event = st.dataframe(
        shown,
        hide_index=True,
        height=min(430, 40 + 50 * len(shown)),
        row_height=50,
        column_config={
            "strip": kinds.ImageColumn(f"In {view.model}", width=216),
            "neuron": kinds.TextColumn("Neuron"),
            "label": label_column("Best label", "opened_spurious"),
            "share": kinds.NumberColumn("Influence", format="%+.2f %%"),
            "match_strip": kinds.ImageColumn(f"Nearest in {other}", width=216),
            "match": kinds.TextColumn("Match"),
            "match_label": label_column("Its label", "opened_match"),
            "cosine": kinds.NumberColumn(
                "Cosine",
                format="%.3f",
                help=words.tooltip("Cosine of the two concept vectors.", "concept vector"),
            ),
            "match_share": kinds.NumberColumn("Its influence", format="%+.2f %%"),
        },
        key="matches",
        on_select="rerun",
        selection_mode="single-row",
        placeholder="–",
        alt=f"{len(shown)} spurious neurons with their nearest neurons in {other}",
    )
    st.caption(
        "Click a label to open its neuron; select a row to open the match in "
        f"{markdown_text(other)}."
    )
    csv_button(
        "these matches",
        lambda: csv_text(shown.drop(columns=["strip", "match_strip"])).encode(),
        file_name="matches.csv",
        key="export_matches",
    )
    mine = pressed("opened_spurious", len(rows))
    if mine is not None:
        go("neuron", case_audit.here(view, neuron_of(rows.iloc[mine])).params())
    at = chosen(event, "opened_match", len(rows))
    if at is not None:
        row = rows.iloc[at]
        match = NeuronRef(other, str(row["layer"]), int(row["match"]))
        go("neuron", case_audit.here(view, match).params())
