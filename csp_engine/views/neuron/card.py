"""One neuron in a list, with a few of its exemplars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from csp_engine.views.images.tiles import ShownImage


@dataclass(frozen=True, slots=True)
class NeuronCard:
    """One neuron in a list.

    ``params`` are those of the address of its page; ``mark`` is a word about it, strong where
    ``is_marked``.
    """

    title: str
    score: str
    id: str
    note: str
    is_reliable: bool
    params: Mapping[str, str]
    images: tuple[ShownImage, ...] = ()
    mark: str = ""
    is_marked: bool = False
