"""Exemplars of a neuron, strongest first, each beside its nearest contrast image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.evidence.evidence import Evidence
from csp_engine.types import NeuronRef
from csp_engine.views.images.copies import Copies
from csp_engine.views.images.facts import ActivationFacts, known_facts
from csp_engine.views.images.tiles import Facts, ShownImage, Tile
from csp_engine.views.memo import Memo

NO_CONTRAST = "no quiet look-alike"
FactsOf = Callable[[int, float], Facts]
"""What is known about an image beside its activation."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An exemplar, its rank from 1, and its nearest contrast image where there is one."""

    rank: int
    exemplar: ShownImage
    contrast: ShownImage | None
    similarity: float | None

    @property
    def note(self) -> str:
        """What stands below both."""
        if self.similarity is None:
            return NO_CONTRAST
        return f"#{self.rank} · similarity {numbers.score(self.similarity)}"

    @property
    def tile(self) -> Tile:
        """Both as one tile; the similarity is known about the contrast image."""
        images = [self.exemplar]
        if self.contrast is not None and self.similarity is not None:
            alike = ("similarity", numbers.score(self.similarity))
            images.append(replace(self.contrast, facts=(alike, *self.contrast.facts)))
        return Tile(self.exemplar.title, tuple(images), self.note)


def exemplar_images(bundle: Bundle, neuron: NeuronRef) -> np.ndarray:
    """The exemplars of a neuron, strongest first."""
    exemplars = bundle.exemplars(neuron.model, neuron.layer)
    return np.asarray(exemplars.image_uk[neuron.unit, : int(exemplars.count_u[neuron.unit])])


def contrast_image(bundle: Bundle, neuron: NeuronRef, rank: int) -> int | None:
    """The nearest contrast image of the exemplar of a rank from 0, or None where it has none."""
    contrast = bundle.contrast(neuron.model, neuron.layer)
    is_paired = rank < contrast.n_partner_uk.shape[1] and contrast.n_partner_uk[neuron.unit, rank]
    return int(contrast.image_ukj[neuron.unit, rank, 0]) if is_paired else None


def evidence_of(bundle: Bundle, neuron: NeuronRef) -> Evidence:
    """The images that the scores of one neuron rest on."""
    one = slice(neuron.unit, neuron.unit + 1)
    return Evidence(
        bundle.exemplars(neuron.model, neuron.layer).block(one),
        bundle.contrast(neuron.model, neuron.layer).block(one),
        bundle.image_vectors(),
    )


def images_in_pairs(bundle: Bundle, neuron: NeuronRef, limit: int) -> list[int]:
    """The images of the first pairs in their order."""
    found = []
    for rank, image in enumerate(exemplar_images(bundle, neuron)[:limit].tolist()):
        other = contrast_image(bundle, neuron, rank)
        found += [image] if other is None else [image, other]
    return found


def pairs_of(
    bundle: Bundle,
    neuron: NeuronRef,
    limit: int,
    facts_of: FactsOf,
    copies: Copies | None = None,
) -> tuple[Pair, ...]:
    """The first pairs of a neuron; near-duplicates of exemplars already shown may be left out."""
    exemplars = bundle.exemplars(neuron.model, neuron.layer)
    contrast = bundle.contrast(neuron.model, neuron.layer)
    found: list[Pair] = []
    for rank, image in enumerate(exemplar_images(bundle, neuron).tolist()):
        if len(found) == limit:
            break
        if copies is not None and not copies.is_new(image):
            continue
        activation = float(exemplars.activation_uk[neuron.unit, rank])
        first = shown_exemplar(rank, image, activation, facts_of)
        other = contrast_image(bundle, neuron, rank)
        if other is None:
            found.append(Pair(rank + 1, first, None, None))
            continue
        low = float(contrast.activation_ukj[neuron.unit, rank, 0])
        similarity = float(contrast.similarity_ukj[neuron.unit, rank, 0])
        second = _shown_contrast(rank, other, low, similarity, facts_of)
        found.append(Pair(rank + 1, first, second, similarity))
    return tuple(found)


def pair_tiles(
    bundle: Bundle, memo: Memo, neuron: NeuronRef, limit: int, copies: Copies | None = None
) -> list[Tile]:
    """The first pairs of a neuron as tiles, with all that is known about each image."""
    known_facts(bundle, memo, images_in_pairs(bundle, neuron, limit))
    facts_of = ActivationFacts(bundle, memo, neuron).of
    return [pair.tile for pair in pairs_of(bundle, neuron, limit, facts_of, copies)]


def shown_exemplar(
    rank: int, image: int, activation: float, facts_of: FactsOf, *, is_alone: bool = False
) -> ShownImage:
    """An exemplar of a rank from 0, beside its contrast image or alone."""
    value = numbers.activation(activation)
    return ShownImage(
        image,
        f"Exemplar {rank + 1}: image {image} of the probe set, activation {value}",
        value if is_alone else f"fires {value}",
        f"Exemplar {rank + 1}",
        "" if is_alone else "exemplar",
        facts_of(image, activation),
        activation,
    )


def _shown_contrast(
    rank: int, image: int, activation: float, similarity: float, facts_of: FactsOf
) -> ShownImage:
    value, alike = numbers.activation(activation), numbers.score(similarity)
    return ShownImage(
        image,
        f"Contrast image of exemplar {rank + 1}: image {image}, activation {value}, "
        f"similarity {alike}",
        f"quiet {value}",
        "Contrast image",
        "contrast",
        facts_of(image, activation),
        activation,
    )
