"""Whether a paste can be trusted: does what knows the real artefact recognise the pasted one.

A linear probe learns on vectors of real photographs with and without the artefact, as a column says
of them, and is asked about pasted ones and their neutral twins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.stats import rankdata

from csp_engine.errors import InputError
from csp_engine.reading.tables import singular_key
from csp_engine.stats.intervals import auroc_interval

NAMES = {
    "ruler": ("scale", "scale_bar", "ruler_mark"),
    "colour patch": ("patch", "color_patch", "coloured_patch", "colored_patch", "sticker"),
    "ink marks": ("ink", "pen_mark", "skin_marker", "surgical_ink"),
    "hair": (),
    "gel bubbles": ("bubble", "air_bubble"),
    "dark corners": ("dark_border", "black_corner", "vignette"),
}
"""What columns of concepts, and folders of cut-outs, call an artefact beside its own name.

A final s makes no difference.
"""
LEAST = {
    "colour patch": 0.95,
    "dark corners": 0.95,
    "hair": 0.90,
    "gel bubbles": 0.90,
    "ruler": 0.80,
    "ink marks": 0.70,
}
"""AUROC from which a paste is trusted, by artefact: set beforehand, not fitted to any probe."""
USUAL_LEAST = 0.80
LEAST_OF_EACH = 10
"""Groups with the artefact, and groups without it, below which no probe is learnt."""


def least_of(artefact: str) -> float:
    """The AUROC that a paste has to reach, by any name of what it shows."""
    key = singular_key(artefact)
    called = (n for n, others in NAMES.items() if key in map(singular_key, (n, *others)))
    return LEAST.get(next(called, ""), USUAL_LEAST)


_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
_N_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Area:
    """An area under a ROC curve with Newcombe's 95 % interval, from counts of groups."""

    auroc: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Gate:
    """What a probe of the real artefact makes of the pasted one.

    Attributes:
        artefact: its name.
        real: real photographs with it against without it, each judged by a probe that has not
            seen its group. No paste can be recognised better than what it imitates.
        pasted: pasted against neutral.
        neutral: neutral against the photograph as it was; .5 if plain skin says nothing.
        least: AUROC that a paste of this artefact has to reach.
    """

    artefact: str
    real: Area
    pasted: Area
    neutral: Area
    least: float

    @property
    def is_open(self) -> bool:
        """Whether effects of the pasted artefact may be read as those of the real one."""
        return self.pasted.auroc >= self.least


def gate(
    artefact: str,
    real_nd: Float[np.ndarray, "n d"],
    has_n: Bool[np.ndarray, " n"],
    group_n: Int[np.ndarray, " n"],
    without_pd: Float[np.ndarray, "p d"],
    with_pd: Float[np.ndarray, "p d"],
    neutral_pd: Float[np.ndarray, "p d"],
    group_p: Int[np.ndarray, " p"],
) -> Gate:
    """Learn the probe and ask it.

    Ridge regression of the column on standardised vectors; the penalty is the one that judges
    real groups best that it was not fitted to. Photographs whose group is among the pairs are not
    learnt from.

    Args:
        artefact: its name, for the threshold and the message.
        real_nd: vectors of real photographs.
        has_n: whether each has the artefact.
        group_n: what photographs share (lesion, patient); equal numbers mean the same as in
            ``group_p``.
        without_pd: vectors of the photographs that were pasted into.
        with_pd: the same with the artefact.
        neutral_pd: the same with the neutral paste.
        group_p: their groups.

    Raises:
        InputError: if too few real photographs have the artefact, or too few have not.
    """
    kept_n = ~np.isin(group_n, group_p)
    real_nd, has_n, group_n = real_nd[kept_n].astype(np.float64), has_n[kept_n], group_n[kept_n]
    n_with, n_without = (len(np.unique(group_n[each])) for each in (has_n, ~has_n))
    if min(n_with, n_without) < LEAST_OF_EACH:
        raise InputError(
            f"Of the real photographs that nothing was pasted into, {n_with} have {artefact!r} and "
            f"{n_without} have not; a probe needs {LEAST_OF_EACH} of each, so mark more in the "
            "column or paste into fewer."
        )
    best, known = told_apart(real_nd, has_n, group_n)
    judge = _Probe(real_nd, has_n, best)
    with_p, without_p, neutral_p = map(judge.scores, (with_pd, without_pd, neutral_pd))
    n_pairs = len(np.unique(group_p))
    return Gate(
        artefact,
        _bounded(known, n_with, n_without),
        _bounded(_auroc(with_p, neutral_p), n_pairs, n_pairs),
        _bounded(_auroc(neutral_p, without_p), n_pairs, n_pairs),
        least_of(artefact),
    )


