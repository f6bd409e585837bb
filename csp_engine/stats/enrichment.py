"""What some images have more often than the rest: shares, lift, exact tests.

Used for the exemplars of a neuron against its probe set. The arithmetic is written out, because the
one function needed of a statistics library would cost a page half a second to import.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int, Int64

from csp_engine.stats.wilson import wilson

NONE, UNKNOWN = -1, -2


@dataclass(frozen=True, slots=True)
class Enrichment:
    """One property among some images of a set.

    ``n_here`` of ``n_chosen`` images have it, ``n_all`` of ``n_images`` in the whole set. ``low``
    and ``high`` bound the share here (95 %, Wilson). ``p`` is the chance that as many or more of a
    random choice would have it (hypergeometric, one-sided), ``q`` the same after Benjamini and
    Hochberg over all properties looked at.
    """

    name: str
    n_here: int
    n_chosen: int
    n_all: int
    n_images: int
    low: float
    high: float
    p: float
    q: float

    @property
    def share(self) -> float:
        """Share of the chosen images that have it."""
        return self.n_here / self.n_chosen

    @property
    def base(self) -> float:
        """Share of all images that have it."""
        return self.n_all / self.n_images

    @property
    def lift(self) -> float:
        """How many times more often than in the whole set."""
        return self.share / self.base


def enriched(
    names: list[str],
    column_p: Int[np.ndarray, " p"],
    property_cn: Int[np.ndarray, "c n"],
    chosen_m: Int[np.ndarray, " m"],
) -> list[Enrichment]:
    """Every property that a chosen image has, the largest lift first.

    Args:
        names: of the properties.
        column_p: which column each of them comes from.
        property_cn: the property that each column gives each image, or ``NONE``, or ``UNKNOWN``
            where that is not known: such images do not count. A column with many values, such as
            a class, takes no more room than a flag.
        chosen_m: the chosen images, each once.
    """
    if not len(chosen_m):
        return []
    here_cm = property_cn[:, chosen_m]
    n_images_p = (property_cn >= NONE).sum(axis=1)[column_p]
    n_chosen_p = (here_cm >= NONE).sum(axis=1)[column_p]
    n_all_p = _counts(property_cn, len(names))
    n_here_p = _counts(here_cm, len(names))
    # Every property counts as looked at, also one that no chosen image has.
    p_p = [
        tail_chance(*map(int, counts))
        for counts in zip(n_here_p, n_chosen_p, n_all_p, n_images_p, strict=True)
    ]
    q_p = adjusted(p_p)
    rows = [
        Enrichment(name, int(k), int(m), int(n_all), int(n), *_interval(int(k), int(m)), p, q)
        for name, k, m, n_all, n, p, q in zip(
            names, n_here_p, n_chosen_p, n_all_p, n_images_p, p_p, q_p, strict=True
        )
        if k
    ]
    return sorted(rows, key=lambda row: (-row.lift, row.p, row.name))


def _interval(n_here: int, n_chosen: int) -> tuple[float, float]:
    low, high = wilson(n_here / n_chosen, n_chosen)
    return max(0.0, low), min(1.0, high)


def _counts(property_cn: Int[np.ndarray, "c n"], n_properties: int) -> Int[np.ndarray, " p"]:
    return np.bincount(property_cn[property_cn > NONE], minlength=n_properties)


def tail_chance(n_here: int, n_chosen: int, n_all: int, n_images: int) -> float:
    """``P(X >= n_here)`` for ``n_chosen`` images drawn at once, of a set where ``n_all`` fit."""
    last = min(n_chosen, n_all)
    if n_here <= max(0, n_chosen - (n_images - n_all)):
        return 1.0
    whole = _log_choose(n_images, n_chosen)
    return min(
        1.0,
        math.fsum(
            math.exp(_log_choose(n_all, k) + _log_choose(n_images - n_all, n_chosen - k) - whole)
            for k in range(n_here, last + 1)
        ),
    )


def main_class(
    unit_m: Int[np.ndarray, " m"],
    class_m: Int[np.ndarray, " m"],
    count_m: Int[np.ndarray, " m"],
    n_all_c: Int[np.ndarray, " c"],
    n_units: int,
) -> tuple[Int64[np.ndarray, " u"], Bool[np.ndarray, " u"]]:
    """The class that most exemplars of each unit show, among those they show more than usual.

    More than usual: the lower end of Wilson's 95 % interval of the share among the exemplars lies
    above the share among the probe images that have a class. Classes that tie go to the first.

    Args:
        unit_m: a unit and
        class_m: a class that its exemplars carry, each pair once;
        count_m: so many of them do.
        n_all_c: probe images that carry each class.
        n_units: how many units there are.

    Returns:
        the class, and whether there is one; where there is none the class says nothing.
    """
    n_u = np.bincount(unit_m, weights=count_m, minlength=n_units)
    n_m = np.maximum(n_u[unit_m], 1)
    low_m, _ = wilson(count_m / n_m, n_m)
    base_c = n_all_c / max(1, int(n_all_c.sum()))
    kept = np.flatnonzero((count_m > 0) & (low_m > base_c[class_m]))
    # The last key of a lexsort counts most, and the last one written to a unit stays.
    kept = kept[np.lexsort((-class_m[kept], count_m[kept]))]
    class_u, has_u = np.zeros(n_units, np.int64), np.zeros(n_units, bool)
    class_u[unit_m[kept]], has_u[unit_m[kept]] = class_m[kept], True
    return class_u, has_u


def adjusted(p_p: list[float]) -> list[float]:
    """P-values after Benjamini and Hochberg (1995)."""
    order = sorted(range(len(p_p)), key=lambda i: -p_p[i])
    found, lowest = [1.0] * len(p_p), 1.0
    for place, i in enumerate(order):
        lowest = min(lowest, p_p[i] * len(p_p) / (len(p_p) - place))
        found[i] = lowest
    return found


@lru_cache(maxsize=1 << 16)  # a page asks a thousand times, mostly the same as the page before
def _log_choose(n: int, k: int) -> float:
    if not 0 <= k <= n:
        return -math.inf
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
