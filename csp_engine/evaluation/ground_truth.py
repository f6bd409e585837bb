"""What a neuron really answers to, where the concepts of every image are known.

Three figures for every unit and concept, on images that took no part in training or labelling:
Pearson's correlation of activation and truth, the area under the ROC curve, and the average
precision. From them the *true concept* of a unit, or none: chosen on one half of the images,
measured on the other, so that the choice among many concepts does not flatter the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int, Int32

from csp_engine.errors import InputError
from csp_engine.evaluation.metrics.auprc import AUPRC
from csp_engine.evaluation.metrics.auroc import AUROC
from csp_engine.evaluation.metrics.metric import Columns, Judged, Metric
from csp_engine.evaluation.metrics.pearson import PEARSON, pearson
from csp_engine.stats.drawn import LEAST_DRAWN, percentile_interval
from csp_engine.stats.intervals import auroc_interval
from csp_engine.types import Progress, silent

UNIT_BLOCK = 256
"""Units at a time; results do not depend on it."""


@dataclass(frozen=True, slots=True, eq=False)
class Association:
    """How strongly each unit goes with each concept.

    ``pearson_uc`` in [-1, 1]; NaN for a constant unit. ``auroc_uc`` in [0, 1]: the chance that an
    image with the concept excites the unit more than one without, ties counting half; 0.5 for a
    constant unit. ``auprc_uc`` in (0, 1]: average precision; the share of positives for a constant
    unit. All three are NaN for a concept that all images show, or none. ``more`` holds the figures
    of other metrics that were asked for, by name.
    """

    pearson_uc: Float32[np.ndarray, "u c"]
    auroc_uc: Float32[np.ndarray, "u c"]
    auprc_uc: Float32[np.ndarray, "u c"]
    more: Mapping[str, Float32[np.ndarray, "u c"]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TruthRule:
    """When a concept counts as what a unit answers to.

    The lower bounds (``level``) of AUROC and Pearson must reach ``auroc_min`` and ``pearson_min``.
    Both are needed: AUROC alone accepts a rare part of the concept (a unit that answers to all
    colour patches has an AUROC near 0.95 for purple ones), and a correlation alone accepts a unit
    whose few extreme images carry it. 0.8: of five pairs of an image with and one without, four in
    the right order. 0.3: below it even a perfect linear reading of the concept would explain less
    than a tenth of the unit's variance. Concepts with fewer than ``min_positive`` images (or
    groups) with it, or without it, in either half are not looked at.
    """

    auroc_min: float = 0.8
    pearson_min: float = 0.3
    min_positive: int = 10
    level: float = 0.95
    n_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.auroc_min <= 1 or not 0 <= self.pearson_min <= 1:
            raise InputError(
                f"auroc_min {self.auroc_min} must be in [0.5, 1] and pearson_min "
                f"{self.pearson_min} in [0, 1]."
            )
        if self.min_positive < 2 or self.n_resamples < 100 or not 0.5 <= self.level < 1:
            raise InputError(
                f"min_positive {self.min_positive} must be at least 2, n_resamples "
                f"{self.n_resamples} at least 100, and level {self.level} in [0.5, 1)."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The concept each unit goes with best, and whether it counts as its true one.

    ``concept_u`` is the concept chosen on the first half and means something where
    ``has_concept_u``; elsewhere no concept was correlated at all and the figures are NaN. The
    figures and their bounds are those of the second half. ``is_true_u``: the rule's bounds are met.
    ``more`` holds the figures of other metrics, without bounds.
    """

    concept_u: Int32[np.ndarray, " u"]
    has_concept_u: Bool[np.ndarray, " u"]
    is_true_u: Bool[np.ndarray, " u"]
    pearson_u3: Float32[np.ndarray, "u 3"]
    auroc_u3: Float32[np.ndarray, "u 3"]
    auprc_u3: Float32[np.ndarray, "u 3"]
    n_positive_u: Int32[np.ndarray, " u"]
    more: Mapping[str, Float32[np.ndarray, " u"]] = field(default_factory=dict)


