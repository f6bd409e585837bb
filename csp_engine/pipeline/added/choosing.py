"""Choose what to hold still in a classifier, on photographs of which nothing is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csp_engine.errors import InputError
from csp_engine.pipeline.added.fixes import Piece
from csp_engine.pipeline.added.fixing import Trials

MOST_COST = 0.01
"""Of its accuracy on the clean slice a choice may cost so much."""
LEAST_GAIN = 0.005
"""A further piece has to raise the accuracy of the worst slice by so much."""
MOST_PIECES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The pieces, and the accuracy of the worst slice before and after, where they were chosen."""

    pieces: tuple[Piece, ...]
    chosen_on: str
    before: float
    after: float


def choose(trials: Trials, options: Sequence[Piece], mode: str) -> Chosen:
    """Pieces that raise the accuracy of the worst slice, one after the other.

    In each step every option is tried together with what is chosen already, and the one after
    which the slice that is decided rightly least often is so most often joins it, among those that
    cost the clean slice at most ``MOST_COST``. It ends when no option adds ``LEAST_GAIN``, or with
    ``MOST_PIECES``.

    Args:
        trials: the network and the photographs; those that choose are looked at.
        options: what may be held still.
        mode: what at.

    Raises:
        InputError: if nothing helps.
    """
    rows = trials.choosing
    slice_n = trials.photographs.table["slice"].to_numpy(object)[rows]
    truth_n = trials.truth(rows)
    is_of = {name: slice_n == name for name in dict.fromkeys(slice_n)}

    def shares(sets: Sequence[Sequence[Piece]], what: str) -> dict[str, np.ndarray]:
        _, called_tn = trials.decided(rows, [trials.cuts(each, mode) for each in sets], what)
        is_right_tn = called_tn == truth_n
        return {name: is_right_tn[:, is_it].mean(1) for name, is_it in is_of.items()}

    chosen: tuple[Piece, ...] = ()
    start = shares([()], "decisions as they are")
    before = worst = min(float(each[0]) for each in start.values())
    floor = float(start[trials.clean][0]) - MOST_COST
    for step in range(MOST_PIECES):
        tried = [joined((*chosen, each)) for each in options]
        found = shares(tried, f"choosing, step {step + 1}")
        worst_t = np.min(list(found.values()), axis=0)
        worst_t = np.where(found[trials.clean] >= floor - 1e-9, worst_t, -np.inf)
        best = int(worst_t.argmax())
        if worst_t[best] < worst + LEAST_GAIN:
            break
        chosen, worst = tried[best], float(worst_t[best])
    if not chosen:
        raise InputError(
            f"None of {len(options)} sets of neurons and directions helps the worst slice by half "
            "a point at a cost of at most one on clean photographs; nothing was chosen."
        )
    chosen_on = (
        f"chosen among {len(options)} sets of neurons and directions on {len(rows)} other "
        "photographs"
    )
    return Chosen(chosen, chosen_on, before, worst)


def joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Units of one layer in one piece; a direction is not taken out twice."""
    units: dict[str, np.ndarray] = {}
    directions: list[Piece] = []
    for piece in pieces:
        if not piece.is_direction:
            held = units.get(piece.layer, np.zeros(0, np.int64))
            units[piece.layer] = np.union1d(held, piece.part)
        elif not any(
            each.layer == piece.layer and np.array_equal(each.part, piece.part)
            for each in directions
        ):
            directions.append(piece)
    return (*(Piece(layer, part) for layer, part in units.items()), *directions)
