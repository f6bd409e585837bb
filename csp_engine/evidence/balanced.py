"""Which images influence is measured on: a sample in which classes take turns."""

from __future__ import annotations

import unicodedata

import numpy as np
import pandas as pd
from jaxtyping import Int


def composed(name: str) -> str:
    """A name in the one Unicode form that equal names share."""
    return unicodedata.normalize("NFC", name)


def balanced_sample(
    n_images: int, class_n: np.ndarray | None, n_wanted: int, seed: int
) -> Int[np.ndarray, " s"]:
    """Up to ``n_wanted`` image ids in order, drawn by a seed, classes in turn where known."""
    order = np.random.default_rng(seed).permutation(n_images)
    if class_n is not None:
        turn = pd.Series(class_n[order]).groupby(class_n[order]).cumcount().to_numpy()
        order = order[np.argsort(turn, kind="stable")]
    return np.sort(order[:n_wanted])
