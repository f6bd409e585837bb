"""What a label method may look at: some of it always, the rest if the method declares it.

Exemplars, contrast images and image embeddings are always there. Everything else is large, or not
in every bundle, so a method names what it *needs* and gets that alone, loaded when first read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

from csp_engine.errors import InputError
from csp_engine.evidence.speaker import Speaker
from csp_engine.types import ContrastSet, Exemplars

NEEDS = {
    "exemplars": "exemplars",
    "contrast": "contrast images",
    "activations": "activations over the whole probe set",
    "layer": "activations of the whole layer",
    "columns": "concept columns",
    "masks": "mask columns",
    "texts": "texts of the labels",
    "kinds": "labels that are kinds of others",
    "copies": "images that are exact copies of others",
    "null": "random image sets",
    "candidates": "candidates of a captioner",
    "speaker": "a captioner that gives likelihoods",
}
"""What can be needed, and its name in a sentence."""

SHARED = frozenset({"columns", "copies", "kinds", "layer", "masks", "speaker", "texts"})
"""Needs that are the same for all units of a layer, random image sets included."""

OF_LAYER = frozenset({"layer", "candidates"})
"""Needs of random image sets too that differ from layer to layer."""

Units = Int[np.ndarray, " b"]
Source = Callable[[Units], Any]
"""Gives what is needed, for the units of the layer with these numbers."""


class UndeclaredNeedError(InputError):
    """A method reads what it did not declare; a mistake in the method's code."""


def require_needs(asker: str, needs: Sequence[str]) -> None:
    """Refuse needs that do not exist.

    Raises:
        InputError: naming the need and those that there are.
    """
    if isinstance(needs, str):
        raise InputError(f"{asker} has the needs {needs!r}; write ({needs!r},), with its comma.")
    for need in needs:
        if need not in NEEDS:
            raise InputError(f"{asker} needs {need!r}; what can be needed is {', '.join(NEEDS)}.")


