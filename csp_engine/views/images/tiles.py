"""Images with their words, as every output shows them; what belongs together is one tile."""

from __future__ import annotations

from dataclasses import dataclass

Facts = tuple[tuple[str, str], ...]
"""What is known about an image: names and values in words."""


@dataclass(frozen=True, slots=True)
class ShownImage:
    """One probe image with its words. ``kind`` is ``exemplar``, ``contrast`` or empty.

    ``alt`` says what it is to those who cannot see it, ``tag`` is a number below it, ``title``
    stands above it when it is enlarged; ``activation`` is that of the neuron it is shown for.
    """

    image: int
    alt: str
    tag: str = ""
    title: str = ""
    kind: str = ""
    facts: Facts = ()
    activation: float | None = None


@dataclass(frozen=True, slots=True)
class Tile:
    """What belongs together in a grid: an image, or an exemplar beside its contrast image."""

    name: str
    images: tuple[ShownImage, ...]
    note: str = ""
