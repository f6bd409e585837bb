"""The nouns of the product as frozen dataclasses: neurons, layers, and arrays about them.

Axis letters, everywhere: ``n`` probe images, ``u`` units of one layer, ``k`` rank, ``j`` contrast
partner, ``d`` embedding width, ``t`` labels (texts), ``c`` classes, ``r`` null draws.
Image ids, unit numbers and label ids are row numbers of their tables, so all arrays line up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from csp_engine.errors import InputError

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; engine code never prints."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress callback that shows nothing."""


POOLINGS = ("mean", "max", "absmax", "cls", "token_mean", "none")
"""How a unit's map becomes one number per image; part of a neuron's identity.

``mean``, ``max``, ``absmax`` (the value of largest magnitude, sign kept) run over all positions;
``cls`` takes the first token; ``token_mean`` averages the patch tokens without class or register
tokens; ``none`` is for layers that already give one number per unit.
"""

APART = "Each of its outputs is taken for a yes or no of its own."
"""What is told, and kept, of a network with several outputs of which none leaves others less."""


@dataclass(frozen=True, slots=True, order=True)
class LayerId:
    """One layer as neurons are counted in it: ``module[+sae]@pooling``, say ``layer4@mean``."""

    module: str
    pooling: str
    sae: str | None = None

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise InputError(
                f"Pooling {self.pooling!r} does not exist; choose one of {', '.join(POOLINGS)}."
            )
        if not self.module or re.search(r"[/@+\s]", self.module):
            raise InputError(
                f"{self.module!r} is not a module path; use one that 'csp layers MODEL' lists."
            )
        if self.sae is not None and not re.fullmatch(r"[\w.-]+", self.sae):
            raise InputError(
                f"{self.sae!r} cannot name an autoencoder; use letters, digits, '.', '_' and '-'."
            )

    def __str__(self) -> str:
        return f"{self.module}{f'+{self.sae}' if self.sae else ''}@{self.pooling}"

    @classmethod
    def parse(cls, text: str) -> LayerId:
        """Read ``module[+sae]@pooling``.

        Raises:
            InputError: if ``text`` has no pooling or an unknown one.
        """
        body, at, pooling = text.rpartition("@")
        if not at:
            raise InputError(
                f"Layer {text!r} has no pooling; write it as 'module@pooling', such as {text}@mean."
            )
        module, plus, sae = body.partition("+")
        return cls(module, pooling, sae if plus else None)


@dataclass(frozen=True, slots=True, order=True)
class NeuronRef:
    """One neuron, ``model/layer/unit`` in URLs, files and on the command line."""

    model: str
    layer: str
    unit: int

    def __str__(self) -> str:
        return f"{self.model}/{self.layer}/{self.unit}"

    @classmethod
    def parse(cls, text: str) -> NeuronRef:
        """Read ``model/layer/unit``; the model name may itself hold slashes.

        Raises:
            InputError: if there are fewer than three parts or the unit is not a number.
        """
        parts = text.rsplit("/", 2)
        if len(parts) != 3 or not all(parts) or not re.fullmatch(r"\d{1,9}", parts[2], re.ASCII):
            raise InputError(
                f"{text!r} is not a neuron; write model/layer/unit, say resnet18/layer4@mean/217."
            )
        return cls(parts[0], parts[1], int(parts[2]))


@dataclass(frozen=True, slots=True, eq=False)
class Exemplars:
    """The most activating probe images of each unit, strongest first.

    Only the first ``count_u[u]`` ranks of row ``u`` mean anything; the rest are padding (image 0).
    Constant units have count 0. Ties go to the lower image id.
    """

    image_uk: Int32[np.ndarray, "u k"]
    activation_uk: Float32[np.ndarray, "u k"]
    count_u: Int32[np.ndarray, " u"]

    def block(self, units: slice | Int[np.ndarray, " b"]) -> Exemplars:
        """The same for a run, or any list, of units."""
        return Exemplars(self.image_uk[units], self.activation_uk[units], self.count_u[units])


