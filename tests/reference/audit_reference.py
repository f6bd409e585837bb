"""Clarity, polysemanticity and redundancy of SemanticLens, written from the definitions.

Clarity is the mean cosine over pairs; polysemanticity comes from scikit-learn's k-means as in the
published code (k = 2, ten starts, seed 123; fallback below two members in a group).
"""

from __future__ import annotations

import math

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score


def cosine(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def clarity(rows):
    m = len(rows)
    pairs = [cosine(rows[i], rows[j]) for i in range(m) for j in range(m) if i != j]
    return sum(pairs) / len(pairs)


def polysemanticity(rows):
    """The score, the group of each row, inertia, and the mean silhouette."""
    rows = np.asarray(rows, np.float64)
    fit = KMeans(n_clusters=2, n_init=10, random_state=123).fit(rows)
    sizes = np.bincount(fit.labels_, minlength=2)
    if sizes.min() < 2:
        mean = rows.mean(axis=0)
        first = rows[:10]
        score = 1 - sum(cosine(row, mean) for row in first) / len(first)
    else:
        score = 1 - cosine(*fit.cluster_centers_)
    spread = silhouette_score(rows, fit.labels_) if sizes.min() > 0 else math.nan
    return score, fit.labels_, fit.inertia_, spread


def nearest(vectors, unit):
    """The other row of largest cosine, the lower one of two equal, and that cosine."""
    best, value = None, -math.inf
    for other, vector in enumerate(vectors):
        if other == unit:
            continue
        similarity = cosine(vectors[unit], vector)
        if similarity > value:
            best, value = other, similarity
    return best, value
