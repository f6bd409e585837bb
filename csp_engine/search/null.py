"""What random image sets give: their concept vectors, how long these were, and their scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from csp_engine.bundle import Bundle, KeptScores


@dataclass(frozen=True, slots=True, eq=False)
class NullLevel:
    """The scores that random image sets reach for one query, sorted upwards."""

    score_r: Float32[np.ndarray, " r"]

    @classmethod
    def of(
        cls, null_rd: Float32[np.ndarray, "r d"], query_d: Float32[np.ndarray, " d"]
    ) -> NullLevel:
        """The null of a query from the concept vectors of random image sets."""
        has_evidence_r = np.any(null_rd, axis=1)
        return cls(np.sort(null_rd[has_evidence_r] @ query_d))

    def percentile(self, score_m: Float32[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
        """Share of the null at or below each score, in [0, 1]; ties count half."""
        below = np.searchsorted(self.score_r, score_m, side="left")
        up_to = np.searchsorted(self.score_r, score_m, side="right")
        return ((below + up_to) / (2 * max(1, len(self.score_r)))).astype(np.float32)


def null_vectors(
    bundle: Bundle, model: str, layer: str, method: str
) -> Float32[np.ndarray, "r d"] | None:
    """Concept vectors that a method gives random image sets, or None where it has no such thing.

    They are the sets of full size (``n_score`` images); CLIP-Dissect has none, because its concept
    vector is a label.
    """
    return KeptScores(bundle, model, layer, method).null_vectors()


def remainders(
    bundle: Bundle, model: str, layer: str, method: str
) -> tuple[Float32[np.ndarray, " u"], Float32[np.ndarray, " r"]]:
    """How long concept vectors are before they are made unit length: of neurons, of random sets.

    What is left of the exemplars once their look-alikes are taken away; little where the exemplars
    share nothing. 1 throughout for methods that keep no halves. The random sets are those of
    ``null_vectors``, in its order.
    """
    kept = KeptScores(bundle, model, layer, method)
    if not kept.has_halves:
        null_rd = kept.null_vectors()
        n_draws = 0 if null_rd is None else len(null_rd)
        return np.ones(bundle.n_units(model, layer), np.float32), np.ones(n_draws, np.float32)
    gamma, null = np.float32(kept.params["gamma"]), kept.null_halves()
    rows = np.flatnonzero(null.size_r == int(kept.params["n_score"]))
    found = []
    for anchor_ud, projection_ud in (
        kept.halves(),
        (null.anchor_rd[rows], null.projection_rd[rows]),
    ):
        rest_ud = np.asarray(anchor_ud) - gamma * np.asarray(projection_ud)
        found.append(np.linalg.norm(rest_ud, axis=1).astype(np.float32))
    return found[0], found[1]
