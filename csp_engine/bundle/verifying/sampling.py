"""What all checks of a bundle against itself share: samples of units, and when figures agree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from csp_engine.bundle.reader import Bundle

N_UNITS = 24
"""Units of each layer that are followed, spread over it."""

LOSS = 2e-3
"""How far numbers may lie apart that were summed in another order, on another machine."""

Found = Iterator[tuple[str, str]]
"""Stages and what is wrong with each, as a sentence."""


def sampled(n_units: int, n_wanted: int = N_UNITS) -> Int[np.ndarray, " b"]:
    """Units spread over a layer, in order."""
    return np.unique(np.linspace(0, max(0, n_units - 1), min(n_wanted, n_units)).astype(int))


def is_same(kept: np.ndarray, fresh: np.ndarray) -> bool:
    """Whether figures agree, but for the order of sums."""
    if kept.dtype.kind == "f":
        return np.allclose(kept, fresh, atol=LOSS, equal_nan=True)
    return np.array_equal(kept, fresh)


def is_here(bundle: Bundle, *stages: str) -> bool:
    """Whether a bundle has stages, and this copy has their files."""
    return all(bundle.has(each) and not bundle.stage(each).omitted for each in stages)
