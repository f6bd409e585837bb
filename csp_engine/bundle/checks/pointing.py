"""Whether a table of checked maps says what can be."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

VERSIONS = ("", "random_", "other_", "weights_")
"""The neuron's maps, a random map, another neuron's, those of the network with random weights."""

SHARES = ("base", *(f"{v}{figure}" for v in VERSIONS for figure in ("hit", "overlap")))
FIGURES = (*SHARES, "removal", "random_removal")
"""What is kept of every map and photograph."""


def fault_of_maps(rows: pd.DataFrame, artefacts: Collection[str]) -> str:
    """What is wrong with a table of photographs, as the end of "photographs.parquet of STAGE …"."""
    strange = sorted(set(rows["artefact"]) - set(artefacts))
    if strange:
        return f"names artefact {strange[0]!r:.80}, on which no neuron was tried"
    for name in SHARES:
        if ((rows[name] < -1e-6) | (rows[name] > 1 + 1e-6)).any():
            return f"has a {name!r} outside of 0 to 1"
    return ""
