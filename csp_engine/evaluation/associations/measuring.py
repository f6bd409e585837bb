"""Suspects by association: units that excite for a concept column, judged in families and groups.

Everything is counted by ranks, so no figure depends on the scale of a unit. What is said of single
images holds for groups of them: exchanges, intervals and counts go by lesion or patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from csp_engine.errors import InputError
from csp_engine.evaluation.ground_truth import draws, independent_counts
from csp_engine.evaluation.metrics.pearson import pearson
from csp_engine.stats.drawn import LEAST_DRAWN
from csp_engine.stats.intervals import auroc_interval, hanley_mcneil
from csp_engine.stats.rank_sum import (
    Blocks,
    clustered_error,
    false_discovery,
    family_wise,
    largest_under_exchange,
    least_found,
    midranks,
    rank_sums,
)
from csp_engine.types import Progress, silent

_RANKS = 1 << 23
"""Ranks held at once."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a unit is a suspect of a column.

    Its AUROC is above ``auroc_min`` (one-sided test, Benjamini and Hochberg at ``q`` over all units
    and columns), its correlation at least ``pearson_min``, and no column that is not of the same
    kind correlates better: the bars of ``TruthRule``, so that a suspect and a true concept mean
    the same. Columns that fewer than ``min_positive`` groups show, or lack, are not tried.
    """

    auroc_min: float = 0.8
    pearson_min: float = 0.3
    q: float = 0.1
    min_positive: int = 10
    level: float = 0.95
    n_resamples: int = 1000
    n_permutations: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 <= self.auroc_min < 1 or not 0 <= self.pearson_min < 1 or not 0 < self.q < 1:
            raise InputError(
                f"auroc_min {self.auroc_min} must be in [0.5, 1), pearson_min {self.pearson_min} "
                f"in [0, 1), q {self.q} between 0 and 1."
            )
        if self.min_positive < 2 or self.n_permutations < 99 or self.n_resamples < 100:
            raise InputError(
                f"min_positive {self.min_positive} must be at least 2, n_permutations "
                f"{self.n_permutations} at least 99, n_resamples {self.n_resamples} at least 100."
            )


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """The columns that units are compared with.

    Attributes:
        value_nc: 1 where an image shows the concept, 0 where not, NaN where nobody knows.
        is_kin_cc: which columns are of one kind, such as all patches and blue ones.
        stratum_nc: by which images of a column are also compared, among one another; negative
            where not known. All 0 where nothing goes with the column.
        group_n: images with the same number belong together.
    """

    value_nc: Float32[np.ndarray, "n c"]
    is_kin_cc: Bool[np.ndarray, "c c"]
    stratum_nc: Int[np.ndarray, "n c"]
    group_n: Int[np.ndarray, " n"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Pairs of unit and column that are worth a row: all suspects, and the best unit of a column.

    ``auroc_k3`` is the area with its interval, by bootstrap over groups and at least Newcombe's;
    ``difference_k`` the mean activation with the concept less without, in standard deviations;
    ``p_k`` that of the rank sum, ``q_bh_k`` and ``q_by_k`` the same over the family, ``p_family_k``
    by the largest statistic under exchange; ``q_suspect_k`` that the area is above the bar.
    ``within_k3`` is the area among images alike in what goes with the column; NaN without.
    """

    unit_k: Int[np.ndarray, " k"]
    column_k: Int[np.ndarray, " k"]
    auroc_k3: Float64[np.ndarray, "k 3"]
    difference_k: Float64[np.ndarray, " k"]
    pearson_k: Float64[np.ndarray, " k"]
    p_k: Float64[np.ndarray, " k"]
    q_bh_k: Float64[np.ndarray, " k"]
    q_by_k: Float64[np.ndarray, " k"]
    p_family_k: Float64[np.ndarray, " k"]
    q_suspect_k: Float64[np.ndarray, " k"]
    within_k3: Float64[np.ndarray, "k 3"]
    is_suspect_k: Bool[np.ndarray, " k"]