def association(
    activation_un: Float32[np.ndarray, "u n"],
    truth_nc: Bool[np.ndarray, "n c"],
    *,
    unit_block: int = UNIT_BLOCK,
    more: Sequence[Metric] = (),
    progress: Progress = silent,
) -> Association:
    """Pearson, AUROC and average precision of every unit with every concept, and more if asked.

    With ranks r (ties share their mean) and n1 positives of n,
    ``AUROC = (sum of r over positives - n1 (n1 + 1) / 2) / (n1 (n - n1))``: each unit is ranked
    once and one matrix product gives all concepts.
    Average precision is the mean over positives of the precision among all images at least as
    active; tied images enter together, as one threshold, so the order of images does not matter
    (scikit-learn's ``average_precision_score`` does the same).

    Raises:
        InputError: if an activation is not finite, or there are fewer than 4 images or no concept.
    """
    _check(activation_un, truth_nc)
    n_units, n_concepts = len(activation_un), truth_nc.shape[1]
    n_positive_c = truth_nc.sum(axis=0)
    wanted_c = np.flatnonzero((n_positive_c > 0) & (n_positive_c < len(truth_nc)))
    columns = Columns(truth_nc[:, wanted_c].astype(np.float64))
    found = {
        metric: np.full((n_units, n_concepts), np.nan, np.float32)
        for metric in (PEARSON, AUROC, AUPRC, *more)
    }
    for units in _blocks(n_units, unit_block):
        judged = Judged(activation_un[units], columns)
        for metric, figure_uc in found.items():
            figure_uc[units, wanted_c] = metric.figures(judged)
        progress("truth", min(units.stop, n_units), n_units)
    basic = (found.pop(metric) for metric in (PEARSON, AUROC, AUPRC))
    return Association(*basic, {metric.name: figure_uc for metric, figure_uc in found.items()})


def bootstrap(
    activation_un: Float32[np.ndarray, "u n"],
    truth_un: Bool[np.ndarray, "u n"],
    *,
    group_n: Int[np.ndarray, " n"] | None = None,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Float64[np.ndarray, "3 2 u"]:
    """Percentile bootstrap bounds of Pearson, AUROC and average precision, a concept for each unit.

    Whole groups are drawn with replacement, or images where there are no groups; every unit meets
    the same draws. Draws without a positive or without a negative are left out, and there are no
    bounds where fewer than ``LEAST_DRAWN`` groups show a concept, or lack it.

    Args:
        activation_un: activations.
        truth_un: for each unit, which images show its concept.
        group_n: images with the same number belong together.
        level: of the interval.
        n_resamples: number of draws.
        seed: decides the draws.

    Returns:
        Lower and upper bound for the three figures in that order; NaN where undefined.
    """
    weight_nr = draws(activation_un.shape[1], group_n, n_resamples=n_resamples, seed=seed)
    bounds = np.full((3, 2, len(activation_un)), np.nan)
    least_u = np.minimum(*independent_counts(truth_un.T, group_n))
    for u in np.flatnonzero(least_u >= LEAST_DRAWN):
        values_n = activation_un[u].astype(np.float64)
        for figure, drawn_r in enumerate(_weighted_figures(values_n, truth_un[u], weight_nr)):
            bounds[figure, :, u] = percentile_interval(drawn_r, int(least_u[u]), level)
    return bounds


def draws(
    n_images: int, group_n: Int[np.ndarray, " n"] | None, *, n_resamples: int, seed: int
) -> Float32[np.ndarray, "n r"]:
    """How often each image is drawn, where whole groups are drawn with replacement."""
    members = np.arange(n_images) if group_n is None else np.unique(group_n, return_inverse=True)[1]
    n_groups = int(members.max(initial=-1)) + 1
    rng = np.random.default_rng(seed)
    count_rg = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)
    return np.ascontiguousarray(count_rg.T[members], dtype=np.float32)