def told_apart(
    real_nd: Float[np.ndarray, "n d"],
    has_n: Bool[np.ndarray, " n"],
    group_n: Int[np.ndarray, " n"],
) -> tuple[float, float]:
    """How well a probe tells real photographs with an artefact: its best penalty, and the AUROC.

    The mean over folds of groups, each judged by a probe of the other folds.
    """
    areas = {share: _held_out(real_nd, has_n, group_n, share) for share in _PENALTIES}
    return max(areas.items(), key=lambda each: each[1])


class _Probe:
    """Ridge regression of a flag; ``share`` is the penalty as a share of the mean eigenvalue."""

    def __init__(self, vector_nd: np.ndarray, has_n: np.ndarray, share: float) -> None:
        self._mean_d = vector_nd.mean(axis=0)
        spread_d = vector_nd.std(axis=0)
        self._spread_d = np.where(spread_d > 0, spread_d, 1.0)
        plain_nd = (vector_nd - self._mean_d) / self._spread_d
        aim_n = has_n - has_n.mean()
        n, width = plain_nd.shape
        penalty = share * n
        if n <= width:
            kernel_nn = plain_nd @ plain_nd.T + penalty * np.eye(n)
            self._weight_d = plain_nd.T @ np.linalg.solve(kernel_nn, aim_n)
        else:
            gram_dd = plain_nd.T @ plain_nd + penalty * np.eye(width)
            self._weight_d = np.linalg.solve(gram_dd, plain_nd.T @ aim_n)

    def scores(self, vector_nd: np.ndarray) -> Float64[np.ndarray, " n"]:
        return (vector_nd.astype(np.float64) - self._mean_d) / self._spread_d @ self._weight_d


def _held_out(vector_nd: np.ndarray, has_n: np.ndarray, group_n: np.ndarray, share: float) -> float:
    """Mean AUROC over folds of groups, each judged by a probe of the other folds."""
    _, place_n = np.unique(group_n, return_inverse=True)
    fold_g = np.random.default_rng(0).permutation(int(place_n.max()) + 1) % _N_FOLDS
    fold_n = fold_g[place_n]
    found = []
    for fold in range(_N_FOLDS):
        in_n = fold_n == fold
        if has_n[~in_n].all() or not has_n[~in_n].any():
            continue
        score_n = _Probe(vector_nd[~in_n], has_n[~in_n], share).scores(vector_nd[in_n])
        area = _auroc(score_n[has_n[in_n]], score_n[~has_n[in_n]])
        if np.isfinite(area):
            found.append(area)
    return float(np.mean(found)) if found else 0.5


def _auroc(high_n: np.ndarray, low_m: np.ndarray) -> float:
    """How often one of the first is above one of the second; ties count half."""
    n, m = len(high_n), len(low_m)
    if not n or not m:
        return float("nan")
    ranks = rankdata(np.concatenate([high_n, low_m]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def _bounded(auroc: float, n_positive: int, n_negative: int) -> Area:
    low, high = auroc_interval(np.asarray(auroc), n_positive, n_negative)
    return Area(auroc, float(low), float(high))
