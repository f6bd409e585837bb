"""Fixes: that decisions are those which their scores allow, and what is held is what is said."""

from __future__ import annotations

import math

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import Found

NEAR = 1e-4
"""How far a score may lie off: scores are kept in single precision."""


def fix(bundle: Bundle, model: str, name: str) -> Found:
    """Scores against decisions, values that are held, and counts.

    Log-odds above 0 are a probability above one half, so the output is decided for; where it is
    decided for among C, its probability is at least 1/C.
    """
    stage = kinds.FIX.name(model, name)
    held = bundle.fix(model, name)
    if bundle.fact(stage, "n_photographs") != len(held.photographs):
        yield stage, f"n_photographs of {stage} is not what its table says."
    if (held.runs["model"].iloc[:2] != model).any():
        yield stage, f"{stage} is of another model than its runs."
    if held.mode == "zero" and held.cuts["at"].any():
        yield stage, f"{stage} holds neurons at other values than 0, which it says."
    n_classes = len(held.classes)
    if held.output in held.classes and n_classes > 1:
        score_wi = np.asarray(held.score_wi, np.float64)
        called_mn = np.asarray(held.called_vi)[: len(score_wi)]
        is_called_mn = called_mn == held.classes.index(held.output)
        least = -math.log(n_classes - 1) if n_classes > 2 else 0.0
        if ((score_wi > NEAR) & ~is_called_mn).any() or (
            (score_wi < least - NEAR) & is_called_mn
        ).any():
            yield stage, f"Decisions of {stage} are not those of its scores."
    told = held.cuts.groupby(["layer", "unit"])["at"].nunique()
    if (told > 1).any():
        yield stage, f"{stage} holds one neuron at several values."
