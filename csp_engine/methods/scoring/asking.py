"""A layer and its random image sets, as one method is asked about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int32

from csp_engine.evidence.evidence import SHARED, Evidence
from csp_engine.methods.method import Method, Params, Scored, resolve_params

Elsewhere = Callable[[bool, int], Iterable[Scored]]
"""What a method says of all units of a layer, or of all random image sets, block by block.

It takes whether these are the random image sets, and how many are in a block.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """What is scored by what; ``size_u`` counts the exemplars looked at, at most ``depth``."""

    method: Method
    evidence: Evidence
    null_evidence: Evidence
    label_td: Float32[np.ndarray, "t d"]
    params: Params
    size_u: Int32[np.ndarray, " u"]
    depth: int

    @classmethod
    def of(
        cls,
        method: Method,
        evidence: Evidence,
        null_evidence: Evidence,
        label_td: Float32[np.ndarray, "t d"],
        params: Params,
        common: dict[Any, Any] | None = None,
    ) -> Scoring:
        """From the arguments of ``label_layer``.

        Raises:
            InputError: for bad parameters.
        """
        params = resolve_params(method, params)
        asker = f"Method {method.name!r}"
        needs = method.needs_here(evidence.given.sources)
        common = {} if common is None else common
        evidence = evidence.asked_by(asker, needs, common=common)
        # What is the same for all units a null need not bring itself; activations it must.
        given = evidence.given.sources
        shared = {name: given[name] for name in SHARED & given.keys()}
        null_sources = {**shared, **null_evidence.given.sources}
        null_evidence = null_evidence.asked_by(asker, needs, null_sources, common)
        depth = params[method.depth] if method.depth else evidence.exemplars.image_uk.shape[1]
        size_u = np.minimum(evidence.exemplars.count_u, depth).astype(np.int32)
        label_td = np.ascontiguousarray(label_td)
        return cls(method, evidence, null_evidence, label_td, params, size_u, depth)

    def said(self, evidence: Evidence) -> Any:
        """What the method says about some evidence."""
        return self.method.said(evidence, self.label_td, self.params)

    def rows_of(self, size: int) -> Int[np.ndarray, " b"]:
        """Units that meet random image sets of this size."""
        return np.flatnonzero(self.size_u == size if self.method.depth else self.size_u > 0)
