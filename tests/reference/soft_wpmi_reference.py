"""CLIP-Dissect's SoftWPMI and WPMI as slow loops (Oikarinen and Weng, ICLR 2023, and their code).

P = softmax over labels of 10 * cosine; g(t) = sum_i log(1 + q_i (P_it - 1) + 1e-7) over the top
images, q_i = .998 - i / m (.998 - .97); score = g(t) - lambda (logsumexp_k g_k(t) - log K).

WPMI: P = softmax over labels of 2 * cosine; g(t) = sum_i log(P_it + 1e-7) over the 28 top images;
lambda = .6.
"""

from __future__ import annotations

import math


def cosine(a, b):
    product = math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    length_a = math.sqrt(math.fsum(float(x) ** 2 for x in a))
    length_b = math.sqrt(math.fsum(float(x) ** 2 for x in b))
    return product / (length_a * length_b)


def probabilities(image, labels, scale=10.0):
    logits = [scale * cosine(image, label) for label in labels]
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    return [power / math.fsum(powers) for power in powers]


def log_match(images, labels, scale=10.0, first=0.998, last=0.97):
    """g(t) for one neuron with these top images, strongest first."""
    m = len(images)
    total = [0.0] * len(labels)
    for i, image in enumerate(images):
        q = first - i / m * (first - last)
        for t, p in enumerate(probabilities(image, labels, scale)):
            total[t] += math.log(1 + q * (p - 1) + 1e-7)
    return total


def plain_match(images, labels, scale=2.0):
    """g(t) of WPMI for one neuron with these top images."""
    total = [0.0] * len(labels)
    for image in images:
        for t, p in enumerate(probabilities(image, labels, scale)):
            total[t] += math.log(p + 1e-7)
    return total


def log_mean_exp(values):
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(v - highest) for v in values) / len(values))


def layer_scores(match_kt, weight=1.0):
    """Scores of all neurons of a layer, with the published prior over those neurons."""
    prior = [log_mean_exp([row[t] for row in match_kt]) for t in range(len(match_kt[0]))]
    return [[g - weight * p for g, p in zip(row, prior, strict=True)] for row in match_kt]