@dataclass(frozen=True, slots=True, eq=False)
class Associations:
    """What was looked for in one layer, and what was found.

    ``n_with_c`` and ``n_without_c`` count groups. ``is_tried_c`` is false where either is too few.
    ``least_c`` is the smallest AUROC that would have been called with a chance of 80 %; NaN where
    not tried. ``n_associated_c`` counts units that go with the column at all, either way, family-
    wise at 5 %.
    """

    kept: Kept
    n_with_c: Int[np.ndarray, " c"]
    n_without_c: Int[np.ndarray, " c"]
    is_tried_c: Bool[np.ndarray, " c"]
    least_c: Float64[np.ndarray, " c"]
    n_associated_c: Int[np.ndarray, " c"]
    n_tests: int


@dataclass(slots=True, eq=False)
class _Table:
    """Figures of every unit and column; NaN where a column was not tried."""

    auroc_uc: np.ndarray
    pearson_uc: np.ndarray
    p_uc: np.ndarray
    z_uc: np.ndarray


def associate(
    activation_un: Float32[Any, "u n"],
    asked: Asked,
    rule: Rule | None = None,
    *,
    progress: Progress = silent,
) -> Associations:
    """Compare every unit of a layer with every column.

    Columns known of different images are ranked and exchanged apart; the largest statistic of an
    exchange is then taken over all of them.

    Args:
        activation_un: finite activations; any array that gives rows when sliced.
        asked: the columns.
        rule: when a unit is a suspect.
        progress: called with units done.
    """
    rule = rule or Rule()
    n_units, (n_images, n_columns) = len(activation_un), asked.value_nc.shape
    known_nc = ~np.isnan(asked.value_nc)
    counts = counts_of(asked)
    is_tried_c = counts.min(axis=1, initial=n_images + 1) >= rule.min_positive
    nothing = np.full((n_units, n_columns), np.nan)
    table = _Table(*(nothing.copy() for _ in range(4)))
    largest_r = np.zeros(rule.n_permutations)
    for is_known_n, own_c in _alike(known_nc, np.flatnonzero(is_tried_c)):
        label = asked.value_nc[np.ix_(is_known_n, own_c)] == 1
        blocks = Blocks(len(label), _rows(asked.group_n, is_known_n))
        step = max(1, _RANKS // len(label))
        for start in range(0, n_units, step):
            rows = slice(start, start + step)
            values = np.asarray(activation_un[rows], np.float32)[:, is_known_n]
            rank = midranks(values)
            sums = rank_sums(rank, label, blocks)
            at = np.ix_(np.arange(start, start + len(rank)), own_c)
            table.auroc_uc[at], table.p_uc[at], table.z_uc[at] = sums.auroc_uc, sums.p_uc, sums.z_uc
            table.pearson_uc[at] = pearson(values, label.astype(np.float64))
            drawn_r = largest_under_exchange(
                rank, label, sums, blocks, rule.n_permutations, rule.seed
            )
            largest_r = np.maximum(largest_r, drawn_r)
            progress("associations", min(start + step, n_units), n_units)
    p_bar_uc = _above_bar(activation_un, asked, known_nc, table, counts, rule)
    q_uc = false_discovery(p_bar_uc)
    with np.errstate(invalid="ignore"):
        is_suspect_uc = (q_uc <= rule.q) & (table.pearson_uc >= rule.pearson_min)
    if is_tried_c.any():
        best_u = np.nan_to_num(table.pearson_uc, nan=-2).argmax(axis=1)
        is_suspect_uc &= asked.is_kin_cc[best_u]
    family_uc = np.where(np.isnan(table.z_uc), np.nan, family_wise(table.z_uc, largest_r))
    n_tests = int((~np.isnan(table.p_uc)).sum())
    n_called = int((q_uc <= rule.q).sum())
    least_c = np.full(n_columns, np.nan)
    for c in np.flatnonzero(is_tried_c):
        p_needed = rule.q * (n_called + 1) / n_tests
        least_c[c] = least_found(rule.auroc_min, *map(int, counts[c]), min(p_needed, 0.5))
    kept = _kept(activation_un, asked, table, counts, rule, is_suspect_uc, q_uc, family_uc)
    return Associations(
        kept,
        counts[:, 0],
        counts[:, 1],
        is_tried_c,
        least_c,
        (family_uc <= 1 - rule.level).sum(axis=0),
        n_tests,
    )


def counts_of(asked: Asked) -> Int[np.ndarray, "c 2"]:
    """Groups that show each column somewhere, and groups that lack it somewhere."""
    counts = np.zeros((asked.value_nc.shape[1], 2), np.int64)
    for c, value_n in enumerate(asked.value_nc.T):
        is_known_n = ~np.isnan(value_n)
        if is_known_n.any():
            label = value_n[is_known_n, None] == 1
            counts[c] = np.concatenate(independent_counts(label, _rows(asked.group_n, is_known_n)))
    return counts


def _alike(known_nc: np.ndarray, wanted_c: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Columns that are known of the same images, together."""
    found: dict[bytes, list[int]] = {}
    for c in wanted_c.tolist():
        found.setdefault(known_nc[:, c].tobytes(), []).append(c)
    return [(known_nc[:, own[0]], np.array(own)) for own in found.values()]


def _above_bar(
    activation_un: Float32[Any, "u n"],
    asked: Asked,
    known_nc: np.ndarray,
    table: _Table,
    counts_c2: np.ndarray,
    rule: Rule,
) -> np.ndarray:
    """One-sided p that an area is above the bar; 1 where it is not so far above in these images.

    The error is that of Obuchowski, which knows of groups, and at least Hanley and McNeil's at the
    bar with groups counted, which does not vanish for perfect areas.
    """
    from scipy.special import ndtr

    p_uc = np.where(np.isnan(table.p_uc), np.nan, 1.0)
    with np.errstate(invalid="ignore"):
        is_above_uc = table.auroc_uc > rule.auroc_min
    for unit in np.flatnonzero(is_above_uc.any(axis=1)):
        values_n = np.asarray(activation_un[unit])
        ranks: dict[bytes, np.ndarray] = {}
        for c in np.flatnonzero(is_above_uc[unit]):
            is_known_n = known_nc[:, c]
            key = is_known_n.tobytes()
            if key not in ranks:
                ranks[key] = midranks(values_n[None, is_known_n])[0]
            is_positive_n = asked.value_nc[is_known_n, c] == 1
            area, error = clustered_error(
                ranks[key], is_positive_n, _rows(asked.group_n, is_known_n)
            )
            least = float(np.sqrt(hanley_mcneil(rule.auroc_min, *counts_c2[c])))
            p_uc[unit, c] = ndtr((rule.auroc_min - area) / np.fmax(error, least))
    return p_uc


def _kept(
    activation_un: Float32[Any, "u n"],
    asked: Asked,
    table: _Table,
    counts_c2: np.ndarray,
    rule: Rule,
    is_suspect_uc: np.ndarray,
    q_uc: np.ndarray,
    family_uc: np.ndarray,
) -> Kept:
    is_kept_uc = is_suspect_uc.copy()
    for c in np.flatnonzero(~np.isnan(table.p_uc).all(axis=0)) if len(q_uc) else ():
        is_kept_uc[np.nanargmax(table.auroc_uc[:, c]), c] = True
    q_bh_uc = false_discovery(table.p_uc)
    q_by_uc = false_discovery(table.p_uc, any_dependence=True)
    column_k, unit_k = np.nonzero(is_kept_uc.T)
    order = np.lexsort((unit_k, -table.auroc_uc[unit_k, column_k], column_k))
    unit_k, column_k = unit_k[order], column_k[order]
    at = unit_k, column_k
    bounds_k2 = _bounds(activation_un, asked, unit_k, column_k, rule)
    bounds_k2 = _widest(table.auroc_uc[at], bounds_k2, counts_c2[column_k], rule.level)
    within_k3 = _within(activation_un, asked, unit_k, column_k, rule.level)
    known_c = (~np.isnan(asked.value_nc)).sum(axis=0)
    share_k = ((asked.value_nc == 1).sum(axis=0) / np.maximum(known_c, 1))[column_k]
    return Kept(
        unit_k.astype(np.int32),
        column_k.astype(np.int32),
        np.column_stack([table.auroc_uc[at], bounds_k2]),
        table.pearson_uc[at] / np.sqrt(share_k * (1 - share_k)),
        table.pearson_uc[at],
        table.p_uc[at],
        q_bh_uc[at],
        q_by_uc[at],
        family_uc[at],
        q_uc[at],
        within_k3,
        is_suspect_uc[at],
    )


def one(
    values_n: Float32[np.ndarray, " n"], asked: Asked, column: int, rule: Rule
) -> dict[str, float]:
    """Figures of one unit and one column, by the names of docs/bundle.md.

    NaN where all images show the column, or none.
    """
    is_known_n = ~np.isnan(asked.value_nc[:, column])
    label = asked.value_nc[is_known_n, column][:, None] == 1
    values = np.asarray(values_n, np.float32)[None]
    blocks = Blocks(len(label), _rows(asked.group_n, is_known_n))
    sums = rank_sums(midranks(values[:, is_known_n]), label, blocks)
    share = float(label.mean()) if len(label) else 0.0
    spread = float(np.sqrt(share * (1 - share)))
    here = np.zeros(1, int), np.array([column])
    auroc_k = sums.auroc_uc[0]
    bounds_k2 = _bounds(values, asked, *here, rule)
    bounds_k2 = _widest(auroc_k, bounds_k2, counts_of(asked)[[column]], rule.level)
    within_k3 = _within(values, asked, *here, rule.level)
    pearson_1 = pearson(values[:, is_known_n], label.astype(np.float64))[0]
    ends = ("", "_low", "_high")
    return {
        "p": float(sums.p_uc[0, 0]),
        "difference": float(pearson_1[0]) / spread if spread else float("nan"),
        **{f"auroc{end}": float(v) for end, v in zip(ends, (*auroc_k, *bounds_k2[0]), strict=True)},
        **{f"within{end}": float(v) for end, v in zip(ends, within_k3[0], strict=True)},
    }


def _bounds(
    activation_un: Float32[Any, "u n"],
    asked: Asked,
    unit_k: np.ndarray,
    column_k: np.ndarray,
    rule: Rule,
) -> np.ndarray:
    """Percentile bootstrap of areas over groups, each unit sorted once for all its columns.

    Every pair meets the same draws, as in ``ground_truth.bootstrap``.
    """
    bounds_k2 = np.full((len(unit_k), 2), np.nan)
    tails = [50 * (1 - rule.level), 50 * (1 + rule.level)]
    for is_known_n, own_c in _alike(~np.isnan(asked.value_nc), np.unique(column_k)):
        weight_nr = draws(
            int(is_known_n.sum()),
            _rows(asked.group_n, is_known_n),
            n_resamples=rule.n_resamples,
            seed=rule.seed,
        )
        label = asked.value_nc[is_known_n] == 1
        own_k = np.flatnonzero(np.isin(column_k, own_c))
        for unit in np.unique(unit_k[own_k]):
            values_n = np.asarray(activation_un[unit])[is_known_n]
            order_n = np.argsort(values_n, kind="stable")
            sorted_n = values_n[order_n]
            below_n = np.searchsorted(sorted_n, sorted_n, side="left")
            upto_n = np.searchsorted(sorted_n, sorted_n, side="right")
            drawn_nr = weight_nr[order_n]
            total_nr = np.zeros((len(order_n) + 1, rule.n_resamples), np.float32)
            np.cumsum(drawn_nr, axis=0, out=total_nr[1:])
            for k in own_k[unit_k[own_k] == unit]:
                positive_p = np.flatnonzero(label[order_n, column_k[k]])
                own_pr = np.zeros((len(positive_p) + 1, rule.n_resamples), np.float32)
                np.cumsum(drawn_nr[positive_p], axis=0, out=own_pr[1:])
                # Images without the concept below each with it; those as active count half.
                ends = below_n[positive_p], upto_n[positive_p]
                less_pr = sum(
                    total_nr[end] - own_pr[np.searchsorted(positive_p, end)] for end in ends
                )
                n_with_r = own_pr[-1].astype(np.float64)
                n_pairs_r = n_with_r * (total_nr[-1] - n_with_r)
                won_r = np.einsum("pr,pr->r", drawn_nr[positive_p], less_pr, dtype=np.float64) / 2
                drawn_r = won_r[n_pairs_r > 0] / n_pairs_r[n_pairs_r > 0]
                if len(drawn_r):
                    bounds_k2[k] = np.percentile(drawn_r, tails)
    return bounds_k2


def _widest(
    auroc_k: np.ndarray, bounds_k2: np.ndarray, counts_k2: np.ndarray, level: float
) -> np.ndarray:
    """The wider of an interval and Newcombe's by groups; a bootstrap is too sure near 1."""
    low_k, high_k = auroc_interval(auroc_k, counts_k2[:, 0], counts_k2[:, 1], level)
    return np.column_stack([np.fmin(bounds_k2[:, 0], low_k), np.fmax(bounds_k2[:, 1], high_k)])


def _within(
    activation_un: Float32[Any, "u n"],
    asked: Asked,
    unit_k: np.ndarray,
    column_k: np.ndarray,
    level: float,
) -> np.ndarray:
    """Areas within strata, where a column has some."""
    within_k3 = np.full((len(unit_k), 3), np.nan)
    for c in np.unique(column_k):
        is_known_n = ~np.isnan(asked.value_nc[:, c])
        stratum_n = asked.stratum_nc[is_known_n, c]
        if len(np.unique(stratum_n[stratum_n >= 0])) < 2:
            continue
        label_n = asked.value_nc[is_known_n, c] == 1
        group_n = _rows(asked.group_n, is_known_n)
        for k in np.flatnonzero(column_k == c):
            values_n = np.asarray(activation_un[unit_k[k]])[is_known_n]
            within_k3[k] = within_strata(values_n, label_n, stratum_n, group_n, level)
    return within_k3


def within_strata(
    values_n: Float32[np.ndarray, " n"],
    is_positive_n: Bool[np.ndarray, " n"],
    stratum_n: Int[np.ndarray, " n"],
    group_n: Int[np.ndarray, " n"] | None = None,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """The area over pairs of images of one stratum, with its interval.

    ``Σ A_s w_s / Σ w_s`` with weights ``w_s = n₁ n₀`` of each stratum; its error from those of
    Obuchowski, of a perfect area from Newcombe's bound. Strata with one kind of image alone say
    nothing; NaN where none says anything, and no interval where either kind of image is of fewer
    than ``LEAST_DRAWN`` groups.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    parts, used_n = [], np.zeros(len(values_n), bool)
    for stratum in np.unique(stratum_n[stratum_n >= 0]):
        own_n = stratum_n == stratum
        label = is_positive_n[own_n]
        n_with, n_without = int(label.sum()), int((~label).sum())
        if not n_with * n_without:
            continue
        used_n |= own_n
        own_group_n = _rows(group_n, own_n)
        rank = midranks(values_n[None, own_n])[0]
        area, error = clustered_error(rank, label, own_group_n)
        least = float(hanley_mcneil(area, n_with, n_without))
        if area in (0, 1):  # neither error knows how few images a perfect area is of
            counts = (int(each[0]) for each in independent_counts(label[:, None], own_group_n))
            low, high = auroc_interval(np.array(area), *counts, level)
            least = float(max(area - low, high - area) / z) ** 2
        parts.append((n_with * n_without, area, np.fmax(np.square(error), least)))
    if not parts:
        return float("nan"), float("nan"), float("nan")
    weight, area, variance = np.array(parts, float).T
    whole = float(weight @ area / weight.sum())
    counts = independent_counts(is_positive_n[used_n][:, None], _rows(group_n, used_n))
    if min(int(each[0]) for each in counts) < LEAST_DRAWN:
        return whole, float("nan"), float("nan")
    reach = z * float(np.sqrt(weight**2 @ variance) / weight.sum())
    return whole, max(0.0, whole - reach), min(1.0, whole + reach)


def _rows(group_n: np.ndarray | None, mask_n: np.ndarray) -> np.ndarray | None:
    return None if group_n is None else group_n[mask_n]
