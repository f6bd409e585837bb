"""Every reviewer's latest verdict on every neuron, held in memory and brought up to date."""

from __future__ import annotations

import threading

import numpy as np
from jaxtyping import Int8

from csp_engine.reviews.review import DISAGREE, VERDICTS, WITHDRAWN, Reviews, agreed

STATES = tuple(sorted((*VERDICTS, DISAGREE)))
"""What a neuron that somebody reviewed may be said to be, in the order of the alphabet."""
_CODES = {state: code for code, state in enumerate(STATES)} | {"": -1}


class LatestVerdicts:
    """What the neurons of a database are said to be.

    The history only grows, and its numbers rise in the order of commits, so asking for what came
    after the last row seen tells both whether anything changed and what. Shared between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._said: dict[tuple[str, str], dict[int, dict[str, str]]] = {}
        self._agreed: dict[tuple[str, str], dict[int, str]] = {}
        self._codes: dict[tuple[str, str], np.ndarray] = {}

    def refresh(self, reviews: Reviews) -> None:
        """Read what is new.

        Raises:
            ReviewError: if the database cannot be read.
        """
        with self._lock:
            where, said, states = None, {}, {}
            for number, model, layer, unit, reviewer, verdict in reviews.since(self._last):
                if where != (model, layer):  # neighbours mostly share it
                    where = (model, layer)
                    said = self._said.setdefault(where, {})
                    states = self._agreed.setdefault(where, {})
                    self._codes.pop(where, None)
                others = said.get(unit)
                if others is None:  # nearly always, when a long history is read for the first time
                    said[unit] = {reviewer: verdict}
                    states[unit] = "" if verdict == WITHDRAWN else verdict
                else:
                    others[reviewer] = verdict
                    states[unit] = agreed(others.values())
                self._last = number

    def of_reviewer(
        self, reviewer: str, model: str, layer: str, n_units: int
    ) -> Int8[np.ndarray, " u"]:
        """What one reviewer says of each unit, as ``of_layer`` has it."""
        code_u = np.full(n_units, -1, np.int8)
        with self._lock:
            for unit, others in self._said.get((model, layer), {}).items():
                if unit < n_units and others.get(reviewer, WITHDRAWN) != WITHDRAWN:
                    code_u[unit] = _CODES[others[reviewer]]
        return code_u

    def of_layer(self, model: str, layer: str, n_units: int) -> Int8[np.ndarray, " u"]:
        """What each unit of a layer is said to be, by its place in ``STATES``; -1 where nothing is.

        Args:
            model: fingerprint of the model.
            layer: layer id.
            n_units: units that the layer has; verdicts on others are left out.
        """
        with self._lock:
            held = self._codes.get((model, layer))
            if held is not None and len(held) == n_units:
                return held
            code_u = np.full(n_units, -1, np.int8)
            for unit, state in self._agreed.get((model, layer), {}).items():
                if unit < n_units:
                    code_u[unit] = _CODES[state]
            self._codes[model, layer] = code_u
            return code_u
