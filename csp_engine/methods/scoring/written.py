"""Labels that a method writes itself, put into the same arrays as those of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from csp_engine.methods.method import OwnLabel, Written
from csp_engine.methods.scoring.ranking import RELIABLE_AT, Ranking

_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


def rank_written(
    parts: Sequence[tuple[np.ndarray, Written, Written | None]],
    n_units: int,
    n_labels: int,
    width: int,
    other_p: Float64[np.ndarray, " v"] | None = None,
) -> tuple[Ranking, tuple[str, ...]]:
    """Number the texts and judge the best label of each unit.

    A text that a method writes has no scores on the random image sets by itself, so
    ``percentile_uk`` is NaN. The best label of a unit is judged as the method says, else against
    the best labels of the random image sets, else not at all (NaN). Where the method gives
    p-values, the percentile is 1 - p, and false discoveries are held down over the whole layer.

    Args:
        parts: unit numbers, what was said about them, and about random image sets of their size.
        n_units: of the layer.
        n_labels: how many labels to keep for each unit.
        width: of concept vectors.
        other_p: p-values of the layer's other units, where these are only some of them.

    Returns:
        the ranking, and the texts that its label numbers count in.
    """
    number: dict[str, int] = {}
    ranking = Ranking.empty(n_units, n_labels, width)
    ranking.percentile_uk[:] = np.nan
    p_u = np.full(n_units, np.nan)
    for rows, written, null in parts:
        best_r = None
        if null is not None:
            best_r = np.sort([said[0].score if said else -np.inf for said in null.labels])
        for at, (unit, said) in enumerate(zip(rows.tolist(), written.labels, strict=True)):
            _put(ranking, unit, said, number)
            if written.vector_ud is not None and said:
                ranking.vector_ud[unit] = written.vector_ud[at]
            ranking.best_percentile_u[unit], is_reliable = _judged(written, at, said, best_r)
            ranking.reliable_u[unit] = is_reliable and bool(said)
            if written.p_u is not None and said:
                p_u[unit] = written.p_u[at]
    _keep_discoveries(ranking, p_u, np.empty(0) if other_p is None else other_p)
    return ranking, tuple(number)


def _put(ranking: Ranking, unit: int, said: Sequence[OwnLabel], number: dict[str, int]) -> None:
    kept = said[: ranking.label_uk.shape[1]]
    ranking.count_u[unit] = len(kept)
    for k, label in enumerate(kept):
        ranking.label_uk[unit, k] = number.setdefault(label.text, len(number))
        ranking.score_uk[unit, k] = label.score
        ranking.raw_uk[unit, k] = label.score if label.raw is None else label.raw
        if k + 1 < len(said):
            ranking.margin_uk[unit, k] = label.score - said[k + 1].score


def _keep_discoveries(
    ranking: Ranking, p_u: Float64[np.ndarray, " u"], other_p: Float64[np.ndarray, " v"]
) -> None:
    """Of the labels with p-values, keep as reliable those found at the rate of false discoveries.

    The rate is 1 - ``RELIABLE_AT``, by Benjamini and Hochberg, over the whole layer.
    """
    is_tested_u = np.isfinite(p_u)
    if not is_tested_u.any():
        return
    from scipy.stats import false_discovery_control

    own_p = p_u[is_tested_u]
    found = false_discovery_control(np.append(own_p, other_p))[: len(own_p)] <= 1 - RELIABLE_AT
    ranking.reliable_u[np.flatnonzero(is_tested_u)[~found]] = False


def _judged(
    written: Written, at: int, said: Sequence[OwnLabel], best_r: np.ndarray | None
) -> tuple[float, bool]:
    """The percentile of a unit's best label, and whether it is reliable."""
    percentile, is_reliable = float("nan"), False
    if best_r is not None and said:
        n_below = int(np.searchsorted(best_r, said[0].score, side="left"))
        percentile = n_below / (len(best_r) + 1)
        is_reliable = n_below >= RELIABLE_AT * (len(best_r) + 1) - 1e-9
    if written.p_u is not None:
        # As in float32, where bundles keep it, a share never reaches 1.
        percentile, is_reliable = min(1 - float(written.p_u[at]), _BELOW_ONE), True
    if written.percentile_u is not None:
        percentile = float(written.percentile_u[at])
    if written.reliable_u is not None:
        is_reliable = bool(written.reliable_u[at])
    return percentile if said else 0.0, is_reliable
