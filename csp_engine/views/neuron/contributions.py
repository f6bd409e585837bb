"""Why a label scores what it scores: what each pair of images adds to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle, KeptScores
from csp_engine.methods import ScoreParts, resolve_params
from csp_engine.types import NeuronRef
from csp_engine.views.images.pairs import contrast_image, evidence_of
from csp_engine.views.images.tiles import ShownImage, Tile

N_MOST, N_LEAST = 4, 2


@dataclass(frozen=True, slots=True)
class Contribution:
    """One pair, its rank from 1, what it adds to the score, and its images.

    Below each image stands its cosine with the label, a mean where there are several contrast
    images.
    """

    rank: int
    added: float
    exemplar: ShownImage
    contrast: ShownImage | None

    @property
    def tile(self) -> Tile:
        """Both images as one tile."""
        images = (self.exemplar,) if self.contrast is None else (self.exemplar, self.contrast)
        return Tile(self.exemplar.title, images, f"#{self.rank} adds {numbers.signed(self.added)}")


@dataclass(frozen=True, slots=True)
class Contributions:
    """The score of a label as a sum over pairs: those that add most, then those that add least.

    ``n_for`` of all ``n_pairs`` speak for the label.
    """

    text: str
    score: float
    n_pairs: int
    n_for: int
    most: tuple[Contribution, ...]
    least: tuple[Contribution, ...]


def contributions(
    bundle: Bundle, neuron: NeuronRef, method: str, label: int, gamma: float
) -> Contributions | None:
    """What each pair adds to the score of a label; None for a method that cannot say so.

    Args:
        bundle: where the neuron lies.
        neuron: whose pairs.
        method: whose score.
        label: row of the label in the vocabulary.
        gamma: of the score.
    """
    kept = KeptScores(bundle, neuron.model, neuron.layer, method)
    if kept.method is None or kept.method.parts is None:
        return None
    params = resolve_params(kept.method, {**kept.method_params, "gamma": gamma})
    label_d = bundle.label_vectors()[label]
    parts = kept.method.parts(evidence_of(bundle, neuron), label_d, params)
    order = np.argsort(-parts.part_k, kind="stable")
    most, least = order[:N_MOST], order[max(N_MOST, len(order) - N_LEAST) :]
    return Contributions(
        text=str(bundle.labels()["text"].iloc[label]),
        score=float(parts.part_k.sum()),
        n_pairs=len(parts.part_k),
        n_for=int(np.count_nonzero(parts.part_k > 0)),
        most=tuple(_of_pair(bundle, neuron, parts, int(rank)) for rank in most),
        least=tuple(_of_pair(bundle, neuron, parts, int(rank)) for rank in least),
    )


def _of_pair(bundle: Bundle, neuron: NeuronRef, parts: ScoreParts, rank: int) -> Contribution:
    exemplars = bundle.exemplars(neuron.model, neuron.layer)
    image = int(exemplars.image_uk[neuron.unit, rank])
    fits = numbers.score(float(parts.exemplar_k[rank]))
    name = f"Exemplar {rank + 1}"
    exemplar = ShownImage(
        image,
        f"{name}: image {image}, cosine with the label {fits}",
        fits,
        name,
        "exemplar",
        (("cosine with the label", fits),),
    )
    contrast, other = None, contrast_image(bundle, neuron, rank)
    if other is not None:
        partners = bundle.contrast(neuron.model, neuron.layer).n_partner_uk
        n_partners = int(partners[neuron.unit, rank])
        fits = numbers.score(float(parts.contrast_k[rank]))
        of = "" if n_partners == 1 else f", mean of {n_partners} contrast images"
        contrast = ShownImage(
            other,
            f"Contrast image of exemplar {rank + 1}: image {other}, cosine {fits}{of}",
            fits,
            "Contrast image",
            "contrast",
            (("cosine with the label", f"{fits}{of}"),),
        )
    return Contribution(rank + 1, float(parts.part_k[rank]), exemplar, contrast)
