"""Ranking by inner product, the slow way: one Python loop over all rows."""

from __future__ import annotations

import math


def rank(vectors, query, n, allowed=None):
    """Rows with the largest inner product; never zero or forbidden rows; ties to lower rows."""
    scored = []
    for row, vector in enumerate(vectors):
        if not any(float(x) != 0.0 for x in vector):
            continue
        if allowed is not None and not allowed[row]:
            continue
        scored.append(
            (math.fsum(float(a) * float(b) for a, b in zip(vector, query, strict=True)), row)
        )
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    return [(row, score) for score, row in scored[:n]]


def combine(positive, negative):
    """Mean of unit positives minus mean of unit negatives, as a unit vector."""

    def unit(v):
        length = math.sqrt(math.fsum(float(x) ** 2 for x in v))
        return [float(x) / length for x in v]

    width = len(positive[0])
    out = [0.0] * width
    for sign, group in ((1.0, positive), (-1.0, negative)):
        for vector in group:
            for i, x in enumerate(unit(vector)):
                out[i] += sign * x / len(group)
    return unit(out)
