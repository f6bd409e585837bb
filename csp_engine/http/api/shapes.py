"""The answers of the API: each field named once, and described to programs from here.

Numbers are those of the views, not rounded. One that is not known is null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from csp_engine import numbers


def number(value: Any) -> float | None:
    """A number as JSON has it: short where it is a float32, null where it is not known."""
    return None if value is None else numbers.short_float(value)


def cell(value: Any) -> Any:
    """A cell of a table as JSON has it."""
    if isinstance(value, float | np.floating):
        return number(value)
    if isinstance(value, str | bool | int) or value is None:
        return value
    return value.item() if isinstance(value, np.generic) else None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no answer, as a sentence that says what to do."""

    error: str


@dataclass(frozen=True, slots=True)
class BundleName:
    """A bundle of this server. ``problem`` says why it cannot be read; then the rest is null."""

    name: str
    digest: str | None
    n_images: int | None
    n_neurons: int | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Bundles:
    """All bundles of this server."""

    bundles: list[BundleName]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a model: ``layer`` is its id, its module path and how its maps are pooled."""

    model: str
    layer: str
    n_units: int
    methods: list[str]


@dataclass(frozen=True, slots=True)
class BundleAnswer:
    """What a bundle holds.

    ``doubt`` and ``notices`` say what its numbers must not be taken for. ``inputs`` are the images,
    networks, encoder and words that it was made from, with their hashes.
    """

    name: str
    digest: str
    schema: int
    engine_version: str
    updated: str
    n_images: int
    n_neurons: int
    methods: list[str]
    layers: list[Layer]
    concept_columns: list[str]
    doubt: str | None
    notices: list[str]
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of neurons and what it means."""

    name: str
    title: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Columns:
    """All columns that neurons may have."""

    columns: list[Column]


@dataclass(frozen=True, slots=True)
class Neurons:
    """Some neurons of a list, ``total`` of which pass what was asked; ``next`` is the next page.

    ``judgement`` says what a search found against chance. Each row has ``neuron`` and the columns
    that this bundle measured; ``/columns`` says what they mean.
    """

    bundle: str
    digest: str
    total: int
    offset: int
    limit: int
    next: str | None
    judgement: str | None
    neurons: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a conclusion and the kind of evidence that it rests on."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate label. ``raw`` is its score without contrast images."""

    text: str
    score: float | None
    raw: float | None
    margin: float | None
    percentile: float | None
    weight: float | None
    is_proposed: bool
    note: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What one method calls a neuron, best first, and how far the first may be trusted.

    ``probability`` that it is right is null unless this bundle's own known neurons taught it.
    """

    method: str
    title: str
    gamma: float | None
    is_reliable: bool
    trust: str
    doubt: str | None
    probability: float | None
    best_percentile: float | None
    n_exemplars: int
    candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of a neuron: in words, and its values by name."""

    name: str
    text: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a neuron goes with a concept column of the images."""

    column: str
    auroc: float | None
    pearson: float | None
    auprc: float | None
    n_positive: int
    n_known: int


@dataclass(frozen=True, slots=True)
class Effect:
    """The mean effect of a neuron on an output (gradient × activation), over ``n_images``."""

    output: str
    effect: float | None
    weight: float | None
    n_images: int


@dataclass(frozen=True, slots=True)
class Shot:
    """A probe image, the neuron's activation on it, and where its thumbnail is (WebP)."""

    image: int
    activation: float | None
    facts: dict[str, str]
    thumbnail: str


@dataclass(frozen=True, slots=True)
class ImagePair:
    """An exemplar, its rank from 1, and its nearest contrast image with their similarity."""

    rank: int
    exemplar: Shot
    contrast: Shot | None
    similarity: float | None


@dataclass(frozen=True, slots=True)
class NeuronAnswer:
    """Everything about one neuron; ``page`` is the address of its page."""

    neuron: str
    bundle: str
    digest: str
    method: str
    heading: str
    is_named: bool
    states: list[str]
    reasons: list[str]
    conclusion: list[Sentence]
    labels: list[Labels]
    facts: list[Fact]
    columns: list[Fit]
    outputs: list[Effect]
    pairs: list[ImagePair]
    n_exemplars: int
    page: str


@dataclass(frozen=True, slots=True)
class Table:
    """Some rows of a table, ``total`` of which there are; ``next`` is the next page."""

    bundle: str
    digest: str
    total: int
    offset: int
    limit: int
    next: str | None
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Audits:
    """What an audit of a model holds, one entry for each layer, network or fix that was tried."""

    bundle: str
    digest: str
    kind: str
    found: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict to record.

    ``reviewer`` is needed where nobody signs in and the server names nobody; else leave it out.
    """

    # Else what is sent under a mistyped name would be left out silently.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    neuron: str
    verdict: str
    note: str = ""
    confidence: str = ""
    reason: str = ""
    method: str = ""
    reviewer: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A verdict that is on disk."""

    neuron: str
    reviewer: str
    revision: int
    verdict: str
