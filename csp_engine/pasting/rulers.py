"""Rulers as real dermoscopes show them, for photographs of people.

The simulator's own are paler and fall where they like. Probes that know real rulers told those
apart from nothing less well than other artefacts, so these follow what is seen in ISIC: a dark rod
below the lesion with ticks and MM, ticks along a border, or a white scale that reaches in from one.
"""

from __future__ import annotations

import math

import numpy as np

from csp_engine.pasting.artefacts import Picture, paint
from csp_engine.pasting.canvas import Field, Frame, Number, Pen, Point, blurred

_M = ((0.0, 0.0), (0.0, -1.0), (0.28, -0.35), (0.56, -1.0), (0.56, 0.0))


def pasted_ruler(image_hwc: Picture, rng: np.random.Generator, frame: Frame) -> Field:
    """A rod mostly, as in ISIC, else ticks along a border or a white scale."""
    kind = rng.random()
    if kind < 0.85:
        return _rod(image_hwc, rng, frame)
    return (_ticks if kind < 0.95 else _scale)(image_hwc, rng, frame)


def _rod(image_hwc: Picture, rng: np.random.Generator, frame: Frame) -> Field:
    turn = rng.normal(0, 0.14) if rng.random() < 0.7 else rng.choice([-1, 1]) * rng.uniform(0.3, 1)
    length = rng.uniform(0.42, 0.56) * frame.width
    c, s = math.cos(turn), math.sin(turn)
    # Far from the middle below it, sometimes above or beside.
    x, y = rng.uniform(0.36, 0.64), rng.uniform(0.78, 0.94)
    place = rng.random()
    if place > 0.75:
        x, y = (rng.uniform(0.3, 0.7), rng.uniform(0.06, 0.2)) if place < 0.85 else (y, x)
        x = 1 - x if rng.random() < 0.5 else x
    x0, y0 = x * frame.width - c * length / 2, y * frame.height - s * length / 2
    width, tall = rng.uniform(1.5, 2.3), rng.uniform(6, 9)

    def at(along: Number, up: Number) -> Point:
        return x0 + c * along + s * up, y0 + s * along - c * up

    pen = Pen(frame)
    pen.line([at(0, 0), at(length, 0)], width)
    n = int(rng.choice([10, 20]))
    for i in range(n + 1):
        high = tall * (1.35 if i in (0, n) else 1.0 if n == 10 or i % 2 == 0 else 0.6)
        pen.line([at(length * i / n, 0), at(length * i / n, high)], width * 0.8)
    size = rng.uniform(7, 9)
    for letter in range(2):
        points = [at(1.5 + size * (0.8 * letter + a), -3 - size - size * b) for a, b in _M]
        pen.line(points, rng.uniform(0.9, 1.2))
    return _dark(image_hwc, rng, pen.cover(), frame)


def _ticks(image_hwc: Picture, rng: np.random.Generator, frame: Frame) -> Field:
    side = int(rng.integers(4))
    along_side = frame.height if side % 2 == 0 else frame.width
    gap, tall = rng.uniform(11, 20), rng.uniform(8, 14)
    inset, width, tilt = rng.uniform(0, 14), rng.uniform(1.6, 2.8), rng.normal(0, 0.12)
    bow = rng.uniform(-6, 10)
    first = rng.uniform(0, gap)
    pen = Pen(frame)
    for i in range(int((along_side - first) / gap) + 1):
        t = first + i * gap
        off = inset + bow * (2 * t / along_side - 1) ** 2
        ends = [(off, t), (off + tall * (1.5 if i % 5 == 0 else 1), t + tall * tilt)]
        pen.line([_from_side(x, y, side, frame) for x, y in ends], width)
    return _dark(image_hwc, rng, pen.cover(), frame)


def _scale(image_hwc: Picture, rng: np.random.Generator, frame: Frame) -> Field:
    """White, with bold ticks, parallel to a border nearly."""
    side = int(rng.choice([0, 1, 2, 3], p=(0.15, 0.2, 0.15, 0.5)))
    along_side = frame.height if side % 2 == 0 else frame.width
    wide, tilt = rng.uniform(20, 34), rng.normal(0, 0.03)
    body, ticks = Pen(frame), Pen(frame)

    def edge(t: Number) -> Number:
        return wide + tilt * (t - along_side / 2)

    far = along_side + 8.0
    corners = [(-8, -8), (edge(-8), -8), (edge(far), far), (-8, far)]
    body.polygon([_from_side(x, y, side, frame) for x, y in corners])
    gap = rng.uniform(8, 13)
    for i in range(int(along_side / gap) + 1):
        t = (i + 0.5) * gap
        depth = wide * (0.95 if i % 10 == 0 else 0.75 if i % 5 == 0 else 0.6)
        ends = [(edge(t) - 1.5, t), (edge(t) - depth, t)]
        ticks.line([_from_side(x, y, side, frame) for x, y in ends], gap * rng.uniform(0.28, 0.4))
    body_hw = body.cover()
    shade_hw = np.maximum(blurred(body_hw, 4, frame) - body_hw, 0)
    image_hwc *= 1 - 0.5 * shade_hw[:, :, None]
    paint(image_hwc, body_hw * np.float32(0.97), np.array([236, 236, 230]) * rng.uniform(0.9, 1.05))
    paint(image_hwc, ticks.cover() * body_hw * np.float32(0.95), (26, 26, 30))
    return body_hw


def _from_side(x: Number, y: Number, side: int, frame: Frame) -> Point:
    """A point ``x`` inwards from one of the sides: left, top, right, bottom."""
    return [(x, y), (y, x), (frame.width - x, y), (y, frame.height - x)][side]


def _dark(image_hwc: Picture, rng: np.random.Generator, cover_hw: Field, frame: Frame) -> Field:
    """Paint in the dark grey or brown of engraved glass, whatever the skin's own shade."""
    shade = rng.uniform(28, 70) * np.array([1.06, 1.0, 0.97])
    skin = float(np.median(image_hwc[cover_hw > 0.5])) if (cover_hw > 0.5).any() else 255.0
    paint(image_hwc, cover_hw * np.float32(rng.uniform(0.85, 0.97)), np.minimum(shade, 0.5 * skin))
    return cover_hw
