"""How real images with something differ from those without, image class by image class.

What an artefact goes with (the class, above all) shifts a score by itself. Within a class it
cannot, so the sign of this difference says which way real artefacts push, as far as columns tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from csp_engine.evaluation.paired_effects import (
    LEVEL,
    UNKNOWN,
    Bounded,
    count_groups,
    enough,
    group_draws,
)

LEAST_OF_EACH = 5
"""Images with and without it that a class needs to count."""


def difference_within_classes(
    score_n: Float[np.ndarray, " n"],
    has_n: Bool[np.ndarray, " n"],
    class_n: Sequence[Any],
    group_n: Int[np.ndarray, " n"],
    seed: int = 0,
) -> Bounded:
    """Mean score with it less mean score without it, within classes.

    ``Σ_c w_c (mean_with,c - mean_without,c) / Σ_c w_c`` with ``w_c = n_with,c n_without,c / n_c``,
    which weighs each class by the precision of its own difference. The interval is a percentile
    bootstrap over groups; draws in which no class has both kinds are left out.

    Args:
        score_n: of every image.
        has_n: whether it has the thing.
        class_n: its class; equal values are one class. Images of which it is None or NaN may be of
            any, so they are left out.
        group_n: what images are drawn together by.
        seed: of the draws.

    Returns:
        The difference, NaN where no class has ``LEAST_OF_EACH`` images of both kinds; without an
        interval where images of either kind are of fewer groups than one needs.
    """
    is_known_n = ~np.array([pd.isna(each) for each in class_n], bool)
    score_n, has_n, group_n = (np.asarray(each)[is_known_n] for each in (score_n, has_n, group_n))
    known = [str(each) for each, is_known in zip(class_n, is_known_n, strict=True) if is_known]
    if not known:
        return UNKNOWN
    _, class_n_ = np.unique(np.asarray(known, object), return_inverse=True)
    counts = np.stack(
        [np.bincount(class_n_[each], minlength=class_n_.max(initial=0) + 1)
         for each in (has_n, ~has_n)]
    )  # fmt: skip
    fit = np.flatnonzero((counts >= LEAST_OF_EACH).all(axis=0))
    if not len(fit):
        return UNKNOWN
    _, place_n = np.unique(group_n, return_inverse=True)
    n_groups = int(place_n.max()) + 1
    draws_rg = np.concatenate([np.ones((1, n_groups)), group_draws(n_groups, seed)])
    top_r, weight_r = np.zeros(len(draws_rg)), np.zeros(len(draws_rg))
    for each in fit:
        n_of, mean_of = [], []
        for kind_n in (has_n, ~has_n):
            own_n = kind_n & (class_n_ == each)
            number_g = np.bincount(place_n[own_n], minlength=n_groups)
            sum_g = np.bincount(
                place_n[own_n], score_n[own_n].astype(np.float64), minlength=n_groups
            )
            n_r = draws_rg @ number_g
            n_of.append(n_r)
            mean_of.append((draws_rg @ sum_g) / np.maximum(n_r, 1))
        weight = n_of[0] * n_of[1] / np.maximum(n_of[0] + n_of[1], 1)
        top_r += weight * (mean_of[0] - mean_of[1])
        weight_r += weight
    found_r = top_r[weight_r > 0] / weight_r[weight_r > 0]
    low, high = np.percentile(found_r[1:], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    is_fit_n = np.isin(class_n_, fit)
    n_groups = min(count_groups(place_n[is_fit_n & kind_n]) for kind_n in (has_n, ~has_n))
    return enough(Bounded(float(found_r[0]), float(low), float(high)), n_groups)
