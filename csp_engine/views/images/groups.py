"""The two groups of exemplars behind polysemanticity, each with what sets it apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine.bundle import Bundle, KeptScores, kinds
from csp_engine.methods import group_labels
from csp_engine.types import NeuronRef
from csp_engine.views.images.pairs import evidence_of

SEPARATE = 0.25
"""A silhouette from here on means groups that stand apart."""


@dataclass(frozen=True, slots=True)
class Group:
    """Exemplars by rank from 0, and labels that set them apart: how sure that is, is not tested."""

    ranks: tuple[int, ...]
    labels: tuple[str, ...]

    @property
    def heading(self) -> str:
        """How many, and what sets them apart."""
        count = f"{len(self.ranks)} exemplars" if len(self.ranks) != 1 else "1 exemplar"
        return f"{count}, set apart by: {', '.join(self.labels)}" if self.labels else count


@dataclass(frozen=True, slots=True)
class Split:
    """How far apart the groups lie, and whether they look like two things."""

    polysemanticity: float
    silhouette: float
    words: str


def groups_of(bundle: Bundle, neuron: NeuronRef) -> tuple[Group, ...]:
    """The groups of a neuron; none where the bundle has no audit of its layer."""
    stage = kinds.AUDIT.name(neuron.model, neuron.layer)
    if not bundle.has(stage):
        return ()
    sizes = bundle.units(neuron.model, neuron.layer)[["cluster_0", "cluster_1"]].iloc[neuron.unit]
    n_ranks = int(sizes.sum())
    group_k = np.asarray(bundle.array(stage, "image_group")[neuron.unit, :n_ranks])
    labels = _labels(bundle, neuron, group_k)
    return tuple(
        Group(
            tuple(np.flatnonzero(group_k == group).tolist()),
            labels[group] if group < len(labels) else (),
        )
        for group in range(2)
    )


def split_of(bundle: Bundle, neuron: NeuronRef) -> Split:
    """Whether the two groups look like two things or like one cloud cut in half."""
    row = bundle.units(neuron.model, neuron.layer).iloc[neuron.unit]
    silhouette = float(row["silhouette"])
    if not silhouette >= 0:  # also where it is not defined
        words = "there is nothing to split."
    elif silhouette >= SEPARATE:
        words = "the groups stand apart."
    else:
        words = "the groups overlap, so they may show one thing."
    return Split(float(row["polysemanticity"]), silhouette, words)


def _labels(bundle: Bundle, neuron: NeuronRef, group_k: np.ndarray) -> list[tuple[str, ...]]:
    """What sets each group apart from its contrast images, more than chance would.

    It takes a method that keeps the two halves of a contrastive concept vector, of the neurons and
    of random image sets: none without.
    """
    methods = bundle.methods(neuron.model, neuron.layer)
    kept = [KeptScores(bundle, neuron.model, neuron.layer, method) for method in methods]
    first = next((each for each in kept if each.has_halves), None)
    if first is None or not bundle.has("embeddings") or not len(group_k):
        return []
    null = first.null_halves()
    if not len(null.size_r):
        return []
    texts = bundle.labels()["text"].tolist()
    found = group_labels(
        evidence_of(bundle, neuron),
        group_k.astype(np.int64),
        bundle.label_vectors(),
        texts,
        null.of_size(int(null.size_r.max())),
        gamma=float(first.params["gamma"]),
        weighting=str(first.params.get("weighting", "none")),
    )
    return [tuple(texts[label] for label in labels) for labels in found]
