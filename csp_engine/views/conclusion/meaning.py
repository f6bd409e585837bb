"""Whether two texts mean the same, and which property of images a label names."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from csp_engine.bundle import Bundle
from csp_engine.views.controls import SAME_AT
from csp_engine.views.images.facts import properties
from csp_engine.views.memo import Memo
from csp_engine.views.table.agreement import label_distance

Same = Callable[[str, str], bool]
"""Whether two texts mean the same."""


def same_meaning(bundle: Bundle, memo: Memo) -> Same:
    """For the texts of a bundle: the same text, or labels alike to the encoder (``SAME_AT``)."""
    distance = label_distance(bundle, memo)

    known: dict[frozenset[str], bool] = memo.once(("same meaning", bundle.digest), dict)

    def same(one: str, other: str) -> bool:
        if one == other:
            return True
        key = frozenset((one, other))
        if key not in known:
            apart = float(distance(np.array([one], object), np.array([other], object))[0])
            known[key] = not math.isnan(apart) and apart <= 1 - SAME_AT
        return known[key]

    return same


def property_of(bundle: Bundle, memo: Memo, label: str, same: Same) -> str | None:
    """The property of images that a label names, word for word or else for the encoder."""

    def make() -> str | None:
        held = properties(bundle, memo)
        flags = [str(flag).replace("_", " ") for flag in held.flags]
        if label in flags:
            return label
        return next((name for name in flags if name in held.names and same(label, name)), None)

    known = memo.once(("property of label", bundle.digest), dict)
    if label not in known:
        known[label] = make()
    return known[label]
