"""Which neurons a reviewer should judge first: influence × suspicion × uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.reviews import DISAGREE
from csp_engine.views.audit.associations import in_question
from csp_engine.views.audit.interventions import audited, effects
from csp_engine.views.memo import Memo
from csp_engine.words.concepts import ConceptSet

QUEUES = ("suspects", "disputed")
MOST = 100
UNCERTAINTY = {
    "": 1.0,
    DISAGREE: 1.0,
    "unclear": 0.5,
    "mixed": 0.5,
    "valid": 0.25,
    "spurious": 0.25,
}
"""By what reviewers say of a neuron."""


def queue(bundle: Bundle, memo: Memo, model: str, concepts: ConceptSet) -> pd.DataFrame:
    """Suspects of a model, those that matter most first; none without pairs of images.

    Columns ``model``, ``layer``, ``unit``; ``influence``, the sum over all that was added to
    photographs, and was shown to move the output, of the neuron's absolute attribution in
    log-odds; ``suspicion``, the share of it from what the concept set calls neither valid nor
    neutral, from 0 to 1; ``weight``, their product. Of the layers in which fewest neurons carry
    such an effect, or of all that were tried where none does; at most ``MOST`` neurons.
    """
    return memo.once(
        ("queue", bundle.digest, model, concepts.sha256), lambda: _queue(bundle, model, concepts)
    )


def _queue(bundle: Bundle, model: str, concepts: ConceptSet) -> pd.DataFrame:
    empty = pd.DataFrame(
        {"model": [], "layer": [], "unit": [], "influence": [], "suspicion": [], "weight": []}
    )
    stored = bundle.intervention(model)
    if stored is None:
        return empty
    shown = [e for e in effects(stored) if e.verdict in ("raises", "lowers")]
    suspicious = in_question([e.artefact for e in shown], concepts)
    if not suspicious:
        return empty
    scopes = [audited(bundle, model, artefact, "") for artefact in suspicious]
    layers = {a.scope.layer for a in scopes if a is not None and a.scope is not None}
    units = stored.units[stored.units["artefact"].isin([e.artefact for e in shown])]
    if layers:
        units = units[units["layer"].isin(layers)]
    size = units["attribution"].abs().astype(np.float64)
    is_suspicious = units["artefact"].isin(suspicious)
    rows = (
        units.assign(influence=size, suspected=size.where(is_suspicious, 0.0))
        .groupby(["layer", "unit"], sort=False, observed=True)[["influence", "suspected"]]
        .sum()
        .reset_index()
    )
    rows = rows[rows["suspected"] > 0]
    rows = rows.sort_values("suspected", ascending=False, kind="stable").head(MOST)
    return pd.DataFrame(
        {
            "model": model,
            "layer": rows["layer"].astype(str),
            "unit": rows["unit"].astype(int),
            "influence": rows["influence"],
            "suspicion": rows["suspected"] / rows["influence"],
            "weight": rows["suspected"],
        }
    ).reset_index(drop=True)


def positions(bundle: Bundle, places: list[tuple[str, str]], rows: pd.DataFrame) -> np.ndarray:
    """The rows of a queue as rows of the bundle's table of neurons."""
    sizes = [bundle.n_units(*place) for place in places]
    first = dict(zip(places, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    return np.array(
        [first[str(m), str(layer)] + int(unit) for m, layer, unit in
         zip(rows["model"], rows["layer"], rows["unit"], strict=True)], np.int64
    )  # fmt: skip


def with_uncertainty(rows: pd.DataFrame, state: list[str]) -> pd.DataFrame:
    """The queue in the order in which it is to be judged now.

    Args:
        rows: as ``queue`` gives them.
        state: what reviewers say of each, empty where nobody said anything.
    """
    uncertainty = [UNCERTAINTY[each] for each in state]
    rows = rows.assign(state=state, uncertainty=uncertainty)
    rows["priority"] = rows["weight"] * rows["uncertainty"]
    return rows.sort_values("priority", ascending=False, kind="stable").reset_index(drop=True)
