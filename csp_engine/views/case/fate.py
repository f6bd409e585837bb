"""What became of the influential neurons of a classifier in another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.audits.alignment import best_match
from csp_engine.bundle import Bundle
from csp_engine.stats.intervals import Share, difference_of_shares, share_of
from csp_engine.views.case.audit import Case, layers_of
from csp_engine.words.concepts import ConceptSet


@dataclass(frozen=True, slots=True, eq=False)
class Fate:
    """What became of the influential neurons of a case in another classifier.

    ``rows`` are those of the case with ``match`` (the unit of the same layer whose concept vector
    is nearest), ``cosine``, ``match_share``, ``match_label``, ``match_place`` and ``is_smaller``
    (the match carries a smaller share of its layer's influence). ``smaller`` counts them by kind.
    """

    other: Case
    rows: pd.DataFrame
    smaller: Mapping[str, Share]

    @property
    def gap(self) -> tuple[float, float, float]:
        """Share of spurious neurons whose match is smaller, minus that of valid ones; bounds."""
        return difference_of_shares(self.smaller["spurious"], self.smaller["valid"])


def other_model(bundle: Bundle, concepts: ConceptSet, model: str) -> str | None:
    """Another classifier of the bundle with a layer of the same name and the same output."""
    mine = set(layers_of(bundle, concepts, model))
    others = (other for other in bundle.model_names if other != model)
    return next((o for o in others if mine & set(layers_of(bundle, concepts, o))), None)


def fate(bundle: Bundle, case: Case, other: Case, method: str) -> Fate:
    """Match every influential neuron with its nearest of the same layer of another classifier."""
    parts = []
    for layer in case.layers:
        theirs = other.rows[other.rows["layer"] == layer].reset_index(drop=True)
        mine = case.influential[case.influential["layer"] == layer]
        if theirs.empty or mine.empty:
            continue
        vector_ud = np.asarray(bundle.scores(case.model, layer, method).vector_ud)
        other_vd = np.asarray(bundle.scores(other.model, layer, method).vector_ud)
        match_u, cosine_u = best_match(vector_ud[mine["unit"].to_numpy()], other_vd)
        matched = theirs.iloc[match_u].reset_index(drop=True)
        part = mine.reset_index(drop=True)
        part["match"], part["cosine"] = match_u, cosine_u
        for name in ("share", "label", "reliable", "place"):
            part[f"match_{name}"] = matched[name]
        part["is_smaller"] = part["match_share"].abs() < part["share"].abs()
        parts.append(part[part["cosine"].notna()])
    whole = pd.concat(parts, ignore_index=True)
    whole = whole.iloc[np.argsort(-whole["share"].abs().to_numpy(), kind="stable")]
    smaller = {
        kind: share_of(int(mine["is_smaller"].sum()), len(mine))
        for kind in case.kinds
        for mine in [whole[whole["kind"] == kind]]
    }
    return Fate(other, whole.reset_index(drop=True), smaller)
