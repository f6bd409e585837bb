"""One case to one photograph, with the exact mask of everything that is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from csp_engine.demo.simulator.cases import CLINICAL
from csp_engine.demo.simulator.lesion import Scene, lesion, skin, through_pigment
from csp_engine.pasting import artefacts
from csp_engine.pasting.canvas import SIDE, noise, positions, smooth

MASKS = (
    "lesion", *CLINICAL, "red_skin",
    "ruler", "patch", "ink", "hair", "gel_bubbles", "gel_border", "dark_corners",
)  # fmt: skip
"""What has a mask, in a fixed order; a mask is all False where the case lacks the thing."""

GRID = 10
"""Cells along a side of the coarse masks that the encoder learns places from."""

VERSION = 2
"""Raise it when the same case comes out as other pixels."""


@dataclass(frozen=True)
class Photograph:
    """A rendered case: pixels, and for every entry of ``MASKS`` where it is seen."""

    image_hwc: np.ndarray
    masks: dict[str, np.ndarray]

    def image(self) -> Image.Image:
        """As a Pillow image."""
        return Image.fromarray(self.image_hwc)

    def grid(self, n: int = GRID) -> np.ndarray:
        """Which cells of an ``n`` by ``n`` grid hold any of each mask, (mask, n, n)."""
        edges = [SIDE * i // n for i in range(n)]
        stacked = np.stack([self.masks[name] for name in MASKS])
        return np.logical_or.reduceat(np.logical_or.reduceat(stacked, edges, 1), edges, 2)

    def shares(self) -> dict[str, float]:
        """Share of the picture that each mask covers, 0 to 1."""
        n_pixels = SIDE * SIDE
        return {name: int(mask_hw.sum()) / n_pixels for name, mask_hw in self.masks.items()}


def render(case: Mapping[str, Any]) -> Photograph:
    """Render one row of a table of cases.

    Equal rows give equal pixels on any machine. Every part draws from a random stream of its own,
    so two cases that differ in one control differ in its pixels only.
    """

    def stream(name: str) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([int(case["seed"]), VERSION, *name.encode()]))

    scene = Scene(case, stream)
    base = skin(scene)
    lesion(scene)
    image_hwc = through_pigment(scene, base)
    _soften(image_hwc, stream("lens"))
    _light(image_hwc, stream("light"))
    masks = scene.masks

    def add(name: str, cover_hw: np.ndarray) -> None:
        masks[name] = cover_hw >= 0.12

    if case["hair"]:
        add("hair", artefacts.hair(
            image_hwc, stream("hair"), case["hair"], case["hair_thickness"], case["hair_shade"]
        ))  # fmt: skip
    if case["ink"]:
        add("ink", artefacts.ink(image_hwc, stream("ink"), case["ink"]))
    if case["gel_border"]:
        add("gel_border", artefacts.gel_border(image_hwc, stream("gel_border")))
    if case["gel_bubbles"]:
        add("gel_bubbles", artefacts.gel_bubbles(image_hwc, stream("gel_bubbles")))
    if case["patch"]:
        add("patch", artefacts.colour_patch(image_hwc, stream("patch"), case["patch"]))
    if case["ruler"]:
        add("ruler", artefacts.ruler(image_hwc, stream("ruler"), case["ruler"]))
    if case["dark_corners"]:
        add("dark_corners", artefacts.dark_corners(image_hwc, stream("dark_corners")))
    _expose(image_hwc, stream("camera"))
    nothing_hw = np.zeros((SIDE, SIDE), bool)
    pixels = np.floor(image_hwc.clip(0, 255) + np.float32(0.5)).astype(np.uint8)
    return Photograph(pixels, {name: masks.get(name, nothing_hw) for name in MASKS})


def _soften(image_hwc: np.ndarray, rng: np.random.Generator) -> None:
    """The blur of optics and resizing: each pixel takes a share of its four neighbours."""
    share = np.float32(rng.uniform(0.10, 0.5)) / 4
    padded = np.pad(image_hwc, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    image_hwc *= 1 - 4 * share
    image_hwc += share * around


def _light(image_hwc: np.ndarray, rng: np.random.Generator) -> None:
    """White balance, brightness, uneven light and gloss on the skin."""
    tints = [(1, 1, 1), (1.05, 0.97, 0.93), (0.90, 1.0, 1.10), (1.0, 1.03, 0.92), (1.04, 0.94, 1.0)]
    tint = np.array(tints[int(rng.choice(5, p=(0.34, 0.22, 0.18, 0.14, 0.12)))], np.float32)
    gain = tint * np.float32(rng.uniform(0.84, 1.10)) * (1 + rng.normal(0, 0.025, 3))
    x_hw, y_hw = positions()
    ax, ay = rng.uniform(-0.16, 0.16, 2)
    slope_hw = 1 + np.float32(ax) * (x_hw / SIDE - 0.5) + np.float32(ay) * (y_hw / SIDE - 0.5)
    far_hw = np.sqrt((x_hw / SIDE - 0.5) ** 2 + (y_hw / SIDE - 0.5) ** 2)
    slope_hw = slope_hw * (1 - np.float32(rng.uniform(0, 0.30)) * smooth(far_hw, 0.25, 0.75))
    image_hwc *= gain.astype(np.float32) * slope_hw[:, :, None]
    if rng.random() < 0.3:
        gloss_hw = smooth(noise(rng, rng.uniform(50, 110), 2), 0.75, 1.35)
        gloss_hw = gloss_hw * smooth(noise(rng, 3, 1), -0.1, 0.8)
        image_hwc += (np.float32(rng.uniform(15, 70)) * gloss_hw)[:, :, None]


def _expose(image_hwc: np.ndarray, rng: np.random.Generator) -> None:
    """Contrast of the camera and the noise of its sensor."""
    middle = np.float32(rng.uniform(140, 170))
    image_hwc -= middle
    image_hwc *= np.float32(rng.uniform(0.92, 1.16))
    image_hwc += middle
    strength = rng.uniform(1.0, 4.5)
    grain = rng.integers(-128, 128, size=(SIDE, SIDE, 3), dtype=np.int8).astype(np.float32)
    image_hwc += grain * np.float32(strength / 74)
