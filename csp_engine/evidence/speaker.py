"""What a method may ask a captioner that gives likelihoods; nothing here runs a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

ImageVectors = Float32[np.ndarray, "_ _"]
"""Embeddings of the images of one set; their order means nothing."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase with log p(text | images) and log p(text), natural logarithms."""

    text: str
    log_p: float
    log_prior: float


@runtime_checkable
class Speaker(Protocol):
    """A captioner and how likely it finds what it says."""

    @property
    def n_images(self) -> int:
        """The most images of a set that it looks at."""
        ...

    def propose(self, sets: Sequence[ImageVectors], n_beams: int) -> list[list[Phrase]]:
        """What a beam search under p(text | images) ends with, for each set; all different."""
        ...

    def judge(self, images: ImageVectors, texts: Sequence[str]) -> list[Phrase]:
        """The likelihood of any texts, for one set."""
        ...
