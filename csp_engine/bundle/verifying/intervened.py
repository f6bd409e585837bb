"""Effects of interventions, again from the scores of every pair that are kept beside them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import Found
from csp_engine.evaluation.paired_effects import mean_effect
from csp_engine.pasting.gate import LEAST, USUAL_LEAST
from csp_engine.stats.intervals import auroc_interval

NEAR = 1e-4
"""How far an effect may lie off: scores are kept in single precision."""


def intervention(bundle: Bundle, model: str) -> Found:
    """Effects, flips and counts of every artefact; and that no group lies in both halves."""
    stage = kinds.INTERVENTION.name(model)
    record = bundle.stage(stage)
    effects, pairs = bundle.table(stage, "effects"), bundle.table(stage, "pairs")
    sets = bundle.table(stage, "sets")
    seed = int(record.params.get("seed", 0))
    if record.facts.get("n_pairs") != len(pairs):
        yield stage, f"n_pairs of {stage} is not what its table says."
    for row in effects.to_dict("records"):
        own = pairs[pairs["artefact"] == row["artefact"]]
        name = f"{row['artefact']!r:.60} of {stage}"
        if row["n_pairs"] != len(own) or row["n_groups"] != own["group"].nunique():
            yield stage, f"n_pairs or n_groups of {name} is not what its pairs say."
        if own.groupby("group")["is_choosing"].nunique().max() > 1:
            yield stage, f"A group of {name} lies in both halves."
        for figure, over, under in (
            ("change", "with", "without"),
            ("neutral", "neutral", "without"),
            ("effect", "with", row["foil"]),
        ):
            change_n = (own[f"score_{over}"] - own[f"score_{under}"]).to_numpy(np.float64)
            fresh = mean_effect(change_n, own["group"].to_numpy(), seed)
            stored = [row[f"{figure}{end}"] for end in ("", "_low", "_high")]
            told = [fresh.value, fresh.low, fresh.high]
            if not np.allclose(stored, told, atol=NEAR, equal_nan=True):
                yield stage, f"{figure} of {name} is not that of its pairs."
        before = own[f"is_called_{row['foil']}"].to_numpy(bool)
        after = own["is_called_with"].to_numpy(bool)
        counted = (before.sum(), (before & ~after).sum(), (~before & after).sum())
        if counted != (row["n_called"], row["n_lost"], row["n_gained"]):
            yield stage, f"Decisions of {name} are not those of its pairs."
    yield from _sets(stage, sets)
    if "gates.parquet" in record.files:
        yield from _gates(stage, bundle.table(stage, "gates"), effects)


def _sets(stage: str, sets: pd.DataFrame) -> Found:
    """That bounds enclose what they bound."""
    for figure in ("necessity", "sufficiency"):
        value, low, high = (sets[f"{figure}{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        if ((value < low - NEAR) | (value > high + NEAR)).any():
            yield stage, f"A {figure} of {stage} lies outside of its bounds."


def _gates(stage: str, gates: pd.DataFrame, effects: pd.DataFrame) -> Found:
    """That what is asked is what this version asks, and bounds are those of area and counts."""
    n_groups = effects.set_index("artefact")["n_groups"]
    for row in gates[gates["why"] == ""].to_dict("records"):
        name = f"{row['artefact']!r:.60} of {stage}"
        if row["least"] != LEAST.get(row["artefact"], USUAL_LEAST):
            yield stage, f"The gate of {name} asks for {row['least']}, which is not what it should."
        n = int(n_groups[row["artefact"]])
        for figure in ("pasted", "neutral"):
            told = [row[f"{figure}_low"], row[f"{figure}_high"]]
            if not np.allclose(told, auroc_interval(np.asarray(row[figure]), n, n), atol=NEAR):
                yield stage, f"Bounds of {figure} in the gate of {name} are not those of its area."
        if not row["real_low"] - NEAR <= row["real"] <= row["real_high"] + NEAR:
            yield stage, f"real in the gate of {name} lies outside of its bounds."
