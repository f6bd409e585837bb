"""What each exemplar and its contrast images add to the score of one label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from csp_engine.methods.csp import CSP, contrast_vectors, exemplar_weights
from csp_engine.methods.method import Params, resolve_params
from csp_engine.methods.semanticlens import VANISHED, exemplar_vectors
from csp_engine.types import Evidence


@dataclass(frozen=True, slots=True, eq=False)
class ScoreParts:
    """The score of one label by CSP, taken apart by the ranks of the exemplars.

    ``part_k`` sums to the score. ``exemplar_k`` is how well the label fits each exemplar by itself,
    ``contrast_k`` how well it fits its contrast images (their normalised mean); 0 without any.
    """

    part_k: Float32[np.ndarray, " k"]
    exemplar_k: Float32[np.ndarray, " k"]
    contrast_k: Float32[np.ndarray, " k"]


def score_parts(
    evidence: Evidence, label_d: Float32[np.ndarray, " d"], params: Params
) -> ScoreParts:
    """``<w_i (p_i - gamma s_i n_i), t> / |sum_j w_j (p_j - gamma s_j n_j)|`` for every exemplar i.

    Args:
        evidence: of one unit.
        label_d: vector of the label t.
        params: of CSP.

    Returns:
        one value for each scored exemplar, in their order; zero parts where nothing is left.
    """
    params = resolve_params(CSP, params)
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
