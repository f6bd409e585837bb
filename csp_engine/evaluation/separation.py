"""Whether an encoder's texts separate the images at hand, or say nothing about them.

Two questions. Where somebody says which images show what: does the name of a column or class tell
its images from the others? And where nobody does: do the texts' scores lean, see ``lean``?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from csp_engine.evaluation.column_fit import column_fit
from csp_engine.evaluation.lean import LEAST_IMAGES, LEAST_TEXTS, Lean
from csp_engine.evaluation.rotations import Turning

CHANCE_AT = 0.05
"""Texts count as turned ones would if a larger share of draws does as well."""
AUROC_MIN = 0.6
"""Below this mean AUROC names hardly tell images apart, however sure that is."""
N_DRAWS = 199
N_CELLS = 400_000
"""Most images times names that are ranked again for each draw."""


@dataclass(frozen=True, slots=True, eq=False)
class Naming:
    """How well names tell their images from the others.

    ``auroc_c`` for each column by its own name, ``shuffled_c`` by other texts on average; NaN for a
    column that all images show, or none. ``p`` is the share of draws, in each of which all names
    are turned together (``Turning``), whose mean is as high. ``p_least`` is the same of names that
    tell all images apart: where images are of so few kinds that turned names often do so too, it is
    large, and names cannot show anything. Neither is below 1 / (draws + 1).
    """

    auroc_c: Float32[np.ndarray, " c"]
    shuffled_c: Float32[np.ndarray, " c"]
    p: float
    p_least: float

    @property
    def mean(self) -> float:
        """Mean AUROC by the own names; NaN without a column that has one."""
        return float(np.nanmean(self.auroc_c)) if np.isfinite(self.auroc_c).any() else float("nan")

    @property
    def shuffled(self) -> float:
        """Mean AUROC by other texts."""
        known_c = self.shuffled_c[np.isfinite(self.shuffled_c)]
        return float(known_c.mean()) if len(known_c) else float("nan")


def naming(
    image_nd: Float[np.ndarray, "n d"],
    text_td: Float[np.ndarray, "t d"],
    value_nc: Float32[np.ndarray, "n c"],
    is_other_tc: Bool[np.ndarray, "t c"],
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> Naming:
    """How well each column's images are told from the others by its name, and by other texts.

    Args:
        image_nd: vectors of images.
        text_td: vectors of the c names, in the order of the columns, then of other texts.
        value_nc: 1 where an image shows the column, 0 where not, NaN where nobody knows.
        is_other_tc: which texts say something else than the name of a column.
        n_draws: how often the names are turned.
        seed: decides the draws.
    """
    text_td = text_td - text_td.mean(axis=0)
    score_tn = np.ascontiguousarray(text_td @ image_nd.T, np.float32)
    auroc_tc = column_fit(score_tn, value_nc).auroc_uc
    n_columns = value_nc.shape[1]
    own_c = auroc_tc[np.arange(n_columns), np.arange(n_columns)]
    shuffled_c = np.full(n_columns, np.nan, np.float32)
    for c in np.flatnonzero(np.isfinite(own_c)):
        others = auroc_tc[is_other_tc[:, c], c]
        if len(others):
            shuffled_c[c] = others.mean()
        else:
            own_c[c] = np.nan  # nothing to compare with
    is_compared_c = np.isfinite(own_c)
    p = p_least = float("nan")
    if is_compared_c.any():
        name_cd = text_td[:n_columns][is_compared_c]
        p, p_least = _against_turned(image_nd, name_cd, value_nc[:, is_compared_c], n_draws, seed)
    return Naming(own_c, shuffled_c, p, p_least)


def _against_turned(
    image_nd: Float[np.ndarray, "n d"],
    name_cd: Float[np.ndarray, "c d"],
    value_nc: Float32[np.ndarray, "n c"],
    n_draws: int,
    seed: int,
) -> tuple[float, float]:
    """Share of draws of turned names that do as well as the names, and as well as possible."""
    rng = np.random.default_rng(seed)
    most = max(N_CELLS // value_nc.shape[1], 1)
    if len(image_nd) > most:
        drawn = np.sort(rng.choice(len(image_nd), most, replace=False))
        image_nd, value_nc = image_nd[drawn], value_nc[drawn]
    image_nd = image_nd.astype(np.float64)
    turning = Turning.of(name_cd)
    showing = [(np.flatnonzero(of_n == 1), np.flatnonzero(of_n == 0)) for of_n in value_nc.T]
    own = _mean_auroc(turning.scores(image_nd), showing)
    turned = turning.turned(image_nd, n_draws, seed)
    mean_r = np.array([_mean_auroc(score_cn, showing) for score_cn in turned])
    n_as_high, n_perfect = ((mean_r >= bar - 1e-9).sum() for bar in (own, 1.0))
    return float(1 + n_as_high) / (1 + n_draws), float(1 + n_perfect) / (1 + n_draws)


def _mean_auroc(
    score_cn: Float64[np.ndarray, "c n"],
    showing: Sequence[tuple[np.ndarray, np.ndarray]],
) -> float:
    """Mean over columns of the AUROC of each by its own row of scores; ties count half.

    ``showing`` are the images that show each column, and those that do not. Sorting either apart
    is several times as fast as ranking both together; the fewer are then found among the more.
    """
    auroc = []
    for score_n, (with_p, without_q) in zip(score_cn.astype(np.float32), showing, strict=True):
        if len(with_p) and len(without_q):
            is_fewer_with = len(with_p) <= len(without_q)
            few, many = (with_p, without_q) if is_fewer_with else (without_q, with_p)
            score_f, score_m = np.sort(score_n[few]), np.sort(score_n[many])
            below_f = np.searchsorted(score_m, score_f)
            below = twice = below_f.sum()
            if (score_m[np.minimum(below_f, len(many) - 1)] == score_f).any():
                twice = np.searchsorted(score_m, score_f, side="right").sum()
            share = (below + twice) / 2 / (len(few) * len(many))
            auroc.append(share if is_fewer_with else 1 - share)
    return float(np.mean(auroc)) if auroc else float("nan")


def is_separated(found: Lean, named: Naming) -> bool | None:
    """Whether texts separate the images; None where nothing can be said.

    By the names of columns and classes where there are any, else by how texts lean.
    """
    if np.isfinite(named.mean):
        if named.mean >= AUROC_MIN and named.p_least > CHANCE_AT:
            return None
        return bool(named.mean >= AUROC_MIN and named.p <= CHANCE_AT)
    if found.p <= CHANCE_AT:
        return True
    is_enough = found.n_images >= LEAST_IMAGES and found.n_texts >= LEAST_TEXTS
    return False if is_enough and np.isfinite(found.p) else None
