"""What stages hold, as readers hand it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Images of each unit not chosen for being strongest: by activation band, and at random.

    ``stratum_s`` is the band of each stratified column, 0 for the weakest.
    """

    stratified_image_us: np.ndarray
    stratified_activation_us: np.ndarray
    stratum_s: np.ndarray
    random_image_us: np.ndarray
    random_activation_us: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class StoredInfluence:
    """Which outputs each unit drives: mean gradient x activation and direct weight, per output."""

    output_names: tuple[str, ...]
    gradient_activation_cu: np.ndarray
    n_image_c: np.ndarray
    direct_weight_cu: np.ndarray | None
    is_predicted_class: bool


@dataclass(frozen=True, slots=True, eq=False)
class StoredCircuit:
    """Of each output, the neurons that drive it most and which of them feed which.

    ``nodes`` and ``edges`` are the tables of docs/bundle.md.
    """

    outputs: pd.DataFrame
    nodes: pd.DataFrame
    edges: pd.DataFrame
    is_predicted_class: bool


@dataclass(frozen=True, slots=True, eq=False)
class StoredIntervention:
    """What adding one thing to photographs does to ``output``, and which units carry it.

    The tables are those of docs/bundle.md; ``images`` says what the photographs are. ``gates`` is
    None where nothing was pasted, ``given`` where nobody gave parts of layers to swap.
    """

    output: str
    images: str
    effects: pd.DataFrame
    pairs: pd.DataFrame
    units: pd.DataFrame
    sets: pd.DataFrame
    shown: pd.DataFrame
    gates: pd.DataFrame | None
    given: pd.DataFrame | None = None


