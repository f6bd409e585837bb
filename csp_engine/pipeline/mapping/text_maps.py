"""Where an encoder finds a text in images: zero-shot localisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.errors import InputError
from csp_engine.networks.attributing.cocoa import Similarity, contrast_direction
from csp_engine.networks.attributing.geometry import frame_of, onto_picture
from csp_engine.networks.attributing.methods import attributed
from csp_engine.pipeline.mapping.neuron_pixels import pictures
from csp_engine.pipeline.mapping.overlays import shaded
from csp_engine.search import query_vector
from csp_engine.types import Progress, silent

N_FOIL = 1000
"""Labels that a text is set apart from, where no others are given."""


class TextMaps:
    """COCOA in the encoder's space: the text as corpus, other texts as foil.

    ``foil`` says in words what it is set apart from.
    """

    def __init__(
        self, bundle: Bundle, encoder: Any, text: str, but_not: Sequence[str] = ()
    ) -> None:
        """Embed the texts.

        Raises:
            InputError: if the encoder cannot be followed back to pixels, or texts and foil agree.
        """
        if not hasattr(encoder, "rows_of"):
            raise InputError(
                f"{encoder.spec} does not run as a network here, so nothing can be followed back "
                "to the pixels of an image."
            )
        self.bundle = bundle
        self.encoder = encoder
        corpus_nd = query_vector(bundle, text, encoder)[None]
        if but_not:
            foil_nd = np.stack([query_vector(bundle, each, encoder) for each in but_not])
            self.foil = ", ".join(map(repr, but_not))
        else:
            foil_nd = np.asarray(bundle.label_vectors())[:N_FOIL]
            self.foil = f"{len(foil_nd)} labels of the bundle"
        self.value = Similarity(encoder.rows_of, contrast_direction(corpus_nd, foil_nd))

    def pictures(
        self, name: str, images: Sequence[int], progress: Progress = silent
    ) -> list[Image.Image]:
        """Thumbnails of probe images, dark but for where the text is found; each on its own scale.

        Raises:
            InputError: if there is no such map of a text.
        """
        shown = pictures(self.bundle, images)
        pixels = np.stack([self.encoder.preprocess(picture) for picture in shown])
        found = attributed(name, self.value, pixels, self.encoder.device, progress=progress)
        drawn = []
        for map_hw, picture in zip(found, shown, strict=True):
            frame = frame_of(self.encoder.preprocess, *picture.size)
            scaled = map_hw / np.float32(max(float(map_hw.max()), 1e-12))
            drawn.append(shaded(picture, onto_picture(scaled, frame)[0]))
        return drawn
