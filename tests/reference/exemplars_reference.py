"""Exemplars and unit statistics as slow loops from their definitions."""

from __future__ import annotations

import math


def exemplars(acts_n, n_exemplars):
    """Image ids by falling activation, ties to the lower id, only those above the minimum."""
    values = [float(a) for a in acts_n]
    order = sorted(range(len(values)), key=lambda image: (-values[image], image))
    return [image for image in order if values[image] > min(values)][:n_exemplars]


def mean_and_deviation(acts_n):
    values = [float(a) for a in acts_n]
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def quantile(acts_n, level):
    """Linear interpolation between order statistics (Hyndman and Fan 1996, type 7)."""
    values = sorted(float(a) for a in acts_n)
    place = level * (len(values) - 1)
    low = math.floor(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def histogram(acts_n, n_bins):
    values = [float(a) for a in acts_n]
    low, high = min(values), max(values)
    counts = [0] * n_bins
    for value in values:
        bin_number = 0
        for edge in range(1, n_bins):
            if value >= low + (high - low) * edge / n_bins and high > low:
                bin_number = edge
        counts[bin_number] += 1
    return counts
