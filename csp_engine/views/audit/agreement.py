"""How far reviewers agree, and on which neurons they do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from csp_engine import numbers
from csp_engine.reviews import VERDICTS, WITHDRAWN
from csp_engine.stats.agreement import Kappa, cohen_kappa, fleiss_kappa

MOST_REVIEWERS = 8
"""Those with most verdicts are compared with one another."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two reviewers, and how many of the neurons that both judged they judged alike."""

    first: str
    second: str
    n_same: int
    kappa: Kappa


@dataclass(frozen=True, slots=True)
class Agreement:
    """The reviewers of a model's neurons by how many they judged, and how they agree.

    ``together`` is over neurons that all of three or more reviewers judged, of more than
    ``MOST_REVIEWERS`` those with most verdicts; None with fewer reviewers or no such neuron.
    ``differing`` holds neurons on which verdicts differ, with each reviewer's.
    """

    reviewers: tuple[tuple[str, int], ...]
    pairs: tuple[Pair, ...]
    together: Kappa | None
    differing: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def agreement(rows: Sequence[Mapping[str, Any]], model: str) -> Agreement:
    """From a history as ``csp_engine.reviews.as_rows`` gives it, each reviewer's last word."""
    said: dict[str, dict[str, str]] = {}
    for row in rows:
        is_own = row["neuron"].startswith(f"{model}/")
        if is_own and row["is_latest"] and row["verdict"] != WITHDRAWN:
            said.setdefault(row["reviewer"], {})[row["neuron"]] = row["verdict"]
    counted = sorted(
        ((name, len(held)) for name, held in said.items()), key=lambda r: (-r[1], r[0])
    )
    names = [name for name, _ in counted[:MOST_REVIEWERS]]
    pairs = []
    for first, second in combinations(names, 2):
        both = sorted(said[first].keys() & said[second].keys())
        if both:
            codes = [[VERDICTS.index(said[name][x]) for x in both] for name in (first, second)]
            n_same = sum(a == b for a, b in zip(*codes, strict=True))
            pairs.append(Pair(first, second, n_same, cohen_kappa(*map(np.array, codes))))
    together = None
    common = sorted(set.intersection(*(set(said[name]) for name in names))) if names else []
    if len(names) > 2 and common:
        count_nk = np.array(
            [[sum(said[r][x] == v for r in names) for v in VERDICTS] for x in common]
        )
        together = fleiss_kappa(count_nk)
    judged = sorted({neuron for held in said.values() for neuron in held})
    differing = []
    for neuron in judged:
        each = tuple((name, said[name][neuron]) for name, _ in counted if neuron in said[name])
        if len({verdict for _, verdict in each}) > 1:
            differing.append((neuron, each))
    return Agreement(tuple(counted), tuple(pairs), together, tuple(differing))


def kappa_in_words(kappa: Kappa) -> str:
    """``0.62 (0.41 to 0.80)``; ``0.62 (no interval)`` of few; or why there is none."""
    if math.isnan(kappa.value):
        return "not defined: one and the same verdict on all"
    value = "no interval" if math.isnan(kappa.low) else f"{kappa.low:.2f} to {kappa.high:.2f}"
    return f"{kappa.value:.2f} ({value})".replace("-", "−")


def pair_in_words(pair: Pair) -> str:
    """Two reviewers in a sentence."""
    return (
        f"{pair.first} and {pair.second} judged {numbers.count(pair.kappa.n)} of the same neurons, "
        f"{numbers.count(pair.n_same)} of them alike: Cohen's κ {kappa_in_words(pair.kappa)}."
    )


def together_in_words(found: Agreement) -> str:
    """All reviewers in a sentence; empty where there are fewer than three."""
    if found.together is None:
        return ""
    n = len(found.reviewers)
    who = f"All {n} reviewers"
    if n > MOST_REVIEWERS:
        who = f"The {MOST_REVIEWERS} of {n} reviewers with most verdicts"
    return (
        f"{who} judged {numbers.count(found.together.n)} of the same neurons: Fleiss' "
        f"κ {kappa_in_words(found.together)}."
    )
