"""What goes into a captioner and what comes out; nothing here runs a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from csp_engine.errors import StaleError

MODES = ("exemplars", "contrast")
"""What a captioner is shown of a neuron: its exemplars alone, or its contrast images as well."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Embeddings of images that excite a neuron and, if known, of look-alikes that do not.

    The order of rows means nothing. ``contrast_cd`` may have no rows.
    """

    activating_md: Float32[np.ndarray, "m d"]
    contrast_cd: Float32[np.ndarray, "c d"]

    @classmethod
    def of(cls, activating_md: np.ndarray, contrast_cd: np.ndarray | None = None) -> ImageSet:
        """A set, without contrast images if none are given."""
        return cls(activating_md, activating_md[:0] if contrast_cd is None else contrast_cd)


@dataclass(frozen=True, slots=True)
class Caption:
    """One phrase for one image set; natural logarithms.

    ``log_p`` is log p(text | images), ``log_prior`` log p(text) without images, ``pmi`` the score
    they are ranked by, see ``pmi``.
    """

    text: str
    log_p: float
    log_prior: float
    pmi: float


@dataclass(frozen=True, slots=True)
class Captions:
    """The best phrases for one image set, best first, all different.

    ``p_nothing`` is the probability that the captioner gives to the images having nothing in
    common; it says so in a phrase of its own, which is never among ``phrases``.
    """

    phrases: tuple[Caption, ...]
    p_nothing: float


def pmi(log_p: float, log_prior: float, prior_weight: float) -> float:
    """Weighted pointwise mutual information: log p(text | images) − λ log p(text).

    λ = 0 ranks by probability; λ = 1 is pointwise mutual information proper. MILAN (Hernandez et
    al. 2022) uses λ = 0.2 on the results of a beam search under p(text | images).
    """
    return log_p - prior_weight * log_prior


@runtime_checkable
class Captioner(Protocol):
    """A model that names what images have in common, from their embeddings.

    ``fingerprint`` is a sha256 over weights, configuration and tokenizer. ``encoder_fingerprint``
    and ``dim`` belong to the encoder whose embeddings it reads; it means nothing for any other.
    ``n_images`` is the most images of one kind that it looks at.
    """

    spec: str
    dim: int
    n_images: int
    fingerprint: str
    encoder_fingerprint: str
    description: dict[str, Any]

    def describe(
        self,
        sets: Sequence[ImageSet],
        *,
        n_phrases: int = 5,
        n_beams: int = 16,
        prior_weight: float = 0.2,
    ) -> list[Captions]:
        """Name each image set.

        A beam search of width ``n_beams`` under p(text | images) proposes; the proposals are
        ranked by ``pmi`` and the first ``n_phrases`` kept. There may be fewer.
        """
        ...


def require_encoder(captioner: Captioner, spec: str, fingerprint: str) -> None:
    """Refuse to show a captioner the embeddings of an encoder it was not made for.

    Raises:
        StaleError: if the fingerprints differ.
    """
    if captioner.encoder_fingerprint != fingerprint:
        raise StaleError(
            f"The captioner {captioner.spec} was made for the encoder with fingerprint "
            f"{captioner.encoder_fingerprint[:12]}, not for {spec} ({fingerprint[:12]}); "
            "train one for this encoder, or build with the encoder it was made for."
        )
