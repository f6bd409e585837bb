"""What a bundle keeps of one method's scores of one layer, and the method that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle
from csp_engine.errors import BundleError
from csp_engine.methods import METHODS, Method, NullComponents
from csp_engine.methods.method import HALVES


@dataclass(frozen=True, slots=True, eq=False)
class KeptScores:
    """The stage ``scores:MODEL/LAYER/METHOD``, read when asked for."""

    bundle: Bundle
    model: str
    layer: str
    name: str

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return kinds.SCORES.name(self.model, self.layer, self.name)

    @property
    def method(self) -> Method | None:
        """The method that made the scores.

        None where they are labels of another tool, or the method is not here (any more): such
        scores are shown as they are, and nothing follows from them.
        """
        if not self.bundle.has(self.stage) or self.bundle.stage(self.stage).params.get("imported"):
            return None
        return METHODS.get(self.name)

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters that the scores were made with."""
        return self.bundle.stage(self.stage).params

    @property
    def method_params(self) -> dict[str, Any]:
        """Those of the parameters that the method knows."""
        method = self.method
        known = () if method is None else method.params
        return {name: value for name, value in self.params.items() if name in known}

    @property
    def has_halves(self) -> bool:
        """Whether labels at another gamma follow from what is kept."""
        method = self.method
        if method is None or not method.stores.has_halves:
            return False
        return all(map(self.has_array, HALVES))

    @property
    def gamma(self) -> float | None:
        """The gamma that the scores were made with, or None where there is none to move."""
        return float(self.params["gamma"]) if self.has_halves else None

    def array(self, name: str) -> np.ndarray:
        """An array of the stage.

        Raises:
            BundleError: if a signal is no number for each unit.
        """
        values, method = self.bundle.array(self.stage, name), self.method
        is_signal = method is not None and name in method.stores.signals
        if is_signal and (values.ndim != 1 or values.dtype.kind not in "biuf"):
            raise BundleError(
                f"Bundle {self.bundle.name} is damaged: {name}.npy of stage {self.stage} is no "
                "number for each unit; run 'csp build' with the same inputs to repair it."
            )
        return values

    def has_array(self, name: str) -> bool:
        """Whether the stage has an array; older bundles may lack some."""
        return f"{name}.npy" in self.bundle.stage(self.stage).files

    def signals(self) -> dict[str, np.ndarray] | None:
        """What the method keeps of every unit to judge its label by (``Stores.signals``).

        None where the method is not here, or the bundle, an older one, lacks some of it.
        """
        method = self.method
        if method is None or not all(self.has_array(name) for name in method.stores.signals):
            return None
        return {name: np.asarray(self.array(name)) for name in method.stores.signals}

    def numbers_of(self, unit: int) -> dict[str, float] | None:
        """The signals of a unit, and what else the method keeps of it that is one number.

        None where there are no signals; of the rest an older bundle may lack some.
        """
        method, signals = self.method, self.signals()
        if method is None or signals is None:
            return None
        more = [n for n in method.stores.arrays if n not in signals and self.has_array(n)]
        signals |= {name: self.array(name) for name in more}
        return {name: float(own[unit]) for name, own in signals.items() if own.ndim == 1}

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Anchor and projection of every unit, ``(u, d)`` each, on disk."""
        anchor_ud, projection_ud = (self.array(name) for name in HALVES)
        return anchor_ud, projection_ud

    def null_halves(self) -> NullComponents:
        """The same of the random image sets."""
        return NullComponents(
            self.array("null_anchor"),
            self.array("null_projection"),
            np.asarray(self.array("null_size")),
        )

    def null_vectors_of(self, n_images: int) -> Float32[np.ndarray, "r k d"] | None:
        """Image vectors of the first exemplars of the random image sets; None without sets."""
        if not self.bundle.has("null"):
            return None
        image_rk = np.asarray(self.bundle.array("null", "exemplar_image")[:, :n_images])
        return np.asarray(self.bundle.image_vectors()[image_rk])

    def null_sizes(self) -> list[int]:
        """Below full size, the numbers of images of which there are random image sets, rising."""
        method = self.method
        if method is None or method.stores.null_of_size is None or not self.bundle.has("null"):
            return []
        held = "null_size" if self.has_halves else "n_exemplar_u"
        full = int(self.params["n_score"])
        return [size for size in np.unique(self.array(held)).tolist() if 0 < size < full]

    def null_of_size(self, size: int) -> Float32[np.ndarray, "r d"] | None:
        """Concept vectors of random image sets of one of these sizes."""
        method = self.method
        assert method is not None, "null_sizes gave the size"
        assert method.stores.null_of_size is not None, "null_sizes gave the size"
        return method.stores.null_of_size(self, size)

    def null_vectors(self) -> Float32[np.ndarray, "r d"] | None:
        """Concept vectors of the random image sets of full size, where the method has such."""
        method = self.method
        if method is None or method.stores.null_vectors is None:
            return None
        return method.stores.null_vectors(self)