@dataclass(frozen=True, slots=True, eq=False)
class ContrastSet:
    """For each exemplar, the probe images that look most like it and leave the unit quiet.

    Partner ``j`` of rank ``k`` is meaningful while ``j < n_partner_uk[u, k]``. ``similarity`` is
    the cosine of the two images in encoder space. ``pool_u`` counts the quiet images of the unit,
    ``threshold_u`` is the activation below which an image counts as quiet.
    """

    image_ukj: Int32[np.ndarray, "u k j"]
    similarity_ukj: Float32[np.ndarray, "u k j"]
    activation_ukj: Float32[np.ndarray, "u k j"]
    n_partner_uk: Int32[np.ndarray, "u k"]
    pool_u: Int32[np.ndarray, " u"]
    threshold_u: Float32[np.ndarray, " u"]

    def block(self, units: slice | Int[np.ndarray, " b"]) -> ContrastSet:
        """The same for a run, or any list, of units."""
        return ContrastSet(
            self.image_ukj[units],
            self.similarity_ukj[units],
            self.activation_ukj[units],
            self.n_partner_uk[units],
            self.pool_u[units],
            self.threshold_u[units],
        )


@dataclass(frozen=True, slots=True, eq=False)
class LabelScores:
    """The best labels of each unit by one method, best first, and how far they can be trusted.

    ``percentile_uk`` places a label's score among the scores the *same label* gets for random image
    sets; ``best_percentile_u`` places the unit's best score among the *best* scores of random image
    sets, so it accounts for having looked at every label. Both are in [0, 1].
    ``raw_uk`` is the score the label would have without contrast images (equal to the score for
    methods that use none). ``margin_uk`` is the score minus that of the next label down.
    Only the first ``count_u[u]`` ranks mean anything; 0 where a unit has no evidence.
    """

    label_uk: Int32[np.ndarray, "u k"]
    score_uk: Float32[np.ndarray, "u k"]
    raw_uk: Float32[np.ndarray, "u k"]
    margin_uk: Float32[np.ndarray, "u k"]
    percentile_uk: Float32[np.ndarray, "u k"]
    count_u: Int32[np.ndarray, " u"]
    best_percentile_u: Float32[np.ndarray, " u"]
    reliable_u: Bool[np.ndarray, " u"]
    vector_ud: Float32[np.ndarray, "u d"]
    n_exemplar_u: Int32[np.ndarray, " u"]
    similarity_u: Float32[np.ndarray, " u"]
    pool_u: Int32[np.ndarray, " u"]
    reuse_u: Float32[np.ndarray, " u"]


@dataclass(frozen=True, slots=True)
class TextRecipe:
    """How a text becomes a vector: embed ``template.format(text)`` for each template, average.

    ``renormalise`` brings the average back to unit length (so scores are cosines);
    ``subtract_empty`` first takes away the vector of the empty template (SemanticLens).
    """

    templates: tuple[str, ...]
    renormalise: bool = True
    subtract_empty: bool = False

    def __post_init__(self) -> None:
        bad = [t for t in self.templates if t.count("{}") != 1]
        if not self.templates or bad:
            raise InputError(
                f"A template needs exactly one '{{}}' for the text; got {bad or 'none'}."
            )


@runtime_checkable
class Encoder(Protocol):
    """An image-text model. Rows that come out are unit length, float32.

    ``fingerprint`` is a sha256 over weights, preprocessing and tokenizer; ``description`` is the
    JSON-ready record behind it. ``spec`` is what ``load_encoder`` needs to find it again. A build
    on several devices also calls ``on(device)``, which returns a copy that embeds images there.
    """

    spec: str
    dim: int
    fingerprint: str
    description: dict[str, Any]

    def preprocess(self, image: Any) -> np.ndarray:
        """One RGB Pillow image to one float32 array ``(channel, height, width)``."""
        ...

    def embed_images(
        self, pixels: Float32[np.ndarray, "n channel height width"]
    ) -> Float32[np.ndarray, "n d"]:
        """A batch of preprocessed images to unit rows."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """Texts, exactly as given, to unit rows."""
        ...
