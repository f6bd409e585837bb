"""What lies on the skin or belongs to the camera: hair, ink, rulers, patches, gel, dark corners.

Each painter changes the picture in place and returns the share of every pixel that it covers. The
demo's simulator draws with them, so equal random numbers have to give equal pixels there for good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from csp_engine.pasting.canvas import (
    SIDE,
    SQUARE,
    Field,
    Frame,
    Pen,
    Point,
    blurred,
    cells,
    curve,
    noise,
    positions,
    smooth,
)

Picture = np.ndarray
"""Float32 (height, width, 3), 0 to 255."""

Touches = Callable[[Sequence[Point]], bool]
"""Whether points, in units, touch what is to stay free."""

_TRIES = 12
"""At a stroke that touches nothing, before it is left out."""

PATCH_RGB = {
    "blue": (18, 134, 214),
    "green": (104, 190, 172),
    "orange": (233, 118, 24),
    "yellow": (228, 206, 28),
    "red": (240, 92, 78),
    "purple": (176, 160, 228),
    "grey": (158, 152, 152),
}
INK_RGB = {"purple": (96, 48, 168), "blue": (62, 78, 176), "black": (34, 34, 44)}


def paint(image_hwc: Picture, cover_hw: Field, colour: object) -> None:
    """Lay a colour over the picture, in place."""
    image_hwc += cover_hw[:, :, None] * (np.asarray(colour, np.float32) - image_hwc)


def _free(draw: Callable[[], list[Point]], touches: Touches | None) -> list[Point] | None:
    """Points that touch nothing, or None if there is no place for them."""
    points = draw()
    for _ in range(_TRIES if touches is not None else 0):
        if touches is None or not touches(points):
            return points
        points = draw()
    return points if touches is None else None


def hair(
    image_hwc: Picture, rng: np.random.Generator, density: str, thickness: str, shade: str,
    frame: Frame = SQUARE, touches: Touches | None = None,
) -> Field:  # fmt: skip
    """Hairs across the picture, sparse or dense, thin or thick, dark or light."""
    n = int(rng.integers(3, 9)) if density == "sparse" else int(rng.integers(20, 56))
    is_stubble = rng.random() < 0.12 and density == "dense"
    low, high = (0.6, 1.35) if thickness == "thin" else (1.9, 3.3)
    main = rng.uniform(0, math.pi)
    spread = rng.uniform(0.15, 1.1)
    pen, shadow = Pen(frame), Pen(frame)

    def strand() -> list[Point]:
        angle = rng.normal(main, spread) + math.pi * int(rng.integers(2))
        length = rng.uniform(8, 18) if is_stubble else rng.uniform(0.35, 1.15) * SIDE
        x, y = rng.uniform(-0.1, 1.1, 2) * (frame.width, frame.height)
        dx, dy = math.cos(angle) * length, math.sin(angle) * length
        bow = rng.normal(0, 0.16) * length
        bend = (x + dx / 2 - dy / length * bow, y + dy / 2 + dx / length * bow)
        return curve((x, y), bend, (x + dx, y + dy), 6 if is_stubble else 16)

    for _ in range(n * (2 if is_stubble else 1)):
        points = _free(strand, touches)
        if points is None:
            continue
        width, strength = rng.uniform(low, high), rng.uniform(0.55, 1.0)
        pen.tapered(points, width, strength)
        if thickness == "thick":
            shadow.tapered([(px + 1.4, py + 1.4) for px, py in points], width * 1.2, 0.5)
    cover_hw = pen.cover()
    if shade == "dark":
        colour = [(44, 32, 28), (84, 54, 38), (26, 24, 26), (110, 70, 46)][int(rng.integers(4))]
        image_hwc *= 1 - 0.35 * shadow.cover()[:, :, None]
        paint(image_hwc, cover_hw * np.float32(rng.uniform(0.6, 0.97)), colour)
    else:
        colour = [(236, 228, 212), (222, 196, 146), (206, 204, 206)][int(rng.integers(3))]
        image_hwc *= (
            1 - 0.42 * np.maximum(shadow.cover(), 0.4 * blurred(cover_hw, 2.5, frame))[:, :, None]
        )
        paint(image_hwc, cover_hw * np.float32(0.9), colour)
    return cover_hw


def _letter(pen: Pen, kind: str, x: float, y: float, h: float, turn: float) -> None:
    """An m or M, drawn with lines, so that no font is needed."""
    if kind == "M":
        strokes = [(0, 0), (0, -1), (0.4, -0.35), (0.8, -1), (0.8, 0)]
    else:
        strokes = [(0, 0), (0, -0.7), (0.3, -0.7), (0.3, 0), (0.3, -0.7), (0.65, -0.7), (0.65, 0)]
    c, s = math.cos(turn), math.sin(turn)
    pen.line([(x + h * (a * c - b * s), y + h * (a * s + b * c)) for a, b in strokes], 0.9)


def ruler(image_hwc: Picture, rng: np.random.Generator, kind: str) -> Field:
    """A scale: a thin rod with ticks, ticks along a border, or a white strip in a corner."""
    draw = {"rod": _rod, "edge": _border_ticks}.get(kind, _strip)
    return draw(image_hwc, rng)


def _rod(image_hwc: Picture, rng: np.random.Generator) -> Field:
    pen = Pen()
    is_on = rng.random()
    turn = rng.normal(0, 0.32) + (math.pi / 2 if is_on < 0.12 else 0)
    length = rng.uniform(0.34, 0.52) * SIDE
    c, s = math.cos(turn), math.sin(turn)
    cx, cy = rng.uniform(0.35, 0.65) * SIDE, rng.uniform(0.72, 0.93) * SIDE
    if rng.random() < 0.25:
        cx, cy = rng.uniform(0.2, 0.8) * SIDE, rng.uniform(0.1, 0.9) * SIDE
    x0, y0 = cx - c * length / 2, cy - s * length / 2
    up = 1 if rng.random() < 0.8 else -1
    pen.line([(x0, y0), (x0 + c * length, y0 + s * length)], 1.1)
    n = int(rng.integers(10, 23))
    tall = rng.uniform(6, 10)
    for i in range(n + 1):
        h = tall if i in (0, n) or i % 5 == 0 else tall * 0.6
        px, py = x0 + c * length * i / n, y0 + s * length * i / n
        pen.line([(px, py), (px + up * s * h, py - up * c * h)], 0.9)
    kind_of_letter = "M" if rng.random() < 0.7 else "m"
    at = 0.01 if rng.random() < 0.7 else 0.86
    for i in range(2):
        lx = x0 + c * (length * at + 8 * i) - s * 11
        ly = y0 + s * (length * at + 8 * i) + c * 11
        _letter(pen, kind_of_letter, lx, ly, 6.5, turn)
    cover_hw = pen.cover()
    shade = rng.uniform(35, 105)
    paint(image_hwc, cover_hw * np.float32(rng.uniform(0.68, 0.95)), [shade] * 3)
    return cover_hw


def _border_ticks(image_hwc: Picture, rng: np.random.Generator) -> Field:
    pen = Pen()
    side = int(rng.integers(4))
    bow = rng.uniform(-0.12, 0.12) * SIDE
    inset = rng.uniform(0.01, 0.16) * SIDE
    gap, tall = rng.uniform(9, 23), rng.uniform(7, 14)
    tilt = rng.normal(0, 0.28)
    first, width = rng.uniform(0, gap), rng.uniform(1.3, 2.6)
    start, stop = sorted(rng.uniform(0, 1, 2) * SIDE)
    if stop - start < 0.4 * SIDE:
        start, stop = 0.0, float(SIDE)
    along, i = start + first, 0
    long_every = int(rng.choice([2, 5, 10]))
    while along < stop:
        t = along / SIDE - 0.5
        across = inset + bow * (1 - 4 * t * t) + tilt * (along - SIDE / 2) * 0.5
        h = tall * (1.6 if i % long_every == 0 else 1.0)
        a, b = (across, along), (across + h, along + h * tilt)
        for _ in range(side):  # turn by quarter turns
            a, b = (SIDE - a[1], a[0]), (SIDE - b[1], b[0])
        pen.line([a, b], width)
        along, i = along + gap, i + 1
    cover_hw = pen.cover()
    shade = rng.uniform(10, 45)
    paint(image_hwc, cover_hw * np.float32(rng.uniform(0.85, 0.98)), [shade] * 3)
    return cover_hw


def _strip(image_hwc: Picture, rng: np.random.Generator) -> Field:
    pen = Pen()
    turn = rng.choice([0.0, math.pi / 2, math.pi / 4, -math.pi / 4]) + rng.normal(0, 0.12)
    c, s = math.cos(turn), math.sin(turn)
    cx, cy = [(0.5, 0.93), (0.93, 0.5), (0.88, 0.88), (0.12, 0.88)][int(rng.integers(4))]
    cx, cy = cx * SIDE, cy * SIDE
    body = Pen()
    half = rng.uniform(17, 30)
    reach = SIDE
    corners = [(-reach, -half), (reach, -half), (reach, half), (-reach, half)]
    body.polygon([(cx + a * c - b * s, cy + a * s + b * c) for a, b in corners])
    gap = rng.uniform(8, 15)
    for i in range(-int(reach / gap), int(reach / gap) + 1):
        h = half * (0.9 if i % 5 == 0 else 0.5)
        a, b = i * gap, -half
        pen.line(
            [(cx + a * c - b * s, cy + a * s + b * c),
             (cx + a * c - (b + h) * s, cy + a * s + (b + h) * c)],
            rng.uniform(1.4, 2.4),
        )  # fmt: skip
    body_hw = body.cover()
    paint(image_hwc, body_hw * 0.95, np.array([226, 230, 226]) * rng.uniform(0.85, 1.05))
    paint(image_hwc, pen.cover() * body_hw * 0.95, (24, 26, 34))
    return body_hw


def colour_patch(
    image_hwc: Picture, rng: np.random.Generator, colours: str, frame: Frame = SQUARE
) -> Field:
    """Round patches of coloured fabric that reach in from the border."""
    x_hw, y_hw = positions(frame)
    total_hw = np.zeros_like(x_hw)
    first_side = int(rng.integers(4))
    for i, part in enumerate(colours.split("+")):
        outer, _, inner = part.partition("/")
        side = (first_side + 2 * i) % 4
        out, along = rng.uniform(-0.10, 0.07), rng.uniform(0.2, 0.8)
        centre = [(1 + out, along), (along, 1 + out), (-out, along), (along, -out)][side]
        cx, cy = centre[0] * frame.width, centre[1] * frame.height
        rx, ry = rng.uniform(0.19, 0.30) * SIDE, 0.0
        ry = rx * rng.uniform(1.0, 1.35)
        dx_hw, dy_hw = x_hw - np.float32(cx), y_hw - np.float32(cy)
        far_hw = np.sqrt((dx_hw / np.float32(rx)) ** 2 + (dy_hw / np.float32(ry)) ** 2)
        cover_hw = 1 - smooth(far_hw, 0.985, 1.015)
        weave_hw = 1 + 0.055 * noise(rng, 100, 2, frame) + 0.05 * noise(rng, 5, 2, frame)
        light = rng.uniform(0.82, 1.08)

        def fabric(colour: str, light: float = light, weave_hw: Field = weave_hw) -> np.ndarray:
            rgb = np.array(PATCH_RGB[colour], np.float32) * np.float32(light)
            return rgb * weave_hw[:, :, None]

        shadow_hw = (1 - smooth(far_hw, 1.0, 1.12)) * (1 - cover_hw)
        image_hwc *= 1 - 0.28 * shadow_hw[:, :, None]
        paint(image_hwc, cover_hw, fabric(outer))
        if inner:
            ring = rng.uniform(0.42, 0.68)
            paint(image_hwc, 1 - smooth(far_hw, ring - 0.02, ring + 0.02), fabric(inner))
        total_hw = np.maximum(total_hw, cover_hw)
    return total_hw


def ink(image_hwc: Picture, rng: np.random.Generator, colour: str, frame: Frame = SQUARE) -> Field:
    """Pen marks: scribbles around the lesion, stars, an arrow, speckle or a ring.

    Ink catches on the relief of the skin, so that marks break up into hatching.
    """
    pen = Pen(frame)
    middle_x, middle_y = frame.width / 2, frame.height / 2
    kind = rng.choice(5, p=(0.48, 0.10, 0.10, 0.14, 0.18))
    edge = int(rng.integers(4))
    near, along = rng.uniform(0.02, 0.26), rng.uniform(0.1, 0.9)
    cx, cy = [(near, along), (1 - near, along), (along, near), (along, 1 - near)][edge]
    cx, cy = cx * frame.width, cy * frame.height
    if kind == 0:  # one to six scribbles, on a circle around the middle where there are several
        n = int(rng.choice([1, 2, 3, 4, 5, 6], p=(0.3, 0.25, 0.12, 0.15, 0.08, 0.10)))
        reach, turn = rng.uniform(0.30, 0.48) * SIDE, rng.uniform(0, math.tau)
        size = rng.uniform(7, 26)
        for i in range(n):
            if n > 1:
                angle = turn + math.tau * (i + rng.uniform(-0.2, 0.2)) / n
                cx, cy = middle_x + reach * math.cos(angle), middle_y + reach * math.sin(angle)
            _scribble(pen, rng, cx, cy, size * rng.uniform(0.7, 1.4))
    elif kind == 1:
        for _ in range(int(rng.integers(5, 11))):
            a, length = rng.uniform(0, math.tau), rng.uniform(14, 44)
            tip = (cx + length * math.cos(a), cy + length * math.sin(a))
            pen.line([(cx, cy), tip], rng.uniform(1.4, 3.2))
    elif kind == 2:  # an arrow towards the middle
        a = math.atan2(middle_y - cy, middle_x - cx) + rng.normal(0, 0.2)
        length, width = rng.uniform(30, 62), rng.uniform(2.5, 6)
        tip = (cx + length * math.cos(a), cy + length * math.sin(a))
        pen.line([(cx, cy), tip], width)
        for turn in (2.5, -2.5):
            back = (tip[0] + 0.45 * length * math.cos(a + turn),
                    tip[1] + 0.45 * length * math.sin(a + turn))  # fmt: skip
            pen.line([tip, back], width)
    elif kind == 3:
        wide, high = rng.uniform(8, 30, 2)
        for _ in range(int(rng.integers(60, 190))):
            x, y = cx + rng.normal(0, wide), cy + rng.normal(0, high)
            r = rng.uniform(0.7, 2.2)
            pen.blob(x, y, r, r * rng.uniform(0.6, 1.6))
    else:
        r = rng.uniform(0.20, 0.50) * SIDE
        start = rng.uniform(0, 360)
        pen.ring(
            middle_x + rng.normal(0, 12), middle_y + rng.normal(0, 12),
            r, r * rng.uniform(0.9, 1.4),
            rng.uniform(2, 14), start, start + rng.uniform(60, 360),
        )  # fmt: skip
    grain_hw = smooth(noise(rng, rng.uniform(50, 100), 2, frame), -0.6, rng.uniform(0.0, 0.7))
    first_hw, second_hw = cells(rng, rng.uniform(4.5, 8), 1.0, 0.4, frame)
    lines_hw = 1 - smooth(second_hw - first_hw, 0.0, 0.42)
    hatch = np.float32(rng.uniform(0.0, 0.9))
    relief_hw = grain_hw * (1 - hatch + hatch * lines_hw)
    faint = rng.uniform(0.35, 0.95)
    cover_hw = pen.cover() * relief_hw * np.float32(faint)
    halo_hw = np.float32(rng.uniform(0.08, 0.3) * faint) * blurred(
        pen.cover(), rng.uniform(4, 9), frame
    )
    shade = np.array(INK_RGB[colour], np.float32) * np.float32(rng.uniform(0.8, 1.3))
    paint(image_hwc, halo_hw, shade)
    paint(image_hwc, cover_hw, shade)
    return np.maximum(cover_hw, halo_hw)


def _scribble(pen: Pen, rng: np.random.Generator, x: float, y: float, size: float) -> None:
    """A zigzag, long in one direction."""
    a = rng.uniform(0, math.tau)
    long, wide = size * rng.uniform(0.8, 2.0), size * rng.uniform(0.25, 0.8)
    n = int(rng.integers(5, 15))
    points = []
    for i in range(n):
        u = long * (2 * i / (n - 1) - 1) + rng.normal(0, 1.5)
        v = wide * (1 if i % 2 else -1) * rng.uniform(0.5, 1.1)
        points.append(
            (x + u * math.cos(a) - v * math.sin(a), y + u * math.sin(a) + v * math.cos(a))
        )
    pen.line(points, rng.uniform(1.2, 4.2))


def gel_border(image_hwc: Picture, rng: np.random.Generator) -> Field:
    """The edge of gel or glass: a long curved double line, wet shine outside of it."""
    x_hw, y_hw = positions()
    cx, cy = SIDE / 2 + rng.normal(0, 0.08 * SIDE, 2)
    r = rng.uniform(0.26, 0.54) * SIDE
    squash = rng.uniform(0.9, 1.45)
    far_hw = np.sqrt(
        (x_hw - np.float32(cx)) ** 2 + ((y_hw - np.float32(cy)) / np.float32(squash)) ** 2
    )
    bent_hw = far_hw / np.float32(r) + np.float32(rng.uniform(0.01, 0.08)) * noise(rng, 4, 2)
    width = np.float32(rng.uniform(0.008, 0.028))
    fades_hw = 0.25 + 0.75 * smooth(noise(rng, 3, 1), -0.5, 0.5)
    bright_hw = (1 - smooth(np.abs(bent_hw - 1), width * 0.3, width)) * fades_hw
    dark_hw = (1 - smooth(np.abs(bent_hw - 1 - 1.8 * width), width * 0.3, width)) * fades_hw
    outside_hw = smooth(bent_hw, 1.0, 1.02)
    image_hwc *= 1 + (np.float32(rng.uniform(-0.12, 0.10)) * outside_hw)[:, :, None]
    shine_hw = outside_hw * smooth(noise(rng, 60, 2), 0.45, 1.0) * np.float32(rng.uniform(0.1, 0.6))
    paint(image_hwc, shine_hw, (250, 248, 246))
    paint(image_hwc, dark_hw * np.float32(rng.uniform(0.12, 0.45)), (70, 52, 48))
    paint(image_hwc, bright_hw * np.float32(rng.uniform(0.3, 0.8)), (248, 244, 240))
    return np.maximum(bright_hw, dark_hw)


def gel_bubbles(
    image_hwc: Picture,
    rng: np.random.Generator,
    frame: Frame = SQUARE,
    touches: Touches | None = None,
) -> Field:
    """Air in the gel: small circles with a dark rim and a bright spot, and flecks of glare."""
    rim, glint, whole = Pen(frame), Pen(frame), Pen(frame)
    n = int(rng.integers(5, 26))
    is_crowd = rng.random() < 0.5
    hx, hy = rng.uniform(0.1, 0.9, 2) * (frame.width, frame.height)

    def fleck() -> list[Point]:
        x, y = rng.uniform(0, 1, 2) * (frame.width, frame.height)
        return [(x, y)]

    def centre() -> list[Point]:
        spot = fleck()
        if is_crowd and rng.random() < 0.7:
            return [(hx + rng.normal(0, 28), hy + rng.normal(0, 28))]
        return spot

    for _ in range(n):
        found = _free(centre, touches)
        if found is None:
            continue
        x, y = found[0]
        r = float(np.clip(rng.gamma(2.2, 1.7), 1.8, 11))
        rim.ring(x, y, r, r, max(0.8, r * 0.22), 0, 360, rng.uniform(0.6, 1.0))
        a = rng.uniform(0, 360)
        glint.ring(x, y, r * 0.72, r * 0.72, max(0.8, r * 0.25), a, a + rng.uniform(50, 110))
        whole.blob(x, y, r, r)
    for _ in range(int(rng.integers(0, 8))):
        found = _free(fleck, touches)
        if found is None:
            continue
        x, y = found[0]
        a = rng.uniform(0, math.tau)
        glint.line([(x, y), (x + 5 * math.cos(a), y + 5 * math.sin(a))], rng.uniform(0.9, 2.2))
    inside_hw = whole.cover()
    image_hwc *= 1 + np.float32(0.08) * inside_hw[:, :, None]
    paint(image_hwc, rim.cover() * np.float32(0.42), (64, 50, 50))
    paint(image_hwc, glint.cover() * np.float32(0.92), (252, 250, 250))
    return np.maximum(np.maximum(rim.cover(), glint.cover()), inside_hw)


def dark_corners(
    image_hwc: Picture, rng: np.random.Generator, frame: Frame = SQUARE, falls_from: float = 0.6
) -> Field:
    """The opening of the instrument: black outside a circle or oval, or a tilted black frame."""
    x_hw, y_hw = positions(frame)
    cx, cy = np.array([frame.width, frame.height]) / 2 + rng.normal(0, 0.02 * SIDE, 2)
    dx_hw, dy_hw = x_hw - np.float32(cx), y_hw - np.float32(cy)
    if rng.random() < 0.08:
        tilt = rng.choice([-1, 1]) * rng.uniform(0.02, 0.10)
        half = SIDE * rng.uniform(0.47, 0.495)
        half_x, half_y = half * frame.width / SIDE, half * frame.height / SIDE
        far_hw = np.maximum(
            np.abs(dx_hw + np.float32(tilt) * dy_hw) / np.float32(half_x),
            np.abs(dy_hw - np.float32(tilt) * dx_hw) / np.float32(half_y),
        )
        soft = 0.012
    else:
        # Photographs of 4:3 pressed into a square show a circle as an upright oval.
        rx, ry = rng.uniform(0.46, 0.64), 0.0
        ry = rx * rng.uniform(0.95, 1.36)
        corner = math.sqrt((0.5 / rx) ** 2 + (0.5 / ry) ** 2)
        if corner < 1.03:
            rx, ry = rx * corner / 1.03, ry * corner / 1.03
        far_hw = np.sqrt(
            (dx_hw / np.float32(rx * frame.width)) ** 2
            + (dy_hw / np.float32(ry * frame.height)) ** 2
        )
        soft = rng.choice([rng.uniform(0.005, 0.03), rng.uniform(0.03, 0.14)])
    cover_hw = smooth(far_hw, 1.0, 1.0 + soft)
    image_hwc *= (
        1 - np.float32(rng.uniform(0.0, 0.35)) * smooth(far_hw, falls_from, 1.0)[:, :, None]
    )
    black = np.array([16, 20, 25], np.float32) * np.float32(rng.uniform(0.2, 2.6))
    grain_hw = np.clip(
        0.9 + 0.7 * noise(rng, 70, 2, frame) * np.float32(rng.uniform(0, 1)), 0, None
    )
    paint(image_hwc, cover_hw, black * grain_hw[:, :, None])
    return cover_hw
