"""Association figures, intervals and resampling written out as slow loops; nothing of ours."""

from __future__ import annotations

import math


def pearson(values, truth):
    """Pearson (1895): covariance over the product of standard deviations."""
    n = len(values)
    mean_v, mean_t = sum(values) / n, sum(truth) / n
    covariance = sum((v - mean_v) * (t - mean_t) for v, t in zip(values, truth, strict=True))
    spread_v = sum((v - mean_v) ** 2 for v in values)
    spread_t = sum((t - mean_t) ** 2 for t in truth)
    if spread_v == 0 or spread_t == 0:
        return math.nan
    return covariance / math.sqrt(spread_v * spread_t)


def auroc(values, truth):
    """Mann and Whitney (1947): share of pairs in the right order, ties counting half."""
    positives = [v for v, t in zip(values, truth, strict=True) if t]
    negatives = [v for v, t in zip(values, truth, strict=True) if not t]
    if not positives or not negatives:
        return math.nan
    right = sum((p > q) + 0.5 * (p == q) for p in positives for q in negatives)
    return right / (len(positives) * len(negatives))


def average_precision(values, truth):
    """Sum over thresholds of (recall gained) x precision; each distinct value is one threshold."""
    n_positive = sum(map(bool, truth))
    if n_positive in (0, len(truth)):
        return math.nan
    total, recall = 0.0, 0.0
    for threshold in sorted(set(values), reverse=True):
        chosen = [t for v, t in zip(values, truth, strict=True) if v >= threshold]
        new_recall = sum(map(bool, chosen)) / n_positive
        total += (new_recall - recall) * sum(map(bool, chosen)) / len(chosen)
        recall = new_recall
    return total


def newcombe_bounds(area, n_positive, n_negative, z=1.959963984540054, steps=200_000):
    """Newcombe (2006), method 5, by looking at every area on a fine grid."""
    mean_count = (n_positive + n_negative) / 2
    inside = []
    for i in range(steps + 1):
        a = i / steps
        bracket = 1 + (mean_count - 1) * ((1 - a) / (2 - a) + a / (1 + a))
        variance = a * (1 - a) * bracket / (n_positive * n_negative)
        if abs(area - a) <= z * math.sqrt(variance) + 1e-15:
            inside.append(a)
    return min(inside), max(inside)
