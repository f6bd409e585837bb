"""Simulated photographs with and without one thing: everything else is the same, to the pixel."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from PIL import Image

from csp_engine.demo.simulator import render
from csp_engine.demo.simulator.cases import draw_cases
from csp_engine.demo.simulator.neutral import neutral
from csp_engine.hashing import sha256_json
from csp_engine.pasting.pairs import Triple

CONTROLS_OF: dict[str, tuple[str, ...]] = {
    "colour patch": ("patch",),
    "dark corners": ("dark_corners",),
    "ruler": ("ruler",),
    "ink marks": ("ink",),
    "hair": ("hair", "hair_thickness", "hair_shade"),
    "gel bubbles": ("gel_bubbles",),
    "blue-white veil": ("blue_white_veil",),
    "streaks": ("streaks",),
}
"""What is switched on, by the name of its concept; the first of the controls has a mask."""

CLINICAL = frozenset({"blue-white veil", "streaks"})
"""Signs of melanoma, within the lesion: no neutral paste could stand for them."""

SCENARIO = "clean"
DONORS = "words"
"""The scenario whose photographs lend their colour of patch, kind of ruler, thickness of hair."""


class SimulatedPairs:
    """Clean photographs, each drawn a second time with one control switched on.

    Attributes:
        name: what they are, in words.
        table: one row a pair: ``artefact``, ``file`` (number of the case), ``group`` (likewise).
        fingerprint: of the cases and the version of the simulator.
    """

    def __init__(
        self, n_pairs: int, seed: int = 0, artefacts: tuple[str, ...] = tuple(CONTROLS_OF)
    ) -> None:
        """Draw cases; pixels are made when they are asked for.

        Args:
            n_pairs: of every artefact; the photographs are the same for all.
            seed: of the cases.
            artefacts: names of ``CONTROLS_OF``.
        """
        self.name = f"{n_pairs} simulated photographs without artefacts, one thing switched on"
        self._cases = draw_cases(SCENARIO, n_pairs, seed)
        self._without: dict[int, Image.Image] = {}
        self._drawn: dict[int, list[bytes]] = {}
        donors = draw_cases(DONORS, max(40 * n_pairs, 400), seed)
        rows, self._with = [], []
        for artefact in artefacts:
            first, *_ = controls = list(CONTROLS_OF[artefact])
            # A sign of melanoma is switched on where it was not; no case has two networks.
            lacking = np.flatnonzero(self._cases[first].isin(["", 0]))
            lent = donors[~donors[first].isin(["", 0])].iloc[: len(lacking)]
            for case, values in zip(lacking, lent[controls].to_dict("records"), strict=False):
                rows.append({"artefact": artefact, "file": f"case {case}", "group": f"{case}"})
                self._with.append((int(case), values))
        self.table = pd.DataFrame(rows, columns=pd.Index(["artefact", "file", "group"]))
        self.fingerprint = sha256_json(
            [render.VERSION, self._cases.to_json(), [str(each) for each in self._with]]
        )

    def images(self, row: int) -> Triple:
        """The photograph without, with, and with neutral texture in its place."""
        case, values = self._with[row]
        controls = self._cases.iloc[case].to_dict()
        if case not in self._without:  # the same for every artefact
            self._without[case] = render.render(controls).image()
        if row not in self._drawn:  # several networks look at the same pairs
            self._drawn[row] = self._draw(row, self._without[case], {**controls, **values})
        shown, *paste = (
            Image.open(io.BytesIO(content)).convert("RGB") for content in self._drawn[row]
        )
        return self._without[case], shown, paste[0] if paste else None

    def mask(self, row: int) -> Bool[np.ndarray, "h w"]:
        """Where the simulator drew the artefact."""
        case, values = self._with[row]
        drawn = render.render({**self._cases.iloc[case].to_dict(), **values})
        return drawn.masks[CONTROLS_OF[self.table["artefact"].iloc[row]][0]]

    def _draw(self, row: int, without: Image.Image, controls: dict[str, Any]) -> list[bytes]:
        drawn = render.render(controls)
        images = [drawn.image()]
        artefact = self.table["artefact"].iloc[row]
        if artefact not in CLINICAL:
            mask_hw = drawn.masks[CONTROLS_OF[artefact][0]]
            pasted = neutral(np.asarray(without), mask_hw, ~drawn.masks["lesion"])
            images.append(Image.fromarray(pasted))
        return [_png(image) for image in images]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
