"""Whether networks still say of the first images of a pass what they said of them at its start.

A network that counts its batches, or lets statistics of its own creep, passes every try at start
and differs only later. So the first images run again as a pass goes on, after 1, 2, 4, 8 … batches
and at its end: for ten thousand images some twenty more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from csp_engine.errors import InputError
from csp_engine.networks.drifting import Outputs
from csp_engine.networks.steadiness import first_difference
from csp_engine.pipeline.passing.spreading import Station

ENCODED = 2.0**-10
"""How far an image's vector of length 1 may move between two runs of the encoder."""


class NotLastingError(InputError):
    """A network or the encoder changed while a pass ran; nothing that it measured counts."""


@dataclass(eq=False)
class _Said:
    """What the networks of one place said of the first images."""

    for_encoder: np.ndarray | None
    for_models: Sequence[np.ndarray]
    outlines: list[Outputs]
    vectors: np.ndarray | None
    n_batches: int = 0


@dataclass(eq=False)
class Lasting:
    """The first images that each place of a pass ran, to be run again there."""

    _of: dict[int, _Said] = field(default_factory=dict)

    def after_batch(
        self, place: Station, for_encoder: np.ndarray | None, for_models: Sequence[np.ndarray]
    ) -> None:
        """Remember the first images of a place, and try them again now and then.

        Args:
            place: which just ran a batch.
            for_encoder: pixels of its first images for the encoder, if there is one.
            for_models: the same for each network.

        Raises:
            NotLastingError: naming the network or the encoder, and after how many batches.
        """
        said = self._of.get(id(place))
        if said is None:
            outlines, vectors = _run(place, for_encoder, for_models)
            said = self._of[id(place)] = _Said(for_encoder, for_models, outlines, vectors)
        said.n_batches += 1
        if said.n_batches.bit_count() == 1:
            self._try(place, said)

    def at_end(self, places: Sequence[Station]) -> None:
        """Try all places once more; raises the same."""
        for place in places:
            said = self._of.get(id(place))
            if said is not None and said.n_batches.bit_count() != 1:
                self._try(place, said)

    def _try(self, place: Station, said: _Said) -> None:
        outlines, vectors = _run(place, said.for_encoder, said.for_models)
        for recorder, before, now in zip(place.recorders, said.outlines, outlines, strict=True):
            model = recorder.model
            found = first_difference(before, now, model.resolution)
            if found is not None:
                layer, size = found
                raise _changed(f"Layer {layer!r} of {model.name}", said.n_batches, size)
        if vectors is not None and said.vectors is not None and place.encoder is not None:
            size = float(np.abs(vectors - said.vectors).max())
            if size > ENCODED:
                raise _changed(f"Encoder {place.encoder.spec}", said.n_batches, size)


def _run(
    place: Station, for_encoder: np.ndarray | None, for_models: Sequence[np.ndarray]
) -> tuple[list[Outputs], np.ndarray | None]:
    outlines: list[Outputs] = [
        recorder.outline(pixels)
        for recorder, pixels in zip(place.recorders, for_models, strict=True)
    ]
    if place.encoder is None or for_encoder is None:
        return outlines, None
    return outlines, np.array(place.encoder.embed_images(for_encoder), np.float32)


def _changed(what: str, n_batches: int, size: float) -> NotLastingError:
    return NotLastingError(
        f"{what} gives the first images other values after {n_batches:,} batches than at the "
        f"start, by up to {size:.1e} of its largest: something counts or adapts from batch to "
        "batch, so nothing of this pass is kept; return a network from a python: factory that "
        "keeps nothing from batch to batch, or choose an earlier layer."
    )
