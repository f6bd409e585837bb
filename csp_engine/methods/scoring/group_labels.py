"""What a method would call each group of a neuron's exemplars by itself."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int

from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.method import Method, Params, Scored, resolve_params
from csp_engine.methods.scoring.ranking import top_labels
from csp_engine.types import ContrastSet, Exemplars


def group_labels(
    method: Method,
    evidence: Evidence,
    group_k: Int[np.ndarray, " k"],
    label_td: Float32[np.ndarray, "t d"],
    params: Params,
    n_labels: int = 3,
) -> list[list[tuple[int, float]]]:
    """The best labels of each group, as if the others were no exemplars: ids and scores.

    A group has fewer images than the neuron, so these scores have no null and claim nothing.

    Args:
        method: one that scores a vocabulary.
        evidence: of one unit.
        group_k: the group of each of the first ranks, counted from 0.
        label_td: label vectors.
        params: of the method.
        n_labels: how many labels of each.
    """
    params = resolve_params(method, params)
    found = []
    for group in range(int(group_k.max(initial=-1)) + 1):
        ranks = np.flatnonzero(group_k == group)
        scored = method.score(_of_ranks(evidence, ranks), label_td, params)
        if not isinstance(scored, Scored) or not scored.has_label_u[0]:
            found.append([])
            continue
        top_k = top_labels(scored.score_ut, min(n_labels, len(label_td)))[0, :n_labels]
        found.append([(int(t), float(scored.score_ut[0, t])) for t in top_k])
    return found


def _of_ranks(evidence: Evidence, ranks: Int[np.ndarray, " m"]) -> Evidence:
    """The same unit with some of its exemplars."""
    exemplars, contrast = evidence.exemplars, evidence.contrast
    paired = ranks[ranks < contrast.image_ukj.shape[1]]
    missing = ((0, 0), (0, len(ranks) - len(paired)))
    count_u = np.array([len(ranks)], np.int32)
    return Evidence(
        Exemplars(exemplars.image_uk[:, ranks], exemplars.activation_uk[:, ranks], count_u),
        ContrastSet(
            *(
                np.pad(getattr(contrast, name)[:, paired], (*missing, (0, 0)))
                for name in ("image_ukj", "similarity_ukj", "activation_ukj")
            ),
            np.pad(contrast.n_partner_uk[:, paired], missing),
            contrast.pool_u,
            contrast.threshold_u,
        ),
        evidence.image_nd,
    )
