"""Arithmetic that gives the same pixels on every machine: noise, soft steps, pen strokes.

Images must be bit-identical wherever they are made, so float results whose last bit depends on the
processor are kept out of pixels: exponentials come from a table made with ``math``, noise is
enlarged by Pillow, and nothing is summed over an image.

Things are drawn in units of which the shorter side of every picture has ``SIDE``, so that the same
random numbers draw the same thing at any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

SIDE = 256
"""Side of a rendered photograph in pixels; units along the shorter side of any other."""

OVER = 3
"""Pen strokes are drawn this many times larger and reduced, so that thin lines are smooth."""

Field = Float[np.ndarray, "height width"]
"""One number per pixel."""

Number = float | int | np.floating
"""Any real number."""

Point = tuple[Number, Number]


@dataclass(frozen=True, slots=True)
class Frame:
    """The sides of a picture in units and in pixels."""

    width: float
    height: float
    n_columns: int
    n_rows: int
    over: int = OVER

    @property
    def scale(self) -> float:
        """Pixels per unit."""
        return min(self.n_columns, self.n_rows) / SIDE


SQUARE = Frame(float(SIDE), float(SIDE), SIDE, SIDE)
"""Of a rendered photograph."""

_STEPS = 512
_FADE = np.array([math.exp(-i / _STEPS) for i in range(12 * _STEPS)], np.float32)


def fade(density: np.ndarray) -> np.ndarray:
    """exp(-density) from a table, for densities of at least 0; the law of light in pigment."""
    index = (density * _STEPS).astype(np.int32)
    return _FADE[np.clip(index, 0, len(_FADE) - 1)]


def smooth(
    value: np.ndarray, low: Number | np.floating[Any], high: Number | np.floating[Any]
) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, a smooth step between."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(
    rng: np.random.Generator, cells: Number, octaves: int = 1, frame: Frame = SQUARE
) -> Field:
    """Smooth noise between about -1 and 1 with ``cells`` bumps along the shorter side.

    Every octave has twice the bumps and half the height of the one before.
    """
    total = np.zeros((frame.n_rows, frame.n_columns), np.float32)
    height = 1.0
    for _ in range(octaves):
        n = max(2, round(cells))
        step = n / SIDE
        n_high, n_wide = (math.ceil(long * step) for long in (frame.height, frame.width))
        grid = rng.random((n_high + 3, n_wide + 3), np.float32) * 2 - 1
        shift_x, shift_y = rng.random(2)
        right, bottom = 1 + shift_x + frame.width * step, 1 + shift_y + frame.height * step
        box = (1 + shift_x, 1 + shift_y, right, bottom)
        size = (frame.n_columns, frame.n_rows)
        big = Image.fromarray(grid, "F").resize(size, Image.Resampling.BICUBIC, box)
        total += np.float32(height) * np.asarray(big)
        height, cells = height / 2, cells * 2
        if cells > SIDE:
            break
    return total


def positions(frame: Frame = SQUARE) -> tuple[Field, Field]:
    """X and y of every pixel's centre, in units."""
    x, y = (
        (np.arange(n, dtype=np.float32) + np.float32(0.5)) / np.float32(frame.scale)
        for n in (frame.n_columns, frame.n_rows)
    )
    shape = (frame.n_rows, frame.n_columns)
    return np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape)


def blurred(field: Field, radius: Number, frame: Frame = SQUARE) -> Field:
    """Values from 0 to 1 softened by about ``radius`` units, by shrinking and enlarging."""
    width, height = (max(8, round(u / max(1.0, radius))) for u in (frame.width, frame.height))
    small = Image.fromarray(field, "F").resize((width, height), Image.Resampling.BOX)
    size = (frame.n_columns, frame.n_rows)
    return np.asarray(small.resize(size, Image.Resampling.BICUBIC)).clip(0, 1)


