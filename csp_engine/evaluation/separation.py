"""Whether an encoder's texts separate the images at hand, or say nothing about them.

Two questions. Where somebody says which images show what: does the name of a column or class tell
its images from the others? And where nobody does: do the texts' scores lean, see ``lean``?
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from csp_engine.evaluation.column_fit import column_fit
from csp_engine.evaluation.lean import LEAST_IMAGES, LEAST_TEXTS, Lean

CHANCE_AT = 0.05
"""Texts count as shuffled ones would if at least this share of draws does as well."""
AUROC_MIN = 0.6
"""Below this mean AUROC names hardly tell images apart, however sure that is."""
N_DRAWS = 1000


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


def is_separated(found: Lean, named: Naming) -> bool | None:
    """Whether texts separate the images; None where nothing can be said.

    By the names of columns and classes where there are any, else by how texts lean.
    """
    if np.isfinite(named.mean):
        return bool(named.mean >= AUROC_MIN and named.p <= max(CHANCE_AT, named.p_least))
    if found.p <= CHANCE_AT:
        return True
    is_enough = found.n_images >= LEAST_IMAGES and found.n_texts >= LEAST_TEXTS
    return False if is_enough and np.isfinite(found.p) else None
