"""The order in which a table opens: what one came for stands first."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Int32

from csp_engine.views.confidence import LIKELY


def places_of(table: pd.DataFrame) -> Int32[np.ndarray, " u"]:
    """For each row its place, from 0, where what one came for stands first.

    First the neurons whose label is likely right, or reliable where that is not known; among them
    those that rank highest by what they move, then those of the highest confidence and score.
    What is not known goes last; ties stay in the order of the table.
    """

    def falling(name: str) -> np.ndarray:
        return -np.nan_to_num(table[name].to_numpy(np.float64), nan=-np.inf)

    rank_u = np.nan_to_num(table["moves_rank"].to_numpy(np.float64), nan=np.inf)
    # The last key of a lexsort counts most.
    keys = (falling("score"), falling("confidence"), rank_u, ~likely(table))
    place_u = np.empty(len(table), np.int32)
    place_u[np.lexsort(keys)] = np.arange(len(table), dtype=np.int32)
    return place_u


def likely(table: pd.DataFrame) -> np.ndarray:
    """Which labels are likely right, or reliable where nobody knows how likely that is."""
    confidence_u = table["confidence"].to_numpy(np.float64)
    reliable_u = table["reliable"].to_numpy(bool)
    return np.where(np.isnan(confidence_u), reliable_u, confidence_u >= LIKELY)


def in_words(rows: pd.DataFrame) -> str:
    """The order as a sentence, made of what is known of these rows."""
    moves = bool(rows["moves_rank"].notna().any())
    if not _has_labels(rows):
        by = "that move an output most come first" if moves else "in the order of layer and unit"
        return f"Neurons {by}."
    worth = "likely right" if _is_learnt(rows) else "reliable"
    then = "those that move an output most" if moves else "those with the highest score"
    return f"Neurons whose label is {worth} come first, and of these {then}."


def title(rows: pd.DataFrame) -> str:
    """The order in a few words, for a choice between orders."""
    if not _has_labels(rows):
        return "What moves outputs first" if rows["moves_rank"].notna().any() else "As they come"
    return f"{'Likely' if _is_learnt(rows) else 'Reliable'} labels first"


def _has_labels(rows: pd.DataFrame) -> bool:
    return bool((rows["label"] != "").any())


def _is_learnt(rows: pd.DataFrame) -> bool:
    return bool(rows["confidence"].notna().any())
