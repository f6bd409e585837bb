"""Neurons that follow something which can be read from the images, and which no label says."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from csp_engine.bundle import Bundle, KeptScores

WORDS = "no word fits"
"""What is said of such a neuron."""

WHY = (
    "Its activation follows something that can be read from the images, and no label says what: "
    "look at what its strongest images share."
)


def unsaid(bundle: Bundle, model: str, layer: str, method: str) -> Bool[np.ndarray, " u"] | None:
    """Which units of a layer are such; None where the method, or the bundle, does not tell."""
    if method not in bundle.methods(model, layer):
        return None
    kept = KeptScores(bundle, model, layer, method)
    tells = None if kept.method is None else kept.method.unsaid
    if tells is None:
        return None
    stored = kept.signals()
    if stored is None:
        return None
    has_label_u = np.asarray(bundle.scores(model, layer, method).count_u) > 0
    return np.asarray(tells(stored), bool) & has_label_u
