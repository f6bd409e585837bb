"""Contrast images as slow loops from the formulas of the CSP paper (arXiv 2604.22477).

Pool of neuron k: {j : A_kj < mean_j A_kj}. For each exemplar p: n(p) = argmax over the pool of the
cosine x_p . x_j. Here with other thresholds, several partners, barred pairs, and without reuse.
All in float64, one neuron and one exemplar at a time. Never imports csp_engine.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

TIE = 1e-12


def threshold(acts_n, rule):
    """As text of the rule says; the smallest float32 that is not below the exact number."""
    values = [float(a) for a in acts_n]
    low, high = min(values), max(values)
    if low == high:
        return np.float32(low)
    kind, _, amount = rule.partition(":")
    if kind == "max":
        return round_up(float(amount) * high) if high > 0 else np.float32(low)
    if kind == "mean":
        exact = math.fsum(values) / len(values)
    else:
        place = float(amount) * (len(values) - 1)
        below = sorted(values)[math.floor(place)]
        above = sorted(values)[math.ceil(place)]
        exact = below + (place - math.floor(place)) * (above - below)
    # The least quiet set of these two rules: the images at the minimum.
    return max(round_up(exact), np.nextafter(np.float32(low), np.float32(np.inf)))


def round_up(exact):
    rounded = np.float32(exact)
    return rounded if float(rounded) >= exact else np.nextafter(rounded, np.float32(np.inf))


def cosine(image_nd, a, b):
    return float(np.dot(image_nd[a].astype(np.float64), image_nd[b].astype(np.float64)))


def allowed(query, image, groups):
    return image != query and all(group_n[image] != group_n[query] for group_n in groups)


def partners_with_reuse(acts_n, query_k, image_nd, rule, n_partners, groups=()):
    """For each exemplar the list of (image, similarity), best first, ties to the lower id."""
    limit = threshold(acts_n, rule)
    pool = [j for j in range(len(acts_n)) if acts_n[j] < limit]
    out = []
    for query in query_k:
        left = {j: cosine(image_nd, query, j) for j in pool if allowed(query, j, groups)}
        chosen = []
        while left and len(chosen) < n_partners:
            best = max(left.values())
            winner = min(j for j, s in left.items() if s >= best - TIE)
            chosen.append((winner, left.pop(winner)))
        out.append(chosen)
    return out


def best_assignment(acts_n, query_k, image_nd, rule, n_partners, groups=()):
    """Which places are filled without reuse, and the largest total similarity: by trying all ways.

    Places in order: first partner of exemplar 0, 1, …, second partner of exemplar 0, 1, …
    The pattern of filled places is the lexicographically largest that any assignment reaches.
    Only for a handful of places and images.
    """
    limit = threshold(acts_n, rule)
    pool = [j for j in range(len(acts_n)) if acts_n[j] < limit]
    places = [query for _ in range(n_partners) for query in query_k]
    best = (tuple(False for _ in places), 0.0)
    for images in itertools.product([None, *pool], repeat=len(places)):
        used = [j for j in images if j is not None]
        if len(set(used)) < len(used):
            continue
        pairs = [(q, j) for q, j in zip(places, images, strict=True) if j is not None]
        if not all(allowed(q, j, groups) for q, j in pairs):
            continue
        filled = tuple(j is not None for j in images)
        best = max(best, (filled, math.fsum(cosine(image_nd, q, j) for q, j in pairs)))
    return best


def greedy_walk(acts_n, query_k, image_nd, rule, n_partners, groups=()):
    """The published walk without reuse, in rank order: places filled and total similarity."""
    limit = threshold(acts_n, rule)
    free = {j for j in range(len(acts_n)) if acts_n[j] < limit}
    n_filled, total = 0, 0.0
    for _ in range(n_partners):
        for query in query_k:
            options = [j for j in free if allowed(query, j, groups)]
            if options:
                winner = max(options, key=lambda j: (cosine(image_nd, query, j), -j))
                total += cosine(image_nd, query, winner)
                free.remove(winner)
                n_filled += 1
    return n_filled, total
