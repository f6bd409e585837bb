"""Whether tables of interventions name artefacts that there are, and say what can be."""

from __future__ import annotations

import pandas as pd

FOILS = ("neutral", "without")
WHATS = ("strongest", "direction", "random")


def fault_of_effects(rows: pd.DataFrame) -> str:
    """What is wrong with a table of effects, as the end of "effects.parquet of STAGE …"."""
    if rows["artefact"].duplicated().any():
        return (
            f"names artefact {rows['artefact'][rows['artefact'].duplicated()].iloc[0]!r:.80} twice"
        )
    strange = rows["foil"][~rows["foil"].isin(FOILS)]
    if len(strange):
        return f"compares with {strange.iloc[0]!r:.80}, which is nothing"
    if (rows["n_lost"] > rows["n_called"]).any():
        return "has more lost decisions than there were"
    return ""


def fault_of_artefacts(rows: pd.DataFrame, effects: pd.DataFrame) -> str:
    """What is wrong with a table of pairs, units or sets, likewise."""
    strange = sorted(set(rows["artefact"]) - set(effects["artefact"]))
    if strange:
        return f"names artefact {strange[0]!r:.80}, which has no effect"
    if "what" in rows and not rows["what"].isin(WHATS).all():
        return f"swaps {rows['what'][~rows['what'].isin(WHATS)].iloc[0]!r:.80}, which is nothing"
    return ""


def fault_of_reach(rows: pd.DataFrame) -> str:
    """What is wrong with the intervals of a table of units, likewise."""
    for name in ("confirmed_within", "moved_within"):
        if name in rows and (rows[name] < 0).any():
            return f"has a {name} below 0"
    return ""


def fault_of_gates(rows: pd.DataFrame, effects: pd.DataFrame) -> str:
    """What is wrong with a table of gates, likewise: one for each, areas in 0 to 1."""
    if list(rows["artefact"]) != list(effects["artefact"]):
        return "has other artefacts than the effects, or in another order"
    for name in ("real", "pasted", "neutral", "least"):
        value = rows[name]
        if ((value < 0) | (value > 1)).any():
            return f"has a {name} outside of 0 to 1"
        if (value.isna() & (rows["why"] == "")).any():
            return f"has no {name}, and does not say why"
    return ""
