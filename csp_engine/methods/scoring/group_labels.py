"""What each group of a neuron's exemplars would be called by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int

from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.depths.joined import Joined, parts_of
from csp_engine.methods.scoring.halves import NullComponents, csp_components
from csp_engine.methods.scoring.ranking import top_labels
from csp_engine.types import ContrastSet, Exemplars
from csp_engine.vectors import VANISHED

SAME, NEAR = 0.8, 0.7
"""As for CSP+: correlation from which two labels mean one thing, and the share of the best score
that another meaning must reach."""
_LOOKED_AT = 60


def group_labels(
    evidence: Evidence,
    group_k: Int[np.ndarray, " k"],
    label_td: Float32[np.ndarray, "t d"],
    texts: Sequence[str],
    null: NullComponents,
    *,
    gamma: int | float,
    weighting: str = "none",
    n_labels: int = 3,
) -> list[list[int]]:
    """The best labels of each group, as if the others were no exemplars.

    As CSP+ scores one depth: ``((anchor - gamma * projection) . T_t - m_t) / s_t``, with m_t and
    s_t the mean and standard deviation of the same over random image sets; a label that joins
    others comes after each of them. A group has fewer images than those sets, which multiplies
    every s_t alike, so the order holds and the scores would claim too much: they are not given. Of
    labels whose scores go together over random image sets (r of ``SAME`` or more), which mean one
    thing, the best stands for all; other meanings are given if they score ``NEAR`` as much.

    Args:
        evidence: of one unit, with its contrast images.
        group_k: the group of each of the first ranks, counted from 0.
        label_td: label vectors.
        texts: of the labels.
        null: the halves of random image sets, all of one size.
        gamma: share of the common part that is removed.
        weighting: as for CSP.
        n_labels: how many labels of each, at most.
    """
    chance_rt = _contrast(null.anchor_rd, null.projection_rd, gamma) @ label_td.T
    centre_t, spread_t = chance_rt.mean(axis=0), np.maximum(chance_rt.std(axis=0), 1e-6)
    chance_rt = (chance_rt - centre_t) / spread_t
    joined = Joined.of(parts_of(texts))
    found: list[list[int]] = []
    for group in range(int(group_k.max(initial=-1)) + 1):
        ranks = np.flatnonzero(group_k == group)
        halves = csp_components(of_ranks(evidence, ranks), max(len(ranks), 1), weighting)
        vector_1d = _contrast(*halves, gamma)
        if np.linalg.norm(vector_1d) < VANISHED:
            found.append([])
            continue
        score_1t = ((vector_1d @ label_td.T - centre_t) / spread_t).astype(np.float32)
        joined.hold_down(score_1t)
        best_k = top_labels(score_1t, min(_LOOKED_AT, len(label_td)))[0]
        is_near_k = score_1t[0, best_k] >= NEAR * score_1t[0, best_k[0]]
        is_near_k[0] = True
        found.append(_meanings(best_k[is_near_k], chance_rt, n_labels))
    return found


def _meanings(
    label_k: Int[np.ndarray, " k"], chance_rt: Float32[np.ndarray, "r t"], n_labels: int
) -> list[int]:
    """The first labels of which none means the same as one before it."""
    kept: list[int] = []
    for label in label_k.tolist():
        alike_m = chance_rt[:, label] @ chance_rt[:, kept] / len(chance_rt)
        if (alike_m < SAME).all():
            kept.append(label)
        if len(kept) == n_labels:
            break
    return kept


def _contrast(
    anchor_xd: Float32[np.ndarray, "x d"], projection_xd: Float32[np.ndarray, "x d"], gamma: float
) -> Float32[np.ndarray, "x d"]:
    return np.asarray(anchor_xd) - np.float32(gamma) * np.asarray(projection_xd)


def of_ranks(evidence: Evidence, ranks: Int[np.ndarray, " m"]) -> Evidence:
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