class Pen:
    """Draws strokes and blobs at high resolution; ``cover`` gives their share of every pixel."""

    def __init__(self, frame: Frame = SQUARE) -> None:
        self._over = frame.over
        self._factor = frame.scale * frame.over
        self._image = Image.new("L", (frame.n_columns * frame.over, frame.n_rows * frame.over))
        self._pen = ImageDraw.Draw(self._image)

    def line(self, points: Sequence[Point], width: Number, strength: Number = 1.0) -> None:
        """A line through points, round where it bends."""
        scaled = [(float(x * self._factor), float(y * self._factor)) for x, y in points]
        thick = max(1, round(width * self._factor))
        self._pen.line(scaled, fill=round(255 * strength), width=thick, joint="curve")

    def tapered(self, points: Sequence[Point], width: Number, strength: Number = 1.0) -> None:
        """A line that gets thinner towards its end, as a hair does."""
        n = len(points) - 1
        for i in range(n):
            share = 1.0 - 0.6 * i / max(1, n)
            self.line(points[i : i + 2], width * share, strength)

    def blob(self, x: Number, y: Number, rx: Number, ry: Number, strength: Number = 1.0) -> None:
        """A filled ellipse."""
        s = self._factor
        box = [float(v * s) for v in (x - rx, y - ry, x + rx, y + ry)]
        self._pen.ellipse(box, fill=round(255 * strength))

    def ring(
        self, x: Number, y: Number, rx: Number, ry: Number, width: Number,
        start: Number = 0, end: Number = 360, strength: Number = 1.0,
    ) -> None:  # fmt: skip
        """An arc of an ellipse, angles in degrees."""
        s = self._factor
        box = [float(v * s) for v in (x - rx, y - ry, x + rx, y + ry)]
        self._pen.arc(
            box,
            float(start),
            float(end),
            fill=round(255 * strength),
            width=max(1, round(width * s)),
        )

    def polygon(self, points: Sequence[Point], strength: Number = 1.0) -> None:
        """A filled polygon."""
        s = self._factor
        self._pen.polygon(
            [(float(x * s), float(y * s)) for x, y in points], fill=round(255 * strength)
        )

    def cover(self) -> Field:
        """What was drawn, 0 to 1."""
        return np.asarray(self._image.reduce(self._over), np.float32) / np.float32(255)


def curve(start: Point, bend: Point, end: Point, n: int = 14) -> list[Point]:
    """Points of a quadratic Bézier curve."""
    points = []
    for i in range(n + 1):
        t = i / n
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
        points.append(
            (a * start[0] + b * bend[0] + c * end[0], a * start[1] + b * bend[1] + c * end[1])
        )
    return points


def cells(
    rng: np.random.Generator,
    size: Number,
    jitter: Number,
    warp: Number = 0.0,
    frame: Frame = SQUARE,
) -> tuple[Field, Field]:
    """Distance to the nearest and second nearest of a jittered grid of points, in cell sizes.

    Their difference is small on the lines of a mesh around the points (Worley noise). ``warp``
    bends the mesh by so many cells.
    """
    n_high, n_wide = (int(long / size) + 4 for long in (frame.height, frame.width))
    offset_mm2 = 0.5 + (rng.random((n_high, n_wide, 2)) - 0.5) * jitter
    # Neighbouring rows are shifted by half a cell: holes of a pigment network lie like honeycomb.
    offset_mm2[1::2, :, 0] += 0.5
    x_hw, y_hw = positions(frame)
    gx_hw, gy_hw = x_hw / np.float32(size) + 1, y_hw / np.float32(size) + 1
    if warp:
        gx_hw = np.clip(gx_hw + np.float32(warp) * noise(rng, SIDE / size / 4, 2, frame), 0, None)
        gy_hw = np.clip(gy_hw + np.float32(warp) * noise(rng, SIDE / size / 4, 2, frame), 0, None)
    ix_hw, iy_hw = gx_hw.astype(np.int32), gy_hw.astype(np.int32)
    first_hw = np.full(x_hw.shape, 9, np.float32)
    second_hw = first_hw.copy()
    offset_mm2 = offset_mm2.astype(np.float32)
    for dy in (-1, 0, 1):
        for dx in (-2, -1, 0, 1):
            cx = np.clip(ix_hw + dx, 0, n_wide - 1)
            cy = np.clip(iy_hw + dy, 0, n_high - 1)
            px, py = cx + offset_mm2[cy, cx, 0], cy + offset_mm2[cy, cx, 1]
            distance_hw = np.sqrt((gx_hw - px) ** 2 + (gy_hw - py) ** 2)
            second_hw = np.minimum(second_hw, np.maximum(first_hw, distance_hw))
            first_hw = np.minimum(first_hw, distance_hw)
    return first_hw, second_hw
