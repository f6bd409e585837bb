"""Rows of the tables that a bundle keeps of pairs of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.evaluation.paired_effects import Bounded, mean_within
from csp_engine.networks.intervening.pairs import Attributed
from csp_engine.pasting.pairs import VERSIONS, ImagePairs

ON_THE_REST = ("confirmed", "confirmed_within", "moved", "moved_within")
"""What is known of every unit on the half that ranked nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """The pairs of one artefact as a network takes them; ``neutral`` is None where any lacks it."""

    artefact: str
    row_n: np.ndarray
    pixels: dict[str, np.ndarray]
    group_n: np.ndarray

    @property
    def foil(self) -> str:
        """What images with the artefact are compared with."""
        return "neutral" if "neutral" in self.pixels else "without"


def bounds(name: str, bounded: Bounded) -> dict[str, float]:
    """A figure and the ends of its interval, by the names of their columns."""
    return {name: bounded.value, f"{name}_low": bounded.low, f"{name}_high": bounded.high}


def pair_rows(
    shot: Shot, pairs: ImagePairs, scored: dict[str, Any], is_choosing_n: np.ndarray
) -> pd.DataFrame:
    """Scores and decisions of every pair; ``scored`` has them by version."""
    nothing = np.full(len(shot.row_n), np.nan, np.float32)
    columns: dict[str, Any] = {
        "artefact": pd.array([shot.artefact] * len(shot.row_n), "string"),
        "file": pairs.table["file"].iloc[shot.row_n].astype("string").to_numpy(),
        "group": shot.group_n.astype(np.int32),
        "is_choosing": is_choosing_n,
    }
    for name in VERSIONS:
        score_n, is_called_n = scored.get(name, (nothing, np.zeros(len(nothing), bool)))
        columns[f"score_{name}"] = score_n.astype(np.float32)
        columns[f"is_called_{name}"] = is_called_n
    return pd.DataFrame(columns).astype({"file": "string"})


def unit_rows(
    artefact: str, layer: str, chosen: Attributed, confirming: Attributed, group_n: np.ndarray
) -> pd.DataFrame:
    """The attribution of the effect to every unit of a layer, and its change, on either half.

    ``group_n`` are the groups of the confirming half, which alone has intervals: it ranked nothing.
    """
    n_units = chosen.effect_nu.shape[1]
    confirmed_u, confirmed_within_u = mean_within(confirming.effect_nu, group_n)
    moved_u, moved_within_u = mean_within(confirming.change_nu, group_n)
    figures = {
        "attribution": chosen.effect_nu.mean(0),
        "change": chosen.change_nu.mean(0),
        "confirmed": confirmed_u,
        "confirmed_within": confirmed_within_u,
        "moved": moved_u,
        "moved_within": moved_within_u,
    }
    return pd.DataFrame(
        {
            "artefact": pd.array([artefact] * n_units, "string"),
            "layer": pd.array([layer] * n_units, "string"),
            "unit": np.arange(n_units, dtype=np.int32),
            **{name: value_u.astype(np.float32) for name, value_u in figures.items()},
        }
    )


def no_units() -> pd.DataFrame:
    """The table of units where there is none."""
    return pd.DataFrame(
        {
            "artefact": pd.array([], "string"),
            "layer": pd.array([], "string"),
            "unit": np.zeros(0, np.int32),
            **{name: np.zeros(0, np.float32) for name in ("attribution", "change", *ON_THE_REST)},
        }
    )


def set_rows(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """What was swapped together, with the share of the effect that left and came with it."""
    names = [
        "artefact", "layer", "what", "n_units",
        *(f"{n}{end}" for n in ("necessity", "sufficiency") for end in ("", "_low", "_high")),
    ]  # fmt: skip
    table = pd.DataFrame(list(rows), columns=pd.Index(names))
    kinds = dict.fromkeys(names[:3], "string") | {"n_units": "int32"}
    return table.astype(kinds | dict.fromkeys(names[4:], "float64"))
