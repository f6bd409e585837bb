"""Whether an encoder's texts separate the images at hand, or say nothing about them.

Two questions. Do texts spread the images further than directions that mean nothing would? An
encoder that learnt nothing fails here. And, where somebody says which images show what: does the
name of a column or class tell its images from the others? Only that shows that an encoder that
knows other images knows these too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from csp_engine.evaluation.column_fit import column_fit

CHANCE_AT = 0.05
"""Texts count as shuffled ones would if at least this share of draws does as well."""
AUROC_MIN = 0.6
"""Below this mean AUROC names hardly tell images apart, however sure that is."""
N_ROTATIONS, N_DRAWS = 39, 1000


@dataclass(frozen=True, slots=True)
class Spread:
    """How far texts spread the images: variance of scores, over that of shuffled texts.

    ``p`` is the share of shuffled draws that spread them as far. NaN where nothing varies.
    """

    ratio: float
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class Naming:
    """How well names tell their images from the others.

    ``auroc_c`` for each column by its own name, ``shuffled_c`` by other texts on average; NaN for a
    column that all images show, or none. ``p`` is the share of draws, in each of which every column
    gets another text, whose mean is as high; never below 1 / (draws + 1), nor below what as few
    texts as there are could show (``p_least``).
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


def spread(
    image_nd: Float[np.ndarray, "n d"],
    text_td: Float[np.ndarray, "t d"],
    n_draws: int = N_ROTATIONS,
    seed: int = 0,
) -> Spread:
    """Compare the spread of images along texts with that along shuffled ones.

    Texts less their mean are T = U S V'. A shuffled draw is U S Q' with Q an orthonormal frame at
    random: as many directions, as long and as far apart as the texts, that mean nothing. The spread
    is the mean variance of the images' products with them.
    """
    image_nd = image_nd - image_nd.mean(axis=0)
    text_td = (text_td - text_td.mean(axis=0)).astype(np.float64)
    _, size_r, frame_rd = np.linalg.svd(text_td, full_matrices=False)
    kept = size_r > 1e-6 * max(float(size_r.max(initial=0)), 1e-9)
    size_r, frame_rd = size_r[kept], frame_rd[kept]
    covariance_dd = (image_nd.T @ image_nd).astype(np.float64)
    total = float(np.trace(covariance_dd))
    if not len(size_r) or total <= 1e-9 * max(1, len(image_nd)):
        return Spread(float("nan"), float("nan"))

    def along(frame_rd: np.ndarray) -> float:
        return float(((frame_rd @ covariance_dd) * frame_rd).sum(axis=1) @ size_r**2)

    own, rng = along(frame_rd), np.random.default_rng(seed)
    drawn = [
        along(np.linalg.qr(rng.normal(size=(image_nd.shape[1], len(size_r))))[0].T)
        for _ in range(n_draws)
    ]
    n_as_far = sum(each >= own for each in drawn)
    return Spread(own / float(np.mean(drawn)), (1 + n_as_far) / (1 + n_draws))


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
        n_draws: draws of other texts.
        seed: decides the draws.
    """
    score_tn = (text_td - text_td.mean(axis=0)) @ image_nd.T
    auroc_tc = column_fit(np.ascontiguousarray(score_tn, np.float32), value_nc).auroc_uc
    n_columns = value_nc.shape[1]
    own_c = auroc_tc[np.arange(n_columns), np.arange(n_columns)]
    shuffled_c = np.full(n_columns, np.nan, np.float32)
    rng = np.random.default_rng(seed)
    drawn, n_least = [], 1.0
    for c in np.flatnonzero(np.isfinite(own_c)):
        others = auroc_tc[is_other_tc[:, c], c]
        if not len(others):
            own_c[c] = np.nan  # nothing to compare with
            continue
        shuffled_c[c] = others.mean()
        drawn.append(rng.choice(others, n_draws))
        n_least *= len(others) + 1
    if not drawn:
        return Naming(own_c, shuffled_c, float("nan"), float("nan"))
    mean_r = np.mean(drawn, axis=0)
    n_as_high = int((mean_r >= np.nanmean(own_c) - 1e-9).sum())
    least = max(1 / (1 + n_draws), 1 / n_least)
    return Naming(own_c, shuffled_c, max((1 + n_as_high) / (1 + n_draws), least), least)


def is_separated(found: Spread, named: Naming) -> bool | None:
    """Whether texts separate the images; None where nothing can be said.

    By the names of columns and classes where there are any, else by the spread.
    """
    if np.isfinite(named.mean):
        return bool(named.mean >= AUROC_MIN and named.p <= max(CHANCE_AT, named.p_least))
    return None if np.isnan(found.p) else bool(found.p <= CHANCE_AT)
