"""Scores of phrases, token by token and phrase by phrase.

Hernandez et al., "Natural language descriptions of deep visual features" (ICLR 2022), section 3:
argmax_d log p(d | E) - lambda log p(d); p(d | E) = product over tokens of p(d_i | d_<i, E).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

Next = Callable[[Sequence[int]], Sequence[float]]
"""Probabilities of the next token after some tokens."""


def log_probability(next_token: Next, tokens: Sequence[int]) -> float:
    """The tokens must include the end mark."""
    total = 0.0
    for i, token in enumerate(tokens):
        total += math.log(next_token(tokens[:i])[token])
    return total


def all_phrases(words: Sequence[int], longest: int) -> list[tuple[int, ...]]:
    """Every sequence of one to ``longest`` words."""
    found: list[tuple[int, ...]] = []
    for length in range(1, longest + 1):
        found += list(itertools.product(words, repeat=length))
    return found


def rerank(
    given: Next, alone: Next, phrases: Sequence[tuple[int, ...]], end: int, weight: float
) -> list[tuple[float, float, float, tuple[int, ...]]]:
    """(score, log p(d | E), log p(d), d) of every phrase, best first."""
    rows = []
    for phrase in phrases:
        whole = (*phrase, end)
        log_p = log_probability(given, whole)
        log_prior = log_probability(alone, whole)
        rows.append((log_p - weight * log_prior, log_p, log_prior, phrase))
    return sorted(rows, reverse=True)
