"""What the exemplars of a neuron show more often than the probe set does, with exact tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle
from csp_engine.stats.enrichment import Enrichment, enriched
from csp_engine.types import NeuronRef
from csp_engine.views.images.facts import Properties, properties
from csp_engine.views.images.pairs import exemplar_images
from csp_engine.views.memo import Memo

N_SHOWN = 8
MOST_KEPT = 200
"""Neurons of which it is kept: one page asks for it twice."""
CHANCE = 0.05
"""What is at least as likely by chance is shown in grey."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Properties of the exemplars by lift; what chance explains goes last.

    ``n_chosen`` exemplars stand behind the rows, one of each group and near-duplicate. A property
    is compared where it is known: ``is_partly`` where that is not every probe image.
    """

    rows: tuple[Enrichment, ...]
    n_chosen: int
    is_partly: bool

    @property
    def striking(self) -> tuple[Enrichment, ...]:
        """What chance does not explain."""
        return tuple(row for row in self.rows if not by_chance(row))


def by_chance(row: Enrichment) -> bool:
    """Whether chance explains that exemplars show it so often."""
    return row.q > CHANCE


def shared(bundle: Bundle, memo: Memo, neuron: NeuronRef) -> Shared:
    """What the exemplars of a neuron have in common; no rows where nothing is known of them."""
    known: dict[NeuronRef, Shared] = memo.once(("shared", bundle.digest), dict)
    if neuron not in known:
        if len(known) >= MOST_KEPT:
            known.clear()
        known[neuron] = _shared(bundle, memo, neuron)
    return known[neuron]


def _shared(bundle: Bundle, memo: Memo, neuron: NeuronRef) -> Shared:
    images = exemplar_images(bundle, neuron)
    rows = shared_properties(bundle.images(), properties(bundle, memo), images)
    # One image of a rare kind has a huge lift, and means nothing.
    rows = sorted(rows, key=by_chance)
    return Shared(
        tuple(rows),
        max((row.n_chosen for row in rows), default=0),
        any(row.n_images < bundle.n_images for row in rows),
    )


def shared_properties(
    images: pd.DataFrame, known: Properties, chosen: np.ndarray
) -> list[Enrichment]:
    """What chosen images, strongest first, have more often than all; one of each group counts."""
    for column in ("group", "duplicate_group"):
        if column in images:
            keys = images[column].iloc[chosen]
            chosen = chosen[~(keys.duplicated() & keys.notna()).to_numpy()]
    return enriched(known.names, known.column_p, known.property_cn, chosen)
