"""Whether statistics of units follow from their exemplars and image vectors."""

from __future__ import annotations

import numpy as np

from csp_engine.audits.measuring import measure_units, scored_embeddings
from csp_engine.audits.registered import AUDITS
from csp_engine.audits.statistic import nothing_across
from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.bundle.verifying.sampling import LOSS, Found, is_here, is_same, sampled
from csp_engine.evidence.evidence import Evidence
from csp_engine.vectors import normalise_rows


def audit(bundle: Bundle, model: str, layer: str) -> Found:
    """Clarity, groups of images and nearest units again, for a sample of units."""
    stage = kinds.AUDIT.name(model, layer)
    if not is_here(bundle, stage, kinds.EMBEDDINGS.name(), kinds.CONTRAST.name(model, layer)):
        return
    evidence = Evidence(
        bundle.exemplars(model, layer), bundle.contrast(model, layer), bundle.image_vectors()
    )
    units, rows = bundle.table(stage, "units"), sampled(evidence.n_units)
    n_score = int(bundle.stage(stage).params["n_score"])
    alone = [each for each in AUDITS.values() if each.is_together and each.across is nothing_across]
    columns, arrays = measure_units(alone, evidence.block(rows), n_score)
    held = {name: units[name].to_numpy()[rows] for name in columns}
    held |= {name: np.asarray(bundle.array(stage, name))[rows] for name in arrays}
    for name, fresh in {**columns, **arrays}.items():
        if not is_same(held[name], fresh):
            yield stage, f"{name} of {stage} is not what follows from its exemplars."
    yield from _nearest(stage, evidence, units["nearest_unit"], units["redundancy"], n_score)


def _nearest(stage: str, evidence: Evidence, nearest: object, value: object, n_score: int) -> Found:
    """The nearest units of a sample are as near as said, and no other of the sample is nearer."""
    nearest_u, value_u = np.asarray(nearest), np.asarray(value, np.float32)
    rows = sampled(evidence.n_units)
    both = np.unique(np.concatenate([rows, nearest_u[rows]]))
    exemplar_ukd, _ = scored_embeddings(evidence.block(both).exemplars, evidence.image_nd, n_score)
    mean_bd = exemplar_ukd.sum(axis=1)
    has_any_b = np.linalg.norm(mean_bd, axis=1) > 0
    unit_bd = normalise_rows(mean_bd)
    cosine_bb = unit_bd @ unit_bd.T
    cosine_bb[:, ~has_any_b] = -np.inf
    np.fill_diagonal(cosine_bb, -np.inf)
    place = {unit: b for b, unit in enumerate(both.tolist())}
    for unit in rows.tolist():
        b, other = place[unit], int(nearest_u[unit])
        best = cosine_bb[b].max(initial=-np.inf)
        if np.isnan(value_u[unit]) or other == unit:
            is_right = np.isnan(value_u[unit]) and other == unit
            is_right = is_right and (not has_any_b[b] or best == -np.inf)
        else:
            own = cosine_bb[b, place[other]]
            is_right = abs(own - value_u[unit]) <= LOSS and best <= own + LOSS
        if not is_right:
            yield stage, f"The nearest unit to unit {unit} of {stage} is not the one that it names."