@dataclass(frozen=True, slots=True, eq=False)
class ConceptColumns:
    """Which probe images show which concept: values in [0, 1], NaN where nobody knows."""

    names: tuple[str, ...]
    value_nc: Float32[np.ndarray, "n c"]


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Where in the probe images something is, read image by image.

    ``read(image, name)`` is a boolean array of the image's height and width, or None where the
    image has no mask of that name.
    """

    names: tuple[str, ...]
    read: Callable[[int, str], Bool[np.ndarray, "height width"] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What one asker declared beyond exemplars and contrast images, and where it comes from.

    ``kept`` is shared by all blocks of the layer: what was loaded or made once is not made again.
    ``common`` is shared by more: the random image sets, and other layers of the same bundle.
    """

    asker: str = "this code"
    needs: tuple[str, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)
    unit_u: Units | None = None
    kept: dict[Any, Any] = field(default_factory=dict)
    common: dict[Any, Any] = field(default_factory=dict)

    def block(self, units: slice | Units, n_units: int) -> Given:
        """The same for some of the units."""
        unit_u = np.arange(n_units) if self.unit_u is None else self.unit_u
        return replace(self, unit_u=unit_u[units])

    def read(self, need: str, n_units: int) -> Any:
        """What was declared under a name, for these units.

        Raises:
            UndeclaredNeedError: if the asker did not declare it, or nobody said where it is.
        """
        if need not in self.needs:
            raise UndeclaredNeedError(
                f"{self.asker} reads {NEEDS[need]} without declaring the need {need!r}; add it to "
                f"its needs, which are {', '.join(self.needs) or 'none'}."
            )
        if need not in self.sources:
            raise UndeclaredNeedError(
                f"{self.asker} needs {NEEDS[need]}, and was called without a source of them."
            )
        return self.sources[need](np.arange(n_units) if self.unit_u is None else self.unit_u)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Exemplars, contrast images and image embeddings of some units, and what was declared."""

    exemplars: Exemplars
    contrast: ContrastSet
    image_nd: Float32[np.ndarray, "n d"]
    given: Given = field(default_factory=Given)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.exemplars.count_u)

    def block(self, units: slice | Int[np.ndarray, " b"]) -> Evidence:
        """The same for a run, or any list, of units."""
        return Evidence(
            self.exemplars.block(units),
            self.contrast.block(units),
            self.image_nd,
            self.given.block(units, self.n_units),
        )

    def asked_by(
        self,
        asker: str,
        needs: Sequence[str],
        sources: Mapping[str, Source] | None = None,
        common: dict[Any, Any] | None = None,
    ) -> Evidence:
        """The same with what an asker declared; ``sources`` say where it comes from.

        ``common`` keeps what is made ``once_for_all``, and must not outlive what that is made of.
        """
        at_hand = self.given.sources if sources is None else sources
        given = replace(
            self.given,
            asker=asker,
            needs=tuple(needs),
            sources={name: source for name, source in at_hand.items() if name in needs},
            kept={},
            common={} if common is None else common,
        )
        return replace(self, given=given)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made at the first block of a layer and kept for the others."""
        if key not in self.given.kept:
            self.given.kept[key] = make()
        return self.given.kept[key]

    def found_elsewhere(self, key: Any) -> Any:
        """What is ``once_for_all`` and was made before; None where nobody did."""
        return self.given.common.get(key)

    def once_for_all(self, key: Any, make: Callable[[], Any]) -> Any:
        """What depends on images, labels and parameters alone, made once for all layers.

        Nothing of the units may enter what ``make`` gives.
        """
        if key not in self.given.common:
            self.given.common[key] = make()
        return self.given.common[key]

    def has(self, need: str) -> bool:
        """Whether there is some of what an asker uses only where it is there."""
        return need in self.given.needs and need in self.given.sources

    @property
    def activation_un(self) -> Float32[np.ndarray, "u n"]:
        """Activations of these units on every probe image."""
        return self.given.read("activations", self.n_units)

    @property
    def unit_u(self) -> Units:
        """Numbers of these units in their layer, or among the random image sets."""
        return np.arange(self.n_units) if self.given.unit_u is None else self.given.unit_u

    @property
    def layer_wn(self) -> Float32[np.ndarray, "w n"]:
        """Activations of all units of the layer, whatever the block."""
        return self._shared("layer")

    @property
    def columns(self) -> ConceptColumns:
        """The concept columns of the probe set."""
        return self._shared("columns")

    @property
    def masks(self) -> Masks:
        """The mask columns of the probe set."""
        return self._shared("masks")

    @property
    def texts(self) -> Sequence[str]:
        """The texts of the labels, in the order of their vectors."""
        return self._shared("texts")

    @property
    def kinds(self) -> Mapping[int, Sequence[int]]:
        """For each label that has kinds below it, all of them, by their order in the vocabulary."""
        return self._shared("kinds")

    @property
    def copy_of_n(self) -> Int[np.ndarray, " n"]:
        """For each probe image the lowest with the same content."""
        return self._shared("copies")

    @property
    def different_images(self) -> Int[np.ndarray, " m"]:
        """Probe images, of exact copies the first; all where nobody says which are copies."""
        image_n = np.arange(len(self.image_nd))
        return image_n[self.copy_of_n == image_n] if self.has("copies") else image_n

    @property
    def speaker(self) -> Speaker:
        """The captioner of the bundle, to be asked how likely phrases are."""
        return self._shared("speaker")

    @property
    def null(self) -> Evidence:
        """Random image sets, as if each were a unit; reading them for themselves is no circle."""
        return self._shared("null")

    @property
    def candidates(self) -> Sequence[Sequence[Mapping[str, Any]]]:
        """For each of these units what a captioner proposed, best first (docs/bundle.md)."""
        return self.given.read("candidates", self.n_units)

    def _shared(self, need: str) -> Any:
        """What is the same for all units is loaded once."""
        return self.once(("need", need), lambda: self.given.read(need, self.n_units))
