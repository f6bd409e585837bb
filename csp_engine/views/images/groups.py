"""The two groups of exemplars behind polysemanticity, each with the labels nearest to it."""

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
    """Exemplars by rank from 0, and the labels nearest to them: not tested against chance."""

    ranks: tuple[int, ...]
    labels: tuple[str, ...]

    @property
    def heading(self) -> str:
        """How many, and nearest to what."""
        count = f"{len(self.ranks)} exemplars" if len(self.ranks) != 1 else "1 exemplar"
        return f"{count}, nearest to: {', '.join(self.labels)}" if self.labels else count


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
    labels = _nearest_labels(bundle, neuron, group_k)
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


def _nearest_labels(
    bundle: Bundle, neuron: NeuronRef, group_k: np.ndarray
) -> list[tuple[str, ...]]:
    """The labels nearest to each group, by the first method that can be asked about some images.

    Those are the methods that keep the two halves of a contrastive concept vector.
    """
    methods = bundle.methods(neuron.model, neuron.layer)
    kept = [KeptScores(bundle, neuron.model, neuron.layer, method) for method in methods]
    first = next((each for each in kept if each.has_halves), None)
    if first is None or first.method is None or not bundle.has("embeddings") or not len(group_k):
        return []
    evidence, groups = evidence_of(bundle, neuron), group_k.astype(np.int64)
    label_td = bundle.label_vectors()
    found = group_labels(first.method, evidence, groups, label_td, first.method_params)
    texts = bundle.labels()["text"]
    return [tuple(str(texts.iloc[label]) for label, _ in labels) for labels in found]
