"""CSP as slow loops, from the formulas of arXiv 2604.22477 and its published code.

p_i: unit embedding of exemplar i; n_i: of its contrast image (several: normalised mean);
s_i = <p_i, n_i>; r_i = p_i - gamma s_i n_i; z = normalise(sum_i w_i r_i / (sum_i w_i + 1e-8));
score(t) = <z, T_t>. Everything in float64.
"""

from __future__ import annotations

import math


def dot(a, b):
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def normalise(a, eps=1e-12):
    length = math.sqrt(dot(a, a))
    return [float(x) / max(length, eps) for x in a]


def weights(activations, weighting):
    m = len(activations)
    if weighting == "none":
        return [1.0] * m
    if weighting == "rank":
        return [(m - i) / m for i in range(m)]
    if weighting == "clamp0":
        return [max(float(a), 0.0) for a in activations]
    return [float(a) for a in activations]


def concept_vector(exemplars, partners, activations, gamma, weighting):
    """``exemplars``: rows; ``partners``: for each exemplar a list of rows, possibly none."""
    width = len(exemplars[0])
    w = weights(activations, weighting)
    total = [0.0] * width
    for p, images, w_i in zip(exemplars, partners, w, strict=True):
        residual = [float(x) for x in p]
        if images:
            n = [math.fsum(float(image[c]) for image in images) / len(images) for c in range(width)]
            n = normalise(n)
            s = dot(p, n)
            residual = [float(p[c]) - gamma * s * n[c] for c in range(width)]
        total = [t + w_i * r for t, r in zip(total, residual, strict=True)]
    scale = math.fsum(w) + 1e-8
    return normalise([t / scale for t in total])


def scores(vector, labels):
    return [dot(vector, label) for label in labels]
