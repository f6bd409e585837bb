"""Figures of labels as slow loops from their formulas; nothing of csp_engine is used."""

from __future__ import annotations

import math
from collections.abc import Sequence


def otsu_threshold(values: Sequence[float], n_bins: int = 256) -> float:
    """Otsu 1979: of the upper edges of equal bins, the first with the most variance between."""
    low, high = min(values), max(values)
    if low == high:
        return low
    width = (high - low) / n_bins
    counts = [0] * n_bins
    for value in values:
        counts[min(int((value - low) / width), n_bins - 1)] += 1
    centres = [low + (b + 0.5) * width for b in range(n_bins)]
    best, found = -1.0, low
    for b in range(n_bins - 1):
        n_below = sum(counts[: b + 1])
        n_above = len(values) - n_below
        if not n_below or not n_above:
            continue
        mean_below = sum(n * c for n, c in zip(counts[: b + 1], centres[: b + 1], strict=True))
        mean_above = sum(n * c for n, c in zip(counts[b + 1 :], centres[b + 1 :], strict=True))
        gap = mean_below / n_below - mean_above / n_above
        between = n_below * n_above * gap * gap
        if between > best * (1 + 1e-9):
            best, found = between, low + (b + 1) * width
    return found


def pearson(a: Sequence[float], c: Sequence[float]) -> float:
    """cov(a, c) / (sd(a) sd(c)); NaN where either is constant."""
    mean_a, mean_c = sum(a) / len(a), sum(c) / len(c)
    covariance = sum((x - mean_a) * (y - mean_c) for x, y in zip(a, c, strict=True))
    spread_a = sum((x - mean_a) ** 2 for x in a)
    spread_c = sum((y - mean_c) ** 2 for y in c)
    if max(a) == min(a) or max(c) == min(c):
        return math.nan
    return covariance / math.sqrt(spread_a * spread_c)


def ranks(values: Sequence[float]) -> list[float]:
    """From 1 upwards; ties share their mean."""
    return [
        sum(other < value for other in values) + (sum(o == value for o in values) + 1) / 2
        for value in values
    ]


def spearman(a: Sequence[float], c: Sequence[float]) -> float:
    """Pearson's correlation of ranks."""
    return pearson(ranks(a), ranks(c))


def cosine(a: Sequence[float], c: Sequence[float]) -> float:
    """a · c / (|a| |c|)."""
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in c))
    return sum(x * y for x, y in zip(a, c, strict=True)) / length if length else math.nan


def auroc(a: Sequence[float], c: Sequence[float]) -> float:
    """Chance that one with c = 1 is above one with c = 0; ties count half."""
    pairs = [
        (x, y) for x, i in zip(a, c, strict=True) if i for y, j in zip(a, c, strict=True) if not j
    ]
    return sum((x > y) + (x == y) / 2 for x, y in pairs) / len(pairs)


def auprc(a: Sequence[float], c: Sequence[float]) -> float:
    """Mean over c = 1 of the share of c = 1 among all at least as active."""
    shares = []
    for x, i in zip(a, c, strict=True):
        if i:
            above = [j for y, j in zip(a, c, strict=True) if y >= x]
            shares.append(sum(above) / len(above))
    return sum(shares) / len(shares)


def active(a: Sequence[float]) -> list[bool]:
    """Above Otsu's threshold."""
    threshold = otsu_threshold(a)
    return [x > threshold for x in a]


def _counts(a: Sequence[float], c: Sequence[float]) -> tuple[int, int, int]:
    is_active = active(a)
    both = sum(1 for x, y in zip(is_active, c, strict=True) if x and y)
    return both, sum(is_active), int(sum(c))


def f1(a: Sequence[float], c: Sequence[float]) -> float:
    """2 |A ∩ C| / (|A| + |C|)."""
    both, n_active, n_said = _counts(a, c)
    return 2 * both / (n_active + n_said)


def iou(a: Sequence[float], c: Sequence[float]) -> float:
    """|A ∩ C| / |A ∪ C|."""
    both, n_active, n_said = _counts(a, c)
    return both / (n_active + n_said - both)


def recall(a: Sequence[float], c: Sequence[float]) -> float:
    """|A ∩ C| / |A|."""
    both, n_active, _ = _counts(a, c)
    return both / n_active if n_active else math.nan


def mad(a: Sequence[float], c: Sequence[float]) -> float:
    """(mean with - mean without) / sd without, 0 where that is 0 (CoSy)."""
    with_c = [x for x, y in zip(a, c, strict=True) if y]
    without = [x for x, y in zip(a, c, strict=True) if not y]
    mean = sum(without) / len(without)
    spread = math.sqrt(sum((x - mean) ** 2 for x in without) / len(without))
    return (sum(with_c) / len(with_c) - mean) / spread if spread else 0.0


OF_PREDICTIONS = {"pearson": pearson, "spearman": spearman}
OF_SAID = {
    "cosine": cosine,
    "auroc": auroc,
    "auprc": auprc,
    "f1": f1,
    "iou": iou,
    "recall": recall,
    "mad": mad,
}


def resampled(values: Sequence[float], drawn: Sequence[int]) -> list[float]:
    """The values of a draw, image by image."""
    return [values[i] for i in drawn]


def holm(p: Sequence[float]) -> list[float]:
    """Each p against every smaller one: step down until one is not rejected."""
    m = len(p)
    found = []
    for own in p:
        at_most = [q for q in p if q <= own]
        smaller = [min(1.0, (m - sum(o < q for o in p)) * q) for q in at_most]
        found.append(max(smaller))
    return found
