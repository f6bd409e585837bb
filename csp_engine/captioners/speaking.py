"""A captioner that gives likelihoods, as label methods see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from csp_engine.captioners.captions import Captions, ImageSet
from csp_engine.evidence.speaker import ImageVectors, Phrase


@runtime_checkable
class Likely(Protocol):
    """A captioner that says how likely any text is, for an image set and without one."""

    n_images: int

    def describe(
        self, sets: Sequence[ImageSet], *, n_phrases: int, n_beams: int, prior_weight: float
    ) -> list[Captions]:
        """See ``Captioner``."""
        ...

    def log_p(self, images: ImageSet, texts: Sequence[str]) -> Float32[np.ndarray, " t"]:
        """Log p(text | images)."""
        ...

    def log_prior(self, texts: Sequence[str]) -> Float32[np.ndarray, " t"]:
        """Log p(text)."""
        ...


@dataclass(frozen=True, slots=True)
class Speaking:
    """See ``csp_engine.evidence.speaker.Speaker``; it is shown exemplars alone."""

    captioner: Likely

    @property
    def n_images(self) -> int:
        """The most images of a set that it looks at."""
        return self.captioner.n_images

    def propose(self, sets: Sequence[ImageVectors], n_beams: int) -> list[list[Phrase]]:
        """Every phrase that a beam search ends with, but that the images share nothing."""
        found = self.captioner.describe(
            [ImageSet.of(images) for images in sets],
            n_phrases=n_beams,
            n_beams=n_beams,
            prior_weight=0.0,
        )
        return [
            [Phrase(one.text, one.log_p, one.log_prior) for one in captions.phrases]
            for captions in found
        ]

    def judge(self, images: ImageVectors, texts: Sequence[str]) -> list[Phrase]:
        """The likelihood of any texts, for one set."""
        log_p_t = self.captioner.log_p(ImageSet.of(images), texts).tolist()
        log_prior_t = self.captioner.log_prior(texts).tolist()
        return [Phrase(*one) for one in zip(texts, log_p_t, log_prior_t, strict=True)]


def speaking(captioner: object) -> Speaking | None:
    """A captioner as label methods see it; None where there is none, or it gives no likelihoods."""
    return Speaking(captioner) if isinstance(captioner, Likely) else None
