"""COCOA and its attributions as slow loops, from the formulas alone.

Lin, Chen, Kim and Lee, Contrastive Corpus Attribution for Explaining Representations, ICLR 2023;
integrated gradients: Sundararajan et al. 2017; RISE: Petsiuk et al. 2018.
"""

from __future__ import annotations

import math


def cosine(a, b):
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    length = math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(y) ** 2 for y in b))
    return dot / length if length else 0.0


def value(row, corpus, foil):
    """Mean cosine to the corpus less mean cosine to the foil, pair by pair."""
    to_corpus = [cosine(row, each) for each in corpus]
    to_foil = [cosine(row, each) for each in foil]
    return sum(to_corpus) / len(to_corpus) - sum(to_foil) / len(to_foil)


def finite_differences(s, image, step):
    """Central differences of s at every number of a flat image."""
    found = []
    for i in range(len(image)):
        up, down = list(image), list(image)
        up[i] += step
        down[i] -= step
        found.append((s(up) - s(down)) / (2 * step))
    return found


def integrated(gradient, image, base, n_steps):
    """Midpoint sum of gradients on the straight way from base to image, times the way."""
    total = [0.0] * len(image)
    for k in range(n_steps):
        share = (k + 0.5) / n_steps
        at = [b + share * (x - b) for x, b in zip(image, base, strict=True)]
        for i, g in enumerate(gradient(at)):
            total[i] += g / n_steps
    return [(x - b) * t for x, b, t in zip(image, base, total, strict=True)]