def halves(
    n_images: int, group_n: Int[np.ndarray, " n"] | None, seed: int
) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Split images at random, groups whole: half to choose on, half to measure on."""
    members = np.arange(n_images) if group_n is None else np.unique(group_n, return_inverse=True)[1]
    n_groups = int(members.max(initial=-1)) + 1
    first = np.random.default_rng([seed, 1]).permutation(n_groups) < n_groups // 2
    is_first_n = first[members]
    return is_first_n, ~is_first_n


def true_concepts(
    activation_un: Float32[np.ndarray, "u n"],
    truth_nc: Bool[np.ndarray, "n c"],
    *,
    group_n: Int[np.ndarray, " n"] | None = None,
    rule: TruthRule | None = None,
    more: Sequence[Metric] = (),
    progress: Progress = silent,
) -> Truth:
    """The true concept of every unit, or none, honest about having looked at many.

    On one half of the images the concept with the highest Pearson correlation is chosen, if that is
    above 0: what a unit answers to excites it, and Pearson, unlike AUROC, falls both for a concept
    that is too broad and for one that is too narrow. On the other half its three figures are
    measured, with intervals: the bootstrap, by group; for AUROC the wider of that and Newcombe's
    (counting groups where there are any), because the bootstrap is too sure of areas near 1. The
    concept is the unit's true one if the rule's lower bounds are met.
    """
    rule = rule or TruthRule()
    _check(activation_un, truth_nc)
    n_units = len(activation_un)
    first_n, second_n = halves(len(truth_nc), group_n, rule.seed)
    is_candidate_c = np.ones(truth_nc.shape[1], bool)
    for half_n in (first_n, second_n):
        n_with_c, n_without_c = independent_counts(truth_nc[half_n], _rows(group_n, half_n))
        is_candidate_c &= np.minimum(n_with_c, n_without_c) >= rule.min_positive
    candidates = np.flatnonzero(is_candidate_c)
    chosen_u, best_u = np.zeros(n_units, np.int32), np.full(n_units, -np.inf)
    first_nj = truth_nc[first_n][:, candidates].astype(np.float64)
    for units in _blocks(n_units, UNIT_BLOCK):
        if not len(candidates):
            break
        pearson_bj = np.nan_to_num(pearson(activation_un[units][:, first_n], first_nj), nan=-2)
        chosen_u[units] = candidates[pearson_bj.argmax(axis=1)]
        best_u[units] = pearson_bj.max(axis=1)
    has_concept_u = best_u > 0
    return _measured(
        activation_un[:, second_n],
        truth_nc[second_n],
        _rows(group_n, second_n),
        np.where(has_concept_u, chosen_u, 0).astype(np.int32),
        has_concept_u,
        rule,
        more,
        progress,
    )


def independent_counts(
    truth_nc: Bool[np.ndarray, "n c"], group_n: Int[np.ndarray, " n"] | None
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """How many groups (images where there are none) show each concept somewhere, and lack it."""
    if group_n is None:
        return truth_nc.sum(axis=0), (~truth_nc).sum(axis=0)
    members = np.unique(group_n, return_inverse=True)[1]
    counts = []
    for which_nc in (truth_nc, ~truth_nc):
        shows_gc = np.zeros((int(members.max(initial=-1)) + 1, truth_nc.shape[1]), bool)
        np.logical_or.at(shows_gc, members, which_nc)
        counts.append(shows_gc.sum(axis=0))
    return counts[0], counts[1]


def _measured(
    activation_un: Float32[np.ndarray, "u n"],
    truth_nc: Bool[np.ndarray, "n c"],
    group_n: Int[np.ndarray, " n"] | None,
    concept_u: Int32[np.ndarray, " u"],
    has_concept_u: Bool[np.ndarray, " u"],
    rule: TruthRule,
    more: Sequence[Metric],
    progress: Progress,
) -> Truth:
    n_units = len(activation_un)
    more_u = {metric.name: np.full(n_units, np.nan, np.float32) for metric in more}
    figure_3u3 = np.full((3, n_units, 3), np.nan)
    rows = np.flatnonzero(has_concept_u)
    n_with_c, n_without_c = independent_counts(truth_nc, group_n)
    for block in _blocks(len(rows), UNIT_BLOCK):
        units = rows[block]
        values, concept = activation_un[units], concept_u[units]
        whole = association(values, truth_nc, more=more)
        own = np.arange(len(units)), concept
        points = [whole.pearson_uc[own], whole.auroc_uc[own], whole.auprc_uc[own]]
        bounds = bootstrap(
            values,
            truth_nc.T[concept],
            group_n=group_n,
            level=rule.level,
            n_resamples=rule.n_resamples,
            seed=rule.seed,
        )
        low_u, high_u = auroc_interval(
            points[1].astype(np.float64), n_with_c[concept], n_without_c[concept], rule.level
        )
        bounds[1] = np.fmin(bounds[1, 0], low_u), np.fmax(bounds[1, 1], high_u)
        for figure in range(3):
            figure_3u3[figure, units, 0] = points[figure]
            figure_3u3[figure, units, 1:] = bounds[figure].T
        for name, figure_u in more_u.items():
            figure_u[units] = whole.more[name][own]
        progress("true concepts", min(block.stop, len(rows)), len(rows))
    pearson_u3, auroc_u3, auprc_u3 = figure_3u3.astype(np.float32)
    with np.errstate(invalid="ignore"):
        is_true_u = (auroc_u3[:, 1] >= rule.auroc_min) & (pearson_u3[:, 1] >= rule.pearson_min)
    n_positive_u = np.where(has_concept_u, truth_nc.sum(axis=0)[concept_u], 0).astype(np.int32)
    return Truth(
        concept_u,
        has_concept_u,
        is_true_u,
        pearson_u3,
        auroc_u3,
        auprc_u3,
        n_positive_u,
        more_u,
    )


def _check(activation_un: np.ndarray, truth_nc: np.ndarray) -> None:
    if len(truth_nc) < 4 or not truth_nc.shape[1]:
        raise InputError(
            f"Truth is given for {len(truth_nc)} images and {truth_nc.shape[1]} concepts; at least "
            "4 images and 1 concept are needed."
        )
    for units in _blocks(len(activation_un), UNIT_BLOCK):
        is_bad_b = ~np.isfinite(activation_un[units]).all(axis=1)
        if is_bad_b.any():
            raise InputError(
                f"Unit {units.start + int(is_bad_b.argmax())} has activations that are not finite; "
                "look for an overflow in the network."
            )


def _blocks(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, start + size)


def _rows(group_n: np.ndarray | None, mask_n: np.ndarray) -> np.ndarray | None:
    return None if group_n is None else group_n[mask_n]


def _weighted_figures(
    values_n: Float64[np.ndarray, " n"],
    is_positive_n: Bool[np.ndarray, " n"],
    weight_nr: Float32[np.ndarray, "n r"],
) -> Float64[np.ndarray, "3 r"]:
    """Pearson, AUROC and average precision with image i counted ``weight_nr[i]`` times."""
    order_n = np.argsort(-values_n, kind="stable")
    values_n, is_positive_n = values_n[order_n], is_positive_n[order_n]
    weight_nr = weight_nr[order_n]
    positive_p = np.flatnonzero(is_positive_n)
    weight_pr = weight_nr[positive_p]
    # Whole numbers below 2**24, which float32 adds exactly.
    total_nr = np.cumsum(weight_nr, axis=0)
    found_pr = np.cumsum(weight_pr, axis=0)
    n_r = total_nr[-1].astype(np.float64)
    n_positive_r = weight_pr.sum(axis=0, dtype=np.float64)
    n_negative_r = n_r - n_positive_r
    end_p = np.searchsorted(-values_n, -values_n[positive_p], side="right") - 1
    start_p = np.searchsorted(-values_n, -values_n[positive_p], side="left")
    upto_pr = total_nr[end_p]
    found_upto_pr = found_pr[np.searchsorted(positive_p, end_p, side="right") - 1]
    n_found_before_p = np.searchsorted(positive_p, start_p, side="left")
    padded_nr = np.concatenate([np.zeros_like(total_nr[:1]), total_nr])
    padded_pr = np.concatenate([np.zeros_like(found_pr[:1]), found_pr])
    negative_upto_pr = upto_pr - found_upto_pr
    negative_before_pr = padded_nr[start_p] - padded_pr[n_found_before_p]
    with np.errstate(divide="ignore", invalid="ignore"):
        above_pr = (negative_upto_pr + negative_before_pr) / 2
        n_pairs_r = n_positive_r * n_negative_r
        auroc_r = 1 - (weight_pr * above_pr).sum(axis=0, dtype=np.float64) / n_pairs_r
        precision_pr = found_upto_pr / np.maximum(upto_pr, 1)
        auprc_r = (weight_pr * precision_pr).sum(axis=0, dtype=np.float64) / n_positive_r
        auprc_r = np.where(n_negative_r > 0, auprc_r, np.nan)
        centred_n = values_n - values_n.mean()
        moments_2r = np.stack([centred_n, centred_n**2]) @ weight_nr
        covariance_r = centred_n[positive_p] @ weight_pr / n_r
        covariance_r -= moments_2r[0] / n_r * n_positive_r / n_r
        variance_r = moments_2r[1] / n_r - (moments_2r[0] / n_r) ** 2
        spread_r = np.sqrt(variance_r * n_pairs_r) / n_r
        is_varied_r = variance_r > 1e-12 * max(float(np.square(centred_n).mean()), 1e-300)
        pearson_r = np.where(is_varied_r, np.clip(covariance_r / spread_r, -1, 1), np.nan)
    return np.stack([pearson_r, auroc_r, auprc_r])
