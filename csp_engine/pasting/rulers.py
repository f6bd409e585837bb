"""Rulers as real dermoscopes show them, for photographs of people.

The simulator's own are paler and fall where they like. Probes that know real rulers told those
apart from nothing less well than other artefacts, so these follow what is seen in ISIC: a dark rod
below the lesion with ticks and MM, ticks on a part of a circle, or a white scale at a border.
"""

from __future__ import annotations

import math

import numpy as np

from csp_engine.pasting.artefacts import Picture, paint
from csp_engine.pasting.canvas import SIDE, Field, Frame, Number, Pen, Point, blurred

_M = ((0.0, 0.0), (0.0, -1.0), (0.22, -0.45), (0.44, -1.0), (0.44, 0.0))


def pasted_ruler(image_hwc: Picture, rng: np.random.Generator, frame: Frame) -> Field:
    """A rod mostly, as in ISIC, else ticks on a part of a circle or a white scale."""
    kind = rng.random()
    if kind < 0.88:
        return _rod(image_hwc, rng, frame)
    return (_ticks if kind < 0.96 else _scale)(image_hwc, rng, frame)


def _rod(image_hwc: Picture, rng: np.random.Generator, frame: Frame) -> Field:
    """Ten millimetres: a line with thin ticks, shorter ones between, and MM below its start."""
    turn = rng.normal(0, 0.12) if rng.random() < 0.8 else rng.choice([-1, 1]) * rng.uniform(0.3, 1)
    length = rng.uniform(0.42, 0.52) * frame.width
    c, s = math.cos(turn), math.sin(turn)
    # Far from the middle below it, sometimes above or beside.
    x, y = rng.uniform(0.34, 0.66), rng.uniform(0.8, 0.93)
    place = rng.random()
    if place > 0.8:
        x, y = (rng.uniform(0.3, 0.7), rng.uniform(0.06, 0.2)) if place < 0.88 else (y, x)
        x = 1 - x if rng.random() < 0.5 else x
    x0, y0 = x * frame.width - c * length / 2, y * frame.height - s * length / 2
    tall = rng.uniform(8, 11)

    def at(along: Number, up: Number) -> Point:
        return x0 + c * along + s * up, y0 + s * along - c * up

    pen = Pen(frame)
    pen.line([at(0, 0), at(length, 0)], rng.uniform(1.7, 2.3))
    thin = rng.uniform(1.2, 1.6)
    for i in range(21):
        high = tall * (1.3 if i in (0, 20) else 1.0 if i % 2 == 0 else 0.4)
        pen.line([at(length * i / 20, 0), at(length * i / 20, high)], thin)
    size = rng.uniform(8, 9.5)
    for letter in range(2):
        points = [at(size * (0.55 * letter + a), -3 - size - size * b) for a, b in _M]
        pen.line(points, thin)
    return _dark(image_hwc, rng, pen.cover(), frame)


def _ticks(image_hwc: Picture, rng: np.random.Generator, frame: Frame) -> Field:
    """Ticks on a part of a circle, towards its middle, which is that of the picture nearly."""
    radius = rng.uniform(0.5, 0.62) * SIDE
    x, y = frame.width / 2 + rng.normal(0, 8), frame.height / 2 + rng.normal(0, 8)
    first, reach = rng.uniform(0, math.tau), rng.uniform(1.2, 2.4)
    step = rng.uniform(12, 17) / radius
    short, long = rng.uniform(7, 11), rng.uniform(13, 19)
    long_every = int(rng.choice([2, 5]))
    width = rng.uniform(1.6, 2.4)
    pen = Pen(frame)
    for i in range(int(reach / step)):
        c, s = math.cos(first + i * step), math.sin(first + i * step)
        inner = radius - (long if i % long_every == 0 else short)
        pen.line([(x + c * radius, y + s * radius), (x + c * inner, y + s * inner)], width)
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
    """Paint in the dark brown of engraved glass, darker than whatever skin it lies on."""
    shade = rng.uniform(30, 62) * np.array([1.12, 1.0, 0.93])
    skin = float(np.median(image_hwc[cover_hw > 0.5])) if (cover_hw > 0.5).any() else 255.0
    paint(image_hwc, cover_hw * np.float32(rng.uniform(0.85, 0.97)), np.minimum(shade, 0.5 * skin))
    return cover_hw
