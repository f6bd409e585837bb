"""Matched neurons of two layers: in words, as a table, and one pair large."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from csp_engine import numbers
from csp_engine.methods import method_title
from csp_engine.types import NeuronRef
from csp_engine.views.comparison import Comparison, Side, named, pairs_csv, status
from csp_engine.views.neuron.card import neuron_card
from csp_engine.views.sentence import listed
from pages.ui.parts import words
from pages.ui.parts.cards import Packs, card_list, plain, show
from pages.ui.parts.exporting import csv_button
from pages.ui.parts.strips import strip_urls
from pages.ui.shell.page import go, set_params
from pages.ui.table.neuron_rows import HEIGHT_PX, ROW_PX, STRIP_PX, label_column, pressed

MOST_ALONE = 3
"""Families of neurons without a match that the summary names."""


def summary(compared: Comparison, method: str, told: tuple[str, str]) -> None:
    """What each side has and the other has not, and how much they have in common.

    Args:
        compared: the sides.
        method: whose labels and concept vectors these are.
        told: what the sides are called, as HTML.
    """
    mine, theirs = told
    n_mutual = compared.count("mutual")
    least, most = compared.bars or (0.0, 0.0)
    bar, of_size = numbers.score(most), ""
    if numbers.score(least) != bar:
        bar = f"{numbers.score(least)} to {bar}"
        of_size = " of as many images as the neuron has"
    chance = (
        f" A match must have a similarity above {bar}, which 95 % "
        f"of {words.term('random image set', 'random image sets')}{of_size} do not reach."
        if compared.bars is not None
        else f" {plain(method_title(method))} keeps no random image sets to compare with."
    )
    n_differ, n_alone = compared.count("differ"), compared.count("unmatched")
    show(
        f"<p class='csp-lead csp-answer'><b>{numbers.count(n_alone)}</b> of "
        f"{numbers.count(len(compared.rows))} neurons of {mine} have no match in {theirs}"
        f"{mostly(compared.alone)}; <b>{numbers.count(compared.n_other_unmatched)}</b> of "
        f"{numbers.count(compared.n_other)} of {theirs} have none in {mine}"
        f"{mostly(compared.other_alone)}. <b>{numbers.count(n_mutual)}</b> pairs are partners; in "
        f"<b>{numbers.count(n_differ)}</b> of these the meanings differ.</p><details "
        "class='csp-fold csp-left'><summary>What counts as a match, and who are partners</summary>"
        "<p>Two neurons are partners if each is the "
        f"other's {words.term('mutual match', 'best match')}. "
        f"{numbers.count(compared.count('oneway'))} neurons here have a best match that is itself "
        f"closer to another neuron.{chance} Two reliable labels mean the same if the encoder finds "
        "them alike; only then do they count as one. The table begins with what differs.</p>"
        "</details>"
    )


def mostly(family: pd.Series) -> str:
    """What some neurons are called most often, in brackets; empty where none has a family."""
    counted = family.dropna().astype(str).value_counts().head(MOST_ALONE)
    parts = [f"{numbers.count(n)} <bdi>“{plain(name)}”</bdi>" for name, n in counted.items()]
    return f" (among them {listed(parts)})" if parts else ""


def pair(a: Side, b: Side, unit: int, compared: Comparison, method: str) -> None:
    """The chosen neuron beside its match."""
    row = compared.rows.iloc[unit]
    parts = [(a, unit, "")]
    if row["kind"]:
        alike = f"similarity {numbers.score(float(row['similarity']))}"
        parts.append((b, int(row["unit_b"]), alike))
    for key, column, (side, which, note) in zip("ab", st.columns(2), parts, strict=False):
        with column:
            neuron = NeuronRef(side.model, side.layer, which)
            params = side.view(method, which).params()
            card = neuron_card(side.bundle, neuron, method, params, score=note, note=side.name, n=6)
            label = f"Neuron {which} of {side.title}"
            card_list([card], Packs(side.name, side.bundle), label=label, key=key)


def draw(a: Side, b: Side, compared: Comparison, kind: str, method: str) -> None:
    """All pairs, what differs first."""
    rows = compared.ordered(kind)
    if rows.empty:
        st.text("There is no neuron of this kind; choose another under “Show”.")
        return
    theirs = pd.DataFrame({name: rows[f"{name}_b"] for name in ("place", "unit")})
    shown = pd.DataFrame(
        {
            "A label": named(rows["label"], rows["reliable"]),
            "A": strip_urls(a.name, a.bundle, rows),
            "A unit": rows["unit"],
            "Similarity": rows["similarity"],
            "Match": status(rows),
            "B label": named(rows["label_b"], rows["reliable_b"]),
            "B": strip_urls(b.name, b.bundle, theirs).where(rows["kind"] != ""),
            "B unit": rows["unit_b"],
        }
    )
    kinds, (mine, other) = st.column_config, short_titles(a, b)
    select(a, rows)
    st.dataframe(
        shown,
        hide_index=True,
        height=min(HEIGHT_PX, 40 + ROW_PX * len(shown)),
        row_height=ROW_PX,
        column_config={
            "A": kinds.ImageColumn(f"Exemplars · {mine}", width=STRIP_PX),
            "A label": label_column(f"Label · {mine}", "opened"),
            "A unit": kinds.NumberColumn("Unit", format="%d"),
            "B": kinds.ImageColumn(f"Exemplars · {other}", width=STRIP_PX),
            "B label": label_column(f"Label · {other}", "opened_b"),
            "B unit": kinds.NumberColumn("Unit", format="%d"),
            "Similarity": kinds.NumberColumn(
                format="%.3f",
                help=words.tooltip("Cosine of the two concept vectors.", "concept vector"),
            ),
            "Match": kinds.TextColumn(
                width=125,
                help=words.tooltip(
                    "Mutual: each is the most similar to the other, and they are more alike than "
                    "random image sets would be.",
                    "mutual match",
                ),
            ),
        },
        key="pairs",
        on_select="rerun",
        selection_mode="single-row",
        placeholder="–",
        alt=f"Neurons of {a.title} beside their best matches in {b.title}",
    )
    st.caption("Click a label to open its neuron; select a row to see both neurons enlarged.")
    csv_button("these pairs", lambda: pairs_csv(a, b, rows), file_name="pairs.csv", key="export")
    for side, button, column in ((a, "opened", "unit"), (b, "opened_b", "unit_b")):
        row = pressed(button, len(rows))
        if row is not None:
            go("neuron", side.view(method, int(rows[column].iloc[row])).params())


def select(a: Side, rows: pd.DataFrame) -> None:
    """Put a row that was just selected into the URL, and select the row that the URL names.

    What was selected before says which of the two it is: after a step back, the table still holds
    the row of the view that was left.
    """
    held = st.session_state.get("pairs", {}).get("selection", {}).get("rows", [])[:1]
    if held and held != st.session_state.get("_selected_pair") and 0 <= held[0] < len(rows):
        st.session_state["_selected_pair"] = held
        unit = int(rows["unit"].iloc[held[0]])
        set_params(unit=unit, **dict(zip(("bundle", "model", "layer"), a.key, strict=True)))
        st.rerun()
    asked = st.query_params.get("unit")
    named = np.flatnonzero(rows["unit"].astype(str) == asked)[:1].tolist() if asked else []
    st.session_state["_selected_pair"] = named
    st.session_state["pairs"] = {"selection": {"rows": named, "columns": [], "cells": []}}


def short_titles(a: Side, b: Side) -> tuple[str, str]:
    """What tells the sides apart, as briefly as possible."""
    for one, other in zip(a.key, b.key, strict=True):
        if one != other:
            return one, other
    return a.layer, b.layer
