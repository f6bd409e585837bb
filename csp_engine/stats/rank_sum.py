"""Rank sums of many values against many labels, where images come in groups.

The rank-sum test asks whether images with a label rank higher than images without. Its null
distribution is that of labels which change places; here only places change that are exchangeable:
whole groups (a lesion, a patient) of the same size, and images within a group, within a stratum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

UNIT_BLOCK = 256
"""Rows at a time; results do not depend on it."""
_PERMUTED_VALUES = 1 << 23
"""Permuted sums held at once."""


class Blocks:
    """Which of ``n`` images may change places.

    Images of one group within one stratum are a block. Blocks of one size within one stratum form
    a set: whole blocks of a set change places, and so do the images within each block.
    """

    def __init__(
        self,
        n_images: int,
        group_n: Int[np.ndarray, " n"] | None = None,
        stratum_n: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        """Sort images into blocks and blocks into sets.

        Args:
            n_images: number of images.
            group_n: images with the same number belong together; each alone without.
            stratum_n: images with different numbers never change places.
        """
        group = np.arange(n_images) if group_n is None else np.asarray(group_n)
        stratum = np.zeros(n_images, int) if stratum_n is None else np.asarray(stratum_n)
        pairs_n2 = np.stack([stratum, group], axis=1)
        _, block_n, size_b = np.unique(pairs_n2, axis=0, return_inverse=True, return_counts=True)
        block_n = block_n.reshape(-1)
        stratum_b = np.empty(len(size_b), stratum.dtype)
        stratum_b[block_n] = stratum
        _, set_b = np.unique(np.stack([stratum_b, size_b], 1), axis=0, return_inverse=True)
        set_b = set_b.reshape(-1)
        # Blocks of a set lie one after another, and the images of a block too.
        order_b = np.lexsort((np.arange(len(set_b)), set_b))
        place_b = np.empty(len(order_b), int)
        place_b[order_b] = np.arange(len(order_b))
        self.image_n = np.argsort(place_b[block_n], kind="stable")
        self.size_b = size_b[order_b]
        self.set_b = set_b[order_b]
        self.start_b = np.concatenate([[0], np.cumsum(self.size_b)[:-1]]).astype(int)
        self.n_sets = int(self.set_b.max(initial=-1)) + 1

    def sums(self, value_xn: Float[np.ndarray, "x n"]) -> Float64[np.ndarray, "x b"]:
        """Sums over the images of each block, in the order of blocks."""
        return np.add.reduceat(np.asarray(value_xn, np.float64), self.start_b, axis=1)

    def sets(self) -> Iterator[tuple[int, slice, int]]:
        """Each set: its number, its blocks, and their size."""
        for number in range(self.n_sets):
            held = np.flatnonzero(self.set_b == number)
            yield number, slice(int(held[0]), int(held[-1]) + 1), int(self.size_b[held[0]])

    def permuted(
        self, label_nc: Float[np.ndarray, "n c"], rng: np.random.Generator
    ) -> Float[np.ndarray, "n c"]:
        """Labels of all columns after one random change of places, the same for every column."""
        found = np.empty_like(label_nc)
        for _, blocks, size in self.sets():
            start = self.start_b[blocks.start]
            n_blocks = blocks.stop - blocks.start
            own_m = self.image_n[start : start + n_blocks * size].reshape(n_blocks, size)
            source_m = own_m[rng.permutation(n_blocks)]
            if size > 1:
                source_m = rng.permuted(source_m, axis=1)
            found[own_m.ravel()] = label_nc[source_m.ravel()]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class RankSums:
    """Rank sums of rows against columns.

    ``auroc_uc``: U / (n₁ n₀), ties counting half. ``excess_uc``: the rank sum of the images with
    the label less its mean under exchange, ``sd_uc`` its standard deviation there; 0 where nothing
    can change.
    """

    auroc_uc: Float64[np.ndarray, "u c"]
    excess_uc: Float64[np.ndarray, "u c"]
    sd_uc: Float64[np.ndarray, "u c"]

    @property
    def z_uc(self) -> Float64[np.ndarray, "u c"]:
        """Excess in standard deviations, without continuity correction; 0 where sd is 0."""
        return np.divide(
            self.excess_uc, self.sd_uc, out=np.zeros_like(self.sd_uc), where=self.sd_uc > 0
        )

    @property
    def p_uc(self) -> Float64[np.ndarray, "u c"]:
        """Two-sided p, normal approximation with continuity correction of one half.

        Where nothing is grouped it is that of ``scipy.stats.mannwhitneyu(method="asymptotic")``.
        """
        from scipy.special import ndtr  # not at the start of every page

        reach = np.abs(self.excess_uc) - 0.5
        z = np.divide(reach, self.sd_uc, out=np.full_like(self.sd_uc, -1.0), where=self.sd_uc > 0)
        return np.minimum(2 * ndtr(-z), 1.0)


def midranks(value_un: Float[np.ndarray, "u n"]) -> Float64[np.ndarray, "u n"]:
    """Rank of each value in its row, upwards from 1; ties share their mean."""
    n_rows, n = value_un.shape
    order_un = np.argsort(value_un, axis=1)
    sorted_un = np.take_along_axis(value_un, order_un, axis=1)
    is_new_un = np.ones(sorted_un.shape, bool)
    is_new_un[:, 1:] = sorted_un[:, 1:] != sorted_un[:, :-1]
    start_r = np.flatnonzero(is_new_un)
    length_r = np.diff(start_r, append=sorted_un.size)
    rank_un = np.empty(sorted_un.shape, np.float64)
    place_un = (order_un + n * np.arange(n_rows)[:, None]).ravel()
    rank_un.ravel()[place_un] = np.repeat(start_r % max(n, 1) + (length_r + 1) / 2, length_r)
    return rank_un


def rank_sums(
    rank_un: Float64[np.ndarray, "u n"], label_nc: Bool[np.ndarray, "n c"], blocks: Blocks
) -> RankSums:
    """Rank sums of every row against every column, with their exact moments under exchange.

    With ranks r, S = Σ r over images with the label. For a set of m blocks of size k, with a_b
    labels in block b, mean rank r̄_b and W_b = Σ (r - r̄_b)² within it:
    ``E S = Σ_sets ā Σ_b r̄_b`` and ``Var S = Σ_sets [ Σ (a_b - ā)² / (m - 1) · Σ (r̄_b - r̄)² +
    mean(a_b (k - a_b)) / (k (k - 1)) · Σ W_b ]``. Without groups this is the usual variance,
    ``n₁ n₀ / 12 · (n + 1 - Σ (t³ - t) / (n (n - 1)))`` with ties of t.

    Args:
        rank_un: mean ranks of each row (``midranks``).
        label_nc: which images have each label; some of each kind in every column.
        blocks: what may change places.
    """
    label = label_nc.astype(np.float64)
    n, n_columns = label.shape
    n_positive_c = label.sum(axis=0)
    count_cb = blocks.sums(label.T[:, blocks.image_n])
    mean_sc = np.zeros((blocks.n_sets, n_columns))
    between_sc, within_sc = np.zeros_like(mean_sc), np.zeros_like(mean_sc)
    for s, at, size in blocks.sets():
        own_cm = count_cb[:, at]
        mean_sc[s] = own_cm.mean(axis=1)
        if own_cm.shape[1] > 1:
            between_sc[s] = own_cm.var(axis=1, ddof=1)
        if size > 1:
            within_sc[s] = (own_cm * (size - own_cm)).mean(axis=1) / (size * (size - 1))
    sum_us, spread_us, inside_us = (np.zeros((len(rank_un), blocks.n_sets)) for _ in range(3))
    for start in range(0, len(rank_un), UNIT_BLOCK):
        rows = slice(start, start + UNIT_BLOCK)
        # Centred, so that squares of large ranks do not cancel.
        centred = rank_un[rows][:, blocks.image_n] - (n + 1) / 2
        mean_ub = blocks.sums(centred) / blocks.size_b
        square_ub = blocks.sums(centred**2) - blocks.size_b * mean_ub**2
        for s, at, size in blocks.sets():
            own = mean_ub[:, at]
            sum_us[rows, s] = own.sum(axis=1)
            spread_us[rows, s] = ((own - own.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
            if size > 1:
                inside_us[rows, s] = np.maximum(square_ub[:, at], 0).sum(axis=1)
    sum_uc = rank_un @ label
    middle_c = n_positive_c * (n + 1) / 2
    excess_uc = (sum_uc - middle_c) - sum_us @ mean_sc
    variance_uc = spread_us @ between_sc + inside_us @ within_sc
    n_pairs_c = n_positive_c * (n - n_positive_c)
    auroc_uc = (sum_uc - n_positive_c * (n_positive_c + 1) / 2) / n_pairs_c
    return RankSums(auroc_uc, excess_uc, np.sqrt(np.maximum(variance_uc, 0)))


def largest_under_exchange(
    rank_un: Float64[np.ndarray, "u n"],
    label_nc: Bool[np.ndarray, "n c"],
    sums: RankSums,
    blocks: Blocks,
    n_permutations: int,
    seed: int,
) -> Float64[np.ndarray, " r"]:
    """The largest |z| of the whole family in each of many random exchanges of labels.

    All columns change places together, so what goes together among rows and columns still does
    (Westfall and Young 1993).
    """
    rng = np.random.default_rng(seed)
    n_columns = label_nc.shape[1]
    label = label_nc.astype(np.float32)
    scale_uc = np.divide(1.0, sums.sd_uc, out=np.zeros_like(sums.sd_uc), where=sums.sd_uc > 0)
    scale_uc = scale_uc.astype(np.float32)
    centre_n = np.full(rank_un.shape[1], (rank_un.shape[1] + 1) / 2)
    centred_un = (rank_un - centre_n).astype(np.float32)
    expected_uc = ((rank_un - centre_n) @ label_nc - sums.excess_uc).astype(np.float32)
    is_shifted = bool(np.abs(expected_uc).max(initial=0) > 0.25)
    most_r = np.zeros(n_permutations)
    step = max(1, _PERMUTED_VALUES // max(1, min(len(rank_un), UNIT_BLOCK) * n_columns))
    for first in range(0, n_permutations, step):
        many = min(step, n_permutations - first)
        moved = np.concatenate([blocks.permuted(label, rng) for _ in range(many)], axis=1)
        for start in range(0, len(rank_un), UNIT_BLOCK):
            rows = slice(start, start + UNIT_BLOCK)
            sum_urc = (centred_un[rows] @ moved).reshape(-1, many, n_columns)
            if is_shifted:
                sum_urc -= expected_uc[rows, None]
            sum_urc *= scale_uc[rows, None]
            np.abs(sum_urc, out=sum_urc)
            own_r = sum_urc.max(axis=(0, 2), initial=0)
            most_r[first : first + many] = np.maximum(most_r[first : first + many], own_r)
    return most_r


def family_wise(
    z_uc: Float64[np.ndarray, "u c"], largest_r: Float64[np.ndarray, " r"]
) -> Float64[np.ndarray, "u c"]:
    """The chance that any of the family reaches as far: ``(1 + #{largest ≥ |z|}) / (r + 1)``.

    Largest values are sums in single precision, so one that is all but as large counts too.
    """
    sorted_r = np.sort(largest_r)
    n_below = np.searchsorted(sorted_r, np.abs(z_uc) * (1 - 1e-5), side="left")
    return (1 + len(sorted_r) - n_below) / (len(sorted_r) + 1)


def false_discovery(
    p_uc: Float64[np.ndarray, "u c"], *, any_dependence: bool = False
) -> Float64[np.ndarray, "u c"]:
    """p-values after Benjamini and Hochberg (1995), or Benjamini and Yekutieli (2001).

    The second holds under any dependence, at the price of a factor Σ 1/i. NaN is no part of the
    family.
    """
    is_known = ~np.isnan(p_uc)
    found = np.full(p_uc.shape, np.nan)
    p_m = p_uc[is_known]
    m = len(p_m)
    if m:
        factor = float((1 / np.arange(1, m + 1)).sum()) if any_dependence else 1.0
        order = np.argsort(p_m)
        raised = p_m[order] * m * factor / np.arange(1, m + 1)
        q_m = np.empty(m)
        q_m[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
        found[is_known] = q_m
    return found


def clustered_error(
    rank_n: Float64[np.ndarray, " n"],
    is_positive_n: Bool[np.ndarray, " n"],
    group_n: Int[np.ndarray, " n"] | None = None,
) -> tuple[float, float]:
    """An area under the ROC curve and its standard error where images come in groups.

    Obuchowski (Biometrics 53, 1997): the placements of DeLong, summed over each group. NaN where
    fewer than two groups show the concept, or lack it.
    """
    n_positive = int(is_positive_n.sum())
    n_negative = len(is_positive_n) - n_positive
    if not n_positive or not n_negative:
        return float("nan"), float("nan")
    own_n = np.empty(len(rank_n))
    for side_n in (is_positive_n, ~is_positive_n):
        own_n[side_n] = midranks(rank_n[None, side_n])[0]
    # Of each image, the share of the others' side that it is ordered rightly against.
    placed_n = np.where(
        is_positive_n, (rank_n - own_n) / n_negative, 1 - (rank_n - own_n) / n_positive
    )
    area = float(placed_n[is_positive_n].mean())
    place_n = (
        np.arange(len(rank_n)) if group_n is None else np.unique(group_n, return_inverse=True)[1]
    )
    n_groups = int(place_n.max()) + 1
    with_g, without_g = (
        np.bincount(place_n[side], placed_n[side] - area, n_groups)
        for side in (is_positive_n, ~is_positive_n)
    )
    m_with = len(np.unique(place_n[is_positive_n]))
    m_without = len(np.unique(place_n[~is_positive_n]))
    if m_with < 2 or m_without < 2:
        return area, float("nan")
    variance = (
        m_with / (m_with - 1) * float(with_g @ with_g) / n_positive**2
        + m_without / (m_without - 1) * float(without_g @ without_g) / n_negative**2
        + 2 * n_groups / (n_groups - 1) * float(with_g @ without_g) / (n_positive * n_negative)
    )
    return area, float(np.sqrt(max(variance, 0.0)))


def least_found(
    bar: float, n_positive: int, n_negative: int, p_needed: float, chance: float = 0.8
) -> float:
    """The smallest true area that would have been called above a bar with a given chance.

    The area A with ``A - z_chance · se(A) = bar + z_p · se(bar)``, se as Hanley and McNeil (1982);
    1 where none below would.
    """
    from csp_engine.stats.intervals import hanley_mcneil

    def error(area: float) -> float:
        return float(np.sqrt(hanley_mcneil(np.array(area), n_positive, n_negative)))

    needed = bar + NormalDist().inv_cdf(1 - p_needed) * error(bar)
    z = NormalDist().inv_cdf(chance)
    low, high = bar, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if middle - z * error(middle) >= needed:
            high = middle
        else:
            low = middle
    return high


def least_correlating(
    pearson: float, n_positive: int, n_negative: int, share: float, chance: float = 0.8
) -> float:
    """The smallest true area whose correlation with a label reaches a bar with a given chance.

    Of values that are normal with one variance, ``A = Φ(d / √2)`` for means that lie d deviations
    apart. With the share π of images that show the label, d₀ = r / √((1 - r²) π (1 - π)) has the
    correlation r, and the d wanted is ``d₀ + z_chance · √(1 / n₁ + 1 / n₀ + d² / 2 (n₁ + n₀))``: a
    label that few images show correlates little with whatever tells it apart.
    """
    if not 0 < share < 1 or not n_positive or not n_negative:
        return float("nan")
    least = pearson / float(np.sqrt((1 - pearson**2) * share * (1 - share)))
    z = NormalDist().inv_cdf(chance)
    spread = 1 / n_positive + 1 / n_negative
    d = least
    for _ in range(50):
        d = least + z * float(np.sqrt(spread + d**2 / (2 * (n_positive + n_negative))))
    return NormalDist().cdf(d / float(np.sqrt(2)))
