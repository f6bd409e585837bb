"""Concepts that formulas are made of: which images show each, as far as anybody knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int

from csp_engine.evidence.evidence import ConceptColumns
from csp_engine.methods.depths.joined import parts_of
from csp_engine.stats.otsu import otsu
from csp_engine.words.vocabularies import clean_label

_TILE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Atoms:
    """Concepts and the images that show them.

    ``known_qn`` is false where nobody knows, and there ``shown_qn`` is false too; ``None`` where
    everything is known.
    """

    names: tuple[str, ...]
    shown_qn: Bool[np.ndarray, "q n"]
    known_qn: Bool[np.ndarray, "q n"] | None = None

    def of_images(self, image_s: Int[np.ndarray, " s"]) -> Atoms:
        """The same for some of the images."""
        known_qs = None if self.known_qn is None else self.known_qn[:, image_s]
        return Atoms(self.names, self.shown_qn[:, image_s], known_qs)

    def known(self, atom: int) -> Bool[np.ndarray, " n"]:
        """On which images it is known whether they show a concept."""
        if self.known_qn is None:
            return np.ones(self.shown_qn.shape[1], bool)
        return self.known_qn[atom]


def atoms_of_columns(columns: ConceptColumns) -> Atoms:
    """Concept columns: shown above one half, unknown where there is no value."""
    value_qn = columns.value_nc.T
    known_qn = ~np.isnan(value_qn)
    with np.errstate(invalid="ignore"):
        shown_qn = np.ascontiguousarray(value_qn > 0.5)
    names = tuple(clean_label(name) for name in columns.names)
    return Atoms(names, shown_qn, None if known_qn.all() else np.ascontiguousarray(known_qn))


def atoms_of_labels(
    image_nd: Float32[np.ndarray, "n d"],
    label_td: Float32[np.ndarray, "t d"],
    texts: Sequence[str],
) -> Atoms:
    """Labels, shown by images whose similarity is above Otsu's threshold for that label.

    Labels that join others ("ruler and hair") are left out: formulas join labels themselves.
    """
    joined = parts_of(texts)
    single = [t for t in range(len(label_td)) if t not in joined]
    shown_qn = np.empty((len(single), len(image_nd)), bool)
    for start in range(0, len(single), _TILE):
        similarity_tn = label_td[single[start : start + _TILE]] @ image_nd.T
        for q, similarity_n in enumerate(similarity_tn, start=start):
            shown_qn[q] = similarity_n > otsu(similarity_n)
    return Atoms(tuple(texts[t] for t in single), shown_qn)
