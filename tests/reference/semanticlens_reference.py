"""SemanticLens as slow loops: theta = mean_i v_i over the exemplars, score = cos(theta, T_t)."""

from __future__ import annotations

import math


def mean_exemplar(exemplars):
    width, m = len(exemplars[0]), len(exemplars)
    return [math.fsum(float(row[c]) for row in exemplars) / m for c in range(width)]


def cosine(a, b):
    product = math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    length_a = math.sqrt(math.fsum(float(x) ** 2 for x in a))
    length_b = math.sqrt(math.fsum(float(x) ** 2 for x in b))
    return product / (length_a * length_b)


def scores(exemplars, labels):
    theta = mean_exemplar(exemplars)
    return [cosine(theta, label) for label in labels]
