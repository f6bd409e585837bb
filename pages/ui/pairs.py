"""Matched neurons of two layers: in words, as a table, and one pair large."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.ui import numbers, table, words
from pages.ui.cards import Packs, card_list, plain, show
from pages.ui.comparing import STATUS, Comparison, Side
from pages.ui.neuron_rows import HEIGHT_PX, ROW_PX, STRIP_PX
from pages.ui.neurons import method_title, neuron_card
from pages.ui.page import go, set_params


def summary(compared: Comparison, method: str) -> None:
    """How much the sides have in common."""
    n_mutual = compared.count("mutual")
    chance = (
        f" A match must be more alike than {numbers.score(compared.bar)}, which 95 % of random "
        "image sets do not reach."
        if compared.bar is not None
        else f" {method_title(method)} has no random image sets to compare with."
    )
    show(
        f"<p class='csp-lead'>Of {numbers.count(len(compared.rows))} neurons, "
        f"<b>{numbers.count(n_mutual)}</b> and one of the other side are each other's "
        f"{words.term('mutual match', 'best match')} "
        f"({numbers.count(compared.count('differ'))} of these pairs carry different reliable "
        f"labels), "
        f"{numbers.count(compared.count('oneway'))} match one that has a better match, and "
        f"{numbers.count(compared.count('unmatched'))} have no match. On the other side, "
        f"{numbers.count(compared.n_other_unmatched)} of {numbers.count(compared.n_other)} are "
        f"nobody's mutual match.{plain(chance)}</p>"
    )


def pair(a: Side, b: Side, unit: int, compared: Comparison, method: str) -> None:
    """The chosen neuron beside its match."""
    row = compared.rows.iloc[unit]
    parts = [(a, unit, "")]
    if row["kind"]:
        alike = f"similarity {numbers.score(float(row['similarity']))}"
        parts.append((b, int(row["unit_b"]), alike))
    for column, (side, which, note) in zip(st.columns(2), parts, strict=False):
        with column:
            view = side.view(method, which)
            card = neuron_card(
                side.bundle, view, side.model, side.layer, which, score=note, note=side.name, n=6
            )
            key = "a" if side is a else "b"
            label = f"Neuron {which} of {side.title}"
            picked = card_list([card], Packs(side.name, side.bundle), label=label, key=key)
            if picked is not None:
                go("neuron", card.params)


def named(labels: pd.Series, reliable: pd.Series) -> pd.Series:
    """Labels as cards write them: those that mean nothing with a question mark."""
    return labels.where(reliable | labels.isna() | (labels == ""), "unclear: " + labels + "?")


def draw(a: Side, b: Side, compared: Comparison, kind: str) -> None:
    """All pairs, most alike first."""
    rows = compared.rows[compared.kept(kind)]
    rows = rows.sort_values("similarity", ascending=False, kind="stable", na_position="last")
    if rows.empty:
        st.text("No neuron is of this kind; choose another under “Show”.")
        return
    theirs = pd.DataFrame({name: rows[f"{name}_b"] for name in ("place", "unit")})
    shown = pd.DataFrame(
        {
            "A": table.strip_urls(a.view(""), a.bundle, rows),
            "A label": named(rows["label"], rows["reliable"]),
            "A unit": rows["unit"],
            "Similarity": rows["similarity"],
            "Match": rows["kind"].map(STATUS),
            "B": table.strip_urls(b.view(""), b.bundle, theirs).where(rows["kind"] != ""),
            "B label": named(rows["label_b"], rows["reliable_b"]),
            "B unit": rows["unit_b"],
        }
    )
    kinds = st.column_config
    event = st.dataframe(
        shown,
        hide_index=True,
        height=min(HEIGHT_PX, 40 + ROW_PX * len(shown)),
        row_height=ROW_PX,
        column_config={
            "A": kinds.ImageColumn(f"Exemplars in {a.layer}", width=STRIP_PX),
            "B": kinds.ImageColumn(f"Exemplars in {b.layer}", width=STRIP_PX),
            "Similarity": kinds.NumberColumn(
                format="%.3f", help="Cosine of the two concept vectors."
            ),
        },
        key="pairs",
        on_select="rerun",
        selection_mode="single-row",
        placeholder="–",
        alt=f"Neurons of {a.title} beside their best matches in {b.title}",
    )
    st.caption("Select a row to see both neurons large; a card opens its neuron.")
    chosen = event.selection.rows
    if chosen and 0 <= chosen[0] < len(rows):
        unit = int(rows["unit"].iloc[chosen[0]])
        if st.query_params.get("unit") != str(unit):
            set_params(unit=unit, **dict(zip(("bundle", "model", "layer"), a.key, strict=True)))
            st.rerun()
