"""What each exemplar and its contrast images add to the score of one label, from the halves."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.method import Params, ScoreParts
from csp_engine.methods.scoring.exemplar_means import exemplar_vectors
from csp_engine.methods.scoring.halves import contrast_vectors, exemplar_weights
from csp_engine.vectors import VANISHED


def score_parts(
    evidence: Evidence, label_d: Float32[np.ndarray, " d"], params: Params
) -> ScoreParts:
    """``<w_i (p_i - gamma s_i n_i), t> / |sum_j w_j (p_j - gamma s_j n_j)|`` for every exemplar i.

    Args:
        evidence: of one unit.
        label_d: vector of the label t.
        params: gamma, ``n_score`` and weighting.

    Returns:
        one value for each scored exemplar, in their order; zero parts where nothing is left.
    """
    n_scored = min(int(evidence.exemplars.count_u[0]), params["n_score"])
    weight_k = exemplar_weights(evidence, params["n_score"], params["weighting"])[0, :n_scored]
    p_kd = exemplar_vectors(evidence.image_nd, evidence.exemplars.image_uk[:, :n_scored])[0]
    n_kd = contrast_vectors(evidence, params["n_score"])[0, :n_scored]
    s_k = np.einsum("kd,kd->k", p_kd, n_kd)
    rest_kd = weight_k[:, None] * (p_kd - np.float32(params["gamma"]) * s_k[:, None] * n_kd)
    length = float(np.linalg.norm(rest_kd.sum(axis=0)))
    part_k = rest_kd @ label_d / length if length > VANISHED else np.zeros(n_scored)
    return ScoreParts(
        np.asarray(part_k, np.float32),
        np.asarray(p_kd @ label_d, np.float32),
        np.asarray(n_kd @ label_d, np.float32),
    )