@dataclass(frozen=True, slots=True, eq=False)
class StoredFix:
    """What becomes of a classifier's decisions when part of it is held still.

    The tables are those of docs/bundle.md. Columns of ``score_wi`` and ``called_vi`` are the rows
    of ``photographs`` that do not choose; their rows are those of ``runs``, of which only the
    first ``w``, the ones that are not random, have scores. ``thumbs`` are pictures of ``shown``.
    """

    output: str
    images: str
    mode: str
    clean: str
    chosen_on: str
    classes: tuple[str, ...]
    photographs: pd.DataFrame
    runs: pd.DataFrame
    cuts: pd.DataFrame
    score_wi: np.ndarray
    called_vi: np.ndarray
    shown: pd.DataFrame
    thumbs: tuple[bytes, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The small results, as the manifest keeps them."""
        return {
            **{name: getattr(self, name) for name in FIX_TEXTS},
            "classes": list(self.classes),
            "n_photographs": len(self.photographs),
        }


FIX_TEXTS = ("output", "images", "mode", "clean", "chosen_on")


@dataclass(frozen=True, slots=True, eq=False)
class StoredCurves:
    """Decisions while more and more units of a layer are held still; tables as in docs/bundle.md.

    Columns of ``called_vi`` are the rows of ``photographs`` that do not choose; its rows are those
    of ``runs``, of which the first holds nothing. ``method`` and ``words`` are what labels were
    read by, empty where none were; ``seed`` is that of the bootstrap, too.
    """

    output: str
    images: str
    mode: str
    method: str
    words: tuple[str, ...]
    classes: tuple[str, ...]
    seed: int
    photographs: pd.DataFrame
    orders: pd.DataFrame
    runs: pd.DataFrame
    called_vi: np.ndarray

    @property
    def facts(self) -> dict[str, Any]:
        """The small results, as the manifest keeps them."""
        return {
            **{name: getattr(self, name) for name in CURVES_TEXTS},
            "words": list(self.words),
            "classes": list(self.classes),
            "seed": self.seed,
            "n_photographs": len(self.photographs),
        }


CURVES_TEXTS = ("output", "images", "mode", "method")


@dataclass(frozen=True, slots=True, eq=False)
class StoredFactors:
    """Factors of a layer by how much they push wrong decisions; tables as in docs/bundle.md.

    Columns of ``direction_uk`` and ``push_nk`` are the rows of ``factors``, rows of ``push_nk``
    those of ``photographs``. ``called_vi`` holds decisions about those that do not choose: as the
    network is, without each of the first ``n_tried`` factors, then ``n_random`` controls.
    """

    images: str
    classes: tuple[str, ...]
    n_tried: int
    n_random: int
    photographs: pd.DataFrame
    factors: pd.DataFrame
    direction_uk: np.ndarray
    push_nk: np.ndarray
    called_vi: np.ndarray
    shown: pd.DataFrame
    thumbs: tuple[bytes, ...]

    @property
    def is_wrong_n(self) -> np.ndarray:
        """Of which photographs the decision is wrong."""
        return (self.photographs["decided"] != self.photographs["class"]).to_numpy(bool)

    @property
    def is_reported_n(self) -> np.ndarray:
        """Which photographs neither fitted nor ranked the factors."""
        return ~self.photographs["is_choosing"].to_numpy(bool)

    @property
    def facts(self) -> dict[str, Any]:
        """The small results, as the manifest keeps them."""
        return {
            "images": self.images,
            "classes": list(self.classes),
            "n_tried": self.n_tried,
            "n_random": self.n_random,
            "n_photographs": len(self.photographs),
        }

    @property
    def pictured(self) -> list[int]:
        """Factors of which pictures are kept: those called, as far as they are projected out."""
        return np.flatnonzero(self.factors["is_called"].to_numpy(bool)[: self.n_tried]).tolist()

    def most_pushed(self, factor: int, n: int) -> list[int]:
        """Reported photographs of wrong decision that a factor pushes most, and above 0."""
        rows = np.flatnonzero(self.is_wrong_n & self.is_reported_n)
        push_n = np.asarray(self.push_nk)[rows, factor]
        order = np.argsort(-push_n, kind="stable")[:n]
        return rows[order[push_n[order] > 0]].tolist()

    def with_pictures(self, shown: pd.DataFrame, thumbs: tuple[bytes, ...]) -> StoredFactors:
        """The same with its pictures."""
        return replace(self, shown=shown, thumbs=thumbs)


@dataclass(frozen=True, slots=True, eq=False)
class StoredMapChecks:
    """How well maps of a layer point at things; the tables are those of docs/bundle.md.

    ``images`` says what the photographs are.
    """

    images: str
    photographs: pd.DataFrame
    units: pd.DataFrame


@dataclass(frozen=True, slots=True, eq=False)
class StoredTruth:
    """What the units of a layer really answer to, on ``n_image`` images with known concepts.

    ``concepts`` has one row per concept, ``units`` one per unit (docs/bundle.md names the columns);
    ``rule`` says when a concept counts as the true one of a unit, and where the images came from.
    ``n_group`` counts what the images are grouped by, and equals ``n_image`` where they are not.
    ``more`` holds the figures of other metrics by name, ``(u, c)``.
    """

    concepts: pd.DataFrame
    units: pd.DataFrame
    pearson_uc: np.ndarray
    auroc_uc: np.ndarray
    auprc_uc: np.ndarray
    n_image: int
    n_group: int
    rule: Mapping[str, Any]
    more: Mapping[str, np.ndarray]

    def wordings(self) -> dict[str, tuple[str, ...]]:
        """Concept name → the texts that count as naming it, the usual one first."""
        return {
            name: tuple(json.loads(texts))
            for name, texts in zip(self.concepts["name"], self.concepts["wordings"], strict=True)
        }


@dataclass(frozen=True, slots=True, eq=False)
class StoredColumns:
    """How strongly the units of a layer go with each concept column of the probe set.

    ``columns`` has one row per column: ``name``, ``n_known`` images, ``n_positive`` of them.
    """

    columns: pd.DataFrame
    pearson_uc: np.ndarray
    auroc_uc: np.ndarray
    auprc_uc: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class StoredAssociation:
    """Which units of a layer excite for which column, and what was looked for in vain.

    The tables are those of docs/bundle.md; ``rule`` says when a unit is a suspect.
    """

    columns: pd.DataFrame
    found: pd.DataFrame
    n_tests: int
    n_images: int
    n_groups: int
    rule: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A flat map of the concept vectors of one method.

    ``kind`` is ``umap`` or ``pca``; ``rows`` is model, layer and unit of every row of ``xy_u2``,
    which is NaN for neurons without evidence. ``neighbour_recall`` is the share of the ten nearest
    in the original space that are nearest on the map, or None where there are too few.
    """

    method: str
    kind: str
    rows: pd.DataFrame
    xy_u2: np.ndarray
    neighbour_recall: float | None
