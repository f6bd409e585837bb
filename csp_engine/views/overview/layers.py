"""The layers of a bundle: how many neurons each has, and for how many something can be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.methods import method_title
from csp_engine.views.neuron.label import flags_of
from csp_engine.views.places import places

FLAGS = {"is_dead": "dead", "is_dense": "dense", "is_constant": "constant"}


@dataclass(frozen=True, slots=True)
class LayerState:
    """Counts of neurons of one layer.

    ``flags`` counts by the words of ``FLAGS``; ``n_flagged`` counts each neuron once, those that
    are never positive too; ``n_reliable`` counts reliable labels by method; ``n_reviewed`` counts
    neurons that somebody gave a verdict on.
    """

    model: str
    layer: str
    n_units: int
    flags: dict[str, int]
    n_flagged: int
    n_reliable: dict[str, int]
    n_reviewed: int = 0

    @property
    def name(self) -> str:
        """Model and layer as sentences name them."""
        return f"{self.model} / {self.layer}"


def layer_states(bundle: Bundle, review: pd.Categorical | None = None) -> list[LayerState]:
    """Every layer in the bundle's order; ``review`` is what reviewers say of each neuron."""
    found = []
    n_above = 0
    for model, layer in places(bundle):
        units = bundle.units(model, layer)
        held = flags_of(units)
        flags = {word: int(held[key].sum()) for key, word in FLAGS.items()}
        is_flagged_u = np.logical_or.reduce(list(held.values()))
        reliable = {
            method: int(bundle.scores(model, layer, method).reliable_u.sum())
            for method in bundle.methods(model, layer)
        }
        n_flagged = int(is_flagged_u.sum())
        here = slice(n_above, n_above + len(units))
        n_above = here.stop
        n_reviewed = 0 if review is None else int(review[here].notna().sum())
        found.append(LayerState(model, layer, len(units), flags, n_flagged, reliable, n_reviewed))
    return found


def best_and_poorest(states: Sequence[LayerState], method: str) -> str:
    """Which layer has the largest and which the smallest share of reliable labels, in a sentence.

    Empty where there are fewer than two layers with labels of the method, or all are alike.
    """
    with_labels = [state for state in states if method in state.n_reliable and state.n_units]
    if not with_labels:
        return ""

    def share_of(state: LayerState) -> float:
        return state.n_reliable[method] / state.n_units

    best, poorest = max(with_labels, key=share_of), min(with_labels, key=share_of)
    most, fewest = (numbers.share(share_of(state)) for state in (best, poorest))
    if most == fewest:
        return ""
    return (
        f"{method_title(method)} finds a reliable label for {most} of the neurons of {best.name}, "
        f"the most, and for {fewest} of {poorest.name}, the fewest."
    )
