"""The ways to choose images that say what a neuron responds to: ``?show=`` of its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csp_engine import numbers
from csp_engine.bundle import Bundle
from csp_engine.types import NeuronRef
from csp_engine.views.images.copies import Copies
from csp_engine.views.images.facts import ActivationFacts, known_facts
from csp_engine.views.images.groups import groups_of
from csp_engine.views.images.pairs import exemplar_images, pair_tiles, shown_exemplar
from csp_engine.views.images.tiles import ShownImage, Tile
from csp_engine.views.memo import Memo

TITLES = {
    "contrast": "Pairs",
    "exemplars": "Exemplars",
    "groups": "Groups",
    "stratified": "Strong to weak",
    "random": "Random",
}
ABOUT = {
    "exemplars": "The images that excite it most, strongest first.",
    "stratified": "Images drawn evenly over the whole range of its activations, strongest first.",
    "random": "Images drawn at random from the probe set.",
}
NO_EXEMPLARS = "No image excites this neuron more than another, so it has no exemplars."
NO_GROUPS = "The bundle has no groups for this neuron."


@dataclass(frozen=True, slots=True)
class Part:
    """Tiles under a heading, which may be empty."""

    heading: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class ChosenImages:
    """The images of a choice in parts, none empty, and how many near-duplicates were left out."""

    parts: tuple[Part, ...]
    n_hidden: int


def chosen_images(
    bundle: Bundle, memo: Memo, neuron: NeuronRef, show: str, *, limit: int, is_hiding: bool
) -> ChosenImages:
    """The images of a neuron chosen one way.

    Args:
        bundle: where the neuron lies.
        memo: what is kept.
        neuron: whose images.
        show: the choice, a key of ``TITLES``.
        limit: pairs at most; the other choices show all they have.
        is_hiding: whether near-duplicates are left out.
    """
    copies = Copies(bundle, is_hiding=is_hiding)
    if show == "contrast":
        parts = [("", pair_tiles(bundle, memo, neuron, limit, copies))]
    elif show == "exemplars":
        parts = [("", _exemplars(bundle, memo, neuron, copies))]
    elif show == "groups":
        parts = [
            (group.heading, _exemplars(bundle, memo, neuron, copies, group.ranks))
            for group in groups_of(bundle, neuron)
        ]
    else:
        parts = [("", _samples(bundle, memo, neuron, show, copies))]
    found = tuple(Part(heading, tuple(tiles)) for heading, tiles in parts if tiles)
    return ChosenImages(found, copies.n_hidden)


def _exemplars(
    bundle: Bundle,
    memo: Memo,
    neuron: NeuronRef,
    copies: Copies,
    ranks: Sequence[int] | None = None,
) -> list[Tile]:
    """Exemplars alone, strongest first; all of them, or those of some ranks."""
    exemplars = bundle.exemplars(neuron.model, neuron.layer)
    facts_of = ActivationFacts(bundle, memo, neuron).of
    images = exemplar_images(bundle, neuron).tolist()
    known_facts(bundle, memo, images)
    tiles = []
    for rank in range(len(images)) if ranks is None else ranks:
        image, activation = images[rank], float(exemplars.activation_uk[neuron.unit, rank])
        if copies.is_new(image):
            shown = shown_exemplar(rank, image, activation, facts_of, is_alone=True)
            tiles.append(Tile(shown.title, (shown,)))
    return tiles


def _samples(
    bundle: Bundle, memo: Memo, neuron: NeuronRef, show: str, copies: Copies
) -> list[Tile]:
    """Images not chosen for being strongest: by activation band, or at random."""
    samples, unit = bundle.samples(neuron.model, neuron.layer), neuron.unit
    facts_of = ActivationFacts(bundle, memo, neuron).of
    if show == "stratified":
        images = samples.stratified_image_us[unit]
        values = samples.stratified_activation_us[unit]
        n_bands = int(samples.stratum_s.max(initial=0)) + 1
        notes = [f"band {int(band) + 1} of {n_bands}" for band in samples.stratum_s]
        order = np.argsort(-np.asarray(values), kind="stable")
    else:
        images, values = samples.random_image_us[unit], samples.random_activation_us[unit]
        notes = [""] * len(images)
        order = np.arange(len(images))
    known_facts(bundle, memo, images.tolist())
    tiles = []
    for at in order:
        image, activation = int(images[at]), float(values[at])
        if copies.is_new(image):
            value = numbers.activation(activation)
            shown = ShownImage(
                image,
                f"Image {image} of the probe set, activation {value}",
                value,
                f"Image {image}",
                facts=facts_of(image, activation),
                activation=activation,
            )
            tiles.append(Tile(shown.title, (shown,), notes[at]))
    return tiles
