"""Skin and the lesion in it: pigment and blood as densities that light passes through.

Melanin and haemoglobin take their share of red, green and blue (``MELANIN``, ``BLOOD``); what is
opaque (a veil, a scar, a cyst) is laid over. Each structure has a random stream of its own, so that
switching one on changes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from csp_engine.pasting.canvas import (
    SIDE,
    Field,
    Pen,
    blurred,
    cells,
    curve,
    fade,
    noise,
    positions,
    smooth,
)

Stream = Callable[[str], np.random.Generator]
"""The random stream of one named part of a photograph."""

MELANIN = np.array([0.55, 1.05, 1.55], np.float32)
BLOOD = np.array([0.12, 0.95, 0.78], np.float32)
VISIBLE = 0.12
"""A structure's mask holds the pixels that it covers by at least this share."""

SKIN_TONES = {
    1: (240, 214, 202),
    2: (233, 196, 172),
    3: (222, 176, 146),
    4: (190, 142, 108),
    5: (158, 112, 82),
    6: (118, 82, 62),
}


@dataclass
class Scene:
    """A photograph in the making: light densities, layers laid over, and masks so far."""

    case: Mapping[str, Any]
    stream: Stream
    melanin_hw: Field = field(default_factory=lambda: np.zeros((SIDE, SIDE), np.float32))
    blood_hw: Field = field(default_factory=lambda: np.zeros((SIDE, SIDE), np.float32))
    over: list[tuple[Field, np.ndarray]] = field(default_factory=list)
    masks: dict[str, np.ndarray] = field(default_factory=dict)

    def lay(self, cover_hw: Field, colour: Any) -> None:
        """Lay a colour (one, or one per pixel) over what is there."""
        self.over.append((cover_hw, np.asarray(colour, np.float32)))

    def mark(self, name: str, cover_hw: Field) -> None:
        """Record where a structure is seen."""
        self.masks[name] = cover_hw >= VISIBLE


@dataclass
class Outline:
    """Where the lesion is: centre, depth from -1 (far outside) over 0 (border) to 1 (centre)."""

    x: float
    y: float
    radius: float
    depth_hw: Field
    cover_hw: Field
    angle_hw: Field
    radius_at: Callable[[float], float]


def skin(scene: Scene) -> np.ndarray:
    """The skin's own colour at every pixel, 0 to 255: tone, mottling, lines, freckles, redness."""
    case, rng = scene.case, scene.stream("skin")
    base = np.array(SKIN_TONES[int(case["skin_tone"])], np.float32)
    base = base * rng.uniform(0.94, 1.06) + rng.normal(0, 3, 3)
    mottle_hw = noise(rng, rng.uniform(3, 6), 3)
    fine_hw = noise(rng, rng.uniform(40, 90), 2)
    scene.melanin_hw += np.clip(0.035 + 0.035 * mottle_hw + 0.018 * fine_hw, 0, None)
    flush_hw = noise(rng, rng.uniform(4, 9), 3)
    scene.blood_hw += np.clip(0.05 + rng.uniform(0.02, 0.09) * flush_hw, 0, None)
    if rng.random() < 0.35:  # the fine criss-cross of skin lines
        first_hw, second_hw = cells(rng, rng.uniform(6, 13), 1.0, 0.5)
        lines_hw = 1 - smooth(second_hw - first_hw, 0.02, 0.2)
        scene.melanin_hw += rng.uniform(-0.05, 0.06) * lines_hw
    if rng.random() < 0.3:  # freckles
        spots_hw = smooth(noise(rng, rng.uniform(14, 34), 3), 0.35, 1.2)
        scene.melanin_hw += rng.uniform(0.10, 0.42) * spots_hw
    if rng.random() < 0.25:  # small veins of the skin around
        pen = Pen()
        for _ in range(int(rng.integers(6, 26))):
            x, y = rng.uniform(0, SIDE, 2)
            _wander(pen, rng, x, y, rng.uniform(8, 30), rng.uniform(0.6, 1.3), 0.6)
        scene.blood_hw += rng.uniform(0.15, 0.35) * pen.cover()
    if case["red_skin"]:
        rng = scene.stream("red_skin")
        x_hw, y_hw = positions()
        cx, cy = rng.uniform(0.25, 0.75, 2) * SIDE
        reach = rng.uniform(0.55, 1.0) * SIDE
        far_hw = np.sqrt((x_hw - np.float32(cx)) ** 2 + (y_hw - np.float32(cy)) ** 2)
        cover_hw = 1 - smooth(far_hw / np.float32(reach) + 0.18 * noise(rng, 5, 3), 0.55, 1.05)
        cover_hw = cover_hw * (0.72 + 0.28 * smooth(noise(rng, 9, 3), -0.6, 0.6))
        scene.blood_hw += rng.uniform(0.42, 0.75) * cover_hw
        scene.mark("red_skin", cover_hw * 0.5)
    return base.astype(np.float32)


def _wander(
    pen: Pen, rng: np.random.Generator, x: float, y: float, length: float, width: float, turn: float
) -> None:
    """A line that changes direction as it goes."""
    angle = rng.uniform(0, math.tau)
    points = [(x, y)]
    for _ in range(max(2, int(length / 4))):
        angle += rng.normal(0, turn)
        x, y = x + 4 * math.cos(angle), y + 4 * math.sin(angle)
        points.append((x, y))
    pen.line(points, width)


def outline(scene: Scene) -> Outline:
    """The lesion's shape, from size, asymmetry and border irregularity."""
    case, rng = scene.case, scene.stream("shape")
    # Squared, so that low grades are hardly seen: in life too, few lesions are quite regular.
    asymmetry, ragged = float(case["asymmetry"]) ** 2, float(case["irregularity"]) ** 2
    radius = float(case["size"]) * SIDE / 2
    room = max(4.0, SIDE / 2 - radius * 0.8)
    x, y = SIDE / 2 + rng.normal(0, 0.22, 2).clip(-0.6, 0.6) * room
    long = 1 + rng.uniform(0.0, 0.45)
    tilt = rng.uniform(0, math.pi)
    waves = []
    for k in range(2, 12):
        # Odd waves make the halves differ; high ones make notches.
        odd = asymmetry * (0.44 if k in (3, 5) else 0.06)
        even = 0.02 + (0.24 * ragged if k >= 4 else 0.03 * ragged)
        size = (odd if k % 2 else even) * rng.uniform(0.5, 1.1) * (2.6 / (k + 0.6))
        waves.append((k, size, rng.uniform(0, math.tau)))
    waves.append((1, 0.34 * asymmetry, rng.uniform(0, math.tau)))

    def radius_at(angle: Any) -> Any:
        turned = angle - tilt
        squash = 1 / np.sqrt((np.cos(turned) ** 2) / long + (np.sin(turned) ** 2) * long)
        wave = sum(size * np.cos(k * angle + phase) for k, size, phase in waves)
        return radius * squash * (1 + wave)

    x_hw, y_hw = positions()
    dx_hw, dy_hw = x_hw.astype(np.float64) - x, y_hw.astype(np.float64) - y
    angle_hw = np.arctan2(dy_hw, dx_hw)
    far_hw = np.sqrt(dx_hw**2 + dy_hw**2)
    depth_hw = (1 - far_hw / radius_at(angle_hw)).astype(np.float32)
    frayed = 0.04 + 0.26 * ragged
    depth_hw = depth_hw + np.float32(frayed) * noise(rng, rng.uniform(9, 16), 3)
    softness = rng.uniform(0.05, 0.30) * (0.5 if case["diagnosis"] != "naevus" else 1.0)
    softness = softness * (1 - 0.6 * ragged)  # a faded border shows no notches
    cover_hw = smooth(depth_hw, -softness, softness)
    return Outline(x, y, radius, depth_hw, cover_hw, angle_hw.astype(np.float32), radius_at)


def lesion(scene: Scene) -> Outline:
    """The lesion with all structures that the case asks for."""
    case = scene.case
    shape = outline(scene)
    scene.masks["lesion"] = shape.cover_hw >= 0.5
    _body(scene, shape)
    if case["typical_network"]:
        _network(scene, shape, is_typical=True)
    if case["atypical_network"]:
        _network(scene, shape, is_typical=False)
    if case["globules"]:
        _spots(scene, shape, "globules", (26, 60), (2.5, 4.4), 1.15)
    if case["dots"]:
        _spots(scene, shape, "dots", (55, 110), (1.15, 1.7), 2.0)
    if case["streaks"]:
        _streaks(scene, shape)
    if case["regression"]:
        _regression(scene, shape)
    if case["blue_white_veil"]:
        _veil(scene, shape)
    if case["vessels"]:
        _vessels(scene, shape)
    if case["milia_cysts"]:
        _cysts(scene, shape)
    return shape


def _body(scene: Scene, shape: Outline) -> None:
    """Pigment of the lesion as a whole, in as many colours as the case has."""
    case, rng = scene.case, scene.stream("body")
    is_keratosis = case["diagnosis"] == "seborrhoeic keratosis"
    asymmetry = float(case["asymmetry"]) ** 2
    depth = float(case["pigment"])
    blotch_hw = noise(rng, rng.uniform(4, 8), 3)
    side_angle = rng.uniform(0, math.tau)
    x_hw, y_hw = positions()
    along_hw = (
        (x_hw - np.float32(shape.x)) * np.float32(math.cos(side_angle))
        + (y_hw - np.float32(shape.y)) * np.float32(math.sin(side_angle))
    ) / np.float32(max(8.0, shape.radius))
    middle_hw = smooth(shape.depth_hw, 0.0, 0.8)
    pigment_hw = 0.62 + 0.30 * middle_hw * rng.uniform(-0.4, 1.0) + 0.20 * blotch_hw
    pigment_hw = pigment_hw * (1 + np.float32(1.9 * asymmetry) * np.clip(along_hw, -0.9, 0.9))
    pigment_hw = np.clip(pigment_hw, 0.12, None) * np.float32(depth)
    grain_hw = noise(rng, rng.uniform(22, 60), 3)
    pigment_hw = pigment_hw * (1 + np.float32(rng.uniform(0.15, 0.34)) * grain_hw)
    scene.melanin_hw += shape.cover_hw * pigment_hw
    scene.blood_hw += shape.cover_hw * np.float32(rng.uniform(0.0, 0.28))
    if is_keratosis:  # dull, waxy, with furrows
        first_hw, second_hw = cells(rng, rng.uniform(8, 15), 1.2, 0.9)
        furrow_hw = 1 - smooth(second_hw - first_hw + 0.10 * grain_hw, 0.0, 0.30)
        furrow_hw = furrow_hw * smooth(noise(rng, 6, 2), -0.5, 0.5)
        scene.melanin_hw += np.float32(rng.uniform(0.15, 0.4)) * furrow_hw * shape.cover_hw
        scene.lay(shape.cover_hw * np.float32(rng.uniform(0.10, 0.26)), (168, 148, 122))
    colours = ["dark", "light", "black", "red", "blue", "white"]
    order = rng.permutation(len(colours))
    for i in range(int(case["n_colours"]) - 1):
        colour = colours[order[i]]
        patchy_hw = noise(rng, rng.uniform(3, 5), 4) + 0.25 * grain_hw
        region_hw = smooth(patchy_hw, -0.05, rng.uniform(0.45, 0.9)) * shape.cover_hw
        if colour == "dark":
            scene.melanin_hw += 0.65 * region_hw
        elif colour == "light":
            scene.melanin_hw -= 0.62 * region_hw * np.minimum(scene.melanin_hw, 1)
        elif colour == "black":
            scene.melanin_hw += 1.6 * region_hw
        elif colour == "red":
            scene.blood_hw += 0.75 * region_hw
        elif colour == "blue":
            scene.lay(0.5 * region_hw, (104, 110, 130))
        else:
            scene.lay(0.45 * region_hw, (222, 204, 192))
    scene.melanin_hw = np.clip(scene.melanin_hw, 0, None)


def _network(scene: Scene, shape: Outline, *, is_typical: bool) -> None:
    """A mesh of brown lines: even and fading outwards, or wide, dark, broken and uneven."""
    name = "typical_network" if is_typical else "atypical_network"
    rng = scene.stream(name)
    if is_typical:
        first_hw, second_hw = cells(rng, rng.uniform(5.2, 7.0), 0.55, 0.45)
        lines_hw = 1 - smooth(second_hw - first_hw, 0.02, 0.46)
        where_hw = smooth(shape.depth_hw, -0.10, 0.22)
        where_hw = where_hw * (1 - 0.5 * smooth(shape.depth_hw, 0.4, 0.9))
        where_hw = where_hw * (0.75 + 0.25 * smooth(noise(rng, 6, 2), -0.5, 0.5))
        strength = rng.uniform(0.8, 1.25)
    else:
        first_hw, second_hw = cells(rng, rng.uniform(9.5, 14.5), 1.3, 0.9)
        width_hw = 0.24 + 0.16 * noise(rng, 8, 3)
        lines_hw = 1 - smooth((second_hw - first_hw) / np.maximum(width_hw, 0.05), 0.1, 1.5)
        patchy_hw = smooth(noise(rng, 4, 2), -0.35, 0.15)
        where_hw = smooth(shape.depth_hw, -0.04, 0.05) * patchy_hw
        strength = rng.uniform(1.3, 2.0)
    cover_hw = lines_hw * where_hw
    scene.melanin_hw *= 1 - 0.42 * where_hw * (1 - lines_hw)
    scene.melanin_hw += (
        np.float32(strength) * cover_hw * np.float32(0.35 + 0.45 * float(scene.case["pigment"]))
    )
    scene.mark(name, where_hw)


def _inside(rng: np.random.Generator, shape: Outline, reach: float = 0.9) -> tuple[float, float]:
    """A place inside the lesion, spread evenly over it."""
    angle = rng.uniform(0, math.tau)
    r = float(shape.radius_at(angle)) * reach * math.sqrt(rng.random())
    return shape.x + r * math.cos(angle), shape.y + r * math.sin(angle)


def _spots(
    scene: Scene, shape: Outline, name: str,
    count: tuple[int, int], size: tuple[float, float], strength: float,
) -> None:  # fmt: skip
    """Round brown spots, in a cluster or all over the lesion."""
    rng = scene.stream(name)
    scale = (0.55 + 0.9 * shape.radius / 64) ** 0.5
    pen = Pen()
    n = int(rng.integers(*count) * min(1.5, max(0.45, (shape.radius / 50) ** 1.4)))
    is_cluster = rng.random() < 0.35
    for _ in range(n):
        x, y = _inside(rng, shape, 0.6 if is_cluster else 0.95)
        r = rng.uniform(*size) * scale
        pen.blob(x, y, r, r * rng.uniform(0.8, 1.2), rng.uniform(0.75, 1.0))
    cover_hw = pen.cover()
    scene.melanin_hw += np.float32(strength) * cover_hw
    scene.mark(name, cover_hw)


def _streaks(scene: Scene, shape: Outline) -> None:
    """Dark fingers that run outwards across the border, thicker at their ends."""
    rng = scene.stream("streaks")
    pen = Pen()
    start, reach = rng.uniform(0, math.tau), rng.uniform(2.6, math.tau)
    n = int(rng.integers(16, 40))
    for i in range(n):
        angle = start + reach * (i + rng.uniform(-1.2, 1.2)) / n
        border = float(shape.radius_at(angle))
        r0 = border * rng.uniform(0.55, 0.9)
        r1 = border + rng.uniform(1, 11) + 0.06 * shape.radius
        end = angle + rng.normal(0, 0.05)
        a = (shape.x + r0 * math.cos(angle), shape.y + r0 * math.sin(angle))
        b = (shape.x + r1 * math.cos(end), shape.y + r1 * math.sin(end))
        width = rng.uniform(1.3, 2.6)
        pen.line([a, b], width)
        if rng.random() < 0.6:
            pen.blob(*b, width * rng.uniform(0.8, 1.3), width * rng.uniform(0.8, 1.3))
    cover_hw = blurred(pen.cover(), 1.3)
    scene.melanin_hw += np.float32(rng.uniform(1.2, 1.8)) * cover_hw
    scene.mark("streaks", cover_hw)


def _region(rng: np.random.Generator, shape: Outline, share: tuple[float, float]) -> Field:
    """A soft-edged part of the lesion."""
    angle, r = rng.uniform(0, math.tau), shape.radius * rng.uniform(0.0, 0.35)
    cx, cy = shape.x + r * math.cos(angle), shape.y + r * math.sin(angle)
    x_hw, y_hw = positions()
    reach = shape.radius * rng.uniform(*share)
    far_hw = np.sqrt((x_hw - np.float32(cx)) ** 2 + (y_hw - np.float32(cy)) ** 2)
    inside_hw = 1 - smooth(far_hw / np.float32(reach) + 0.30 * noise(rng, 7, 4), 0.6, 1.2)
    return inside_hw * smooth(shape.depth_hw, -0.02, 0.12)


def _veil(scene: Scene, shape: Outline) -> None:
    """A milky blue haze over part of the lesion."""
    rng = scene.stream("blue_white_veil")
    region_hw = _region(rng, shape, (0.55, 0.95))
    shade = np.array([104, 118, 150], np.float32) + rng.normal(0, 9, 3).astype(np.float32)
    haze_hw = 0.62 + 0.26 * noise(rng, 9, 4)
    cover_hw = np.clip(region_hw * haze_hw, 0, 0.92)
    scene.lay(cover_hw, shade)
    white_hw = region_hw * smooth(noise(rng, 14, 2), 0.2, 0.8)
    scene.lay(0.35 * white_hw, (196, 202, 216))
    scene.mark("blue_white_veil", cover_hw)


def _regression(scene: Scene, shape: Outline) -> None:
    """Scar-like white with fine grey pepper."""
    rng = scene.stream("regression")
    region_hw = _region(rng, shape, (0.50, 0.85))
    scene.melanin_hw *= 1 - 0.85 * region_hw
    scar_hw = region_hw * (0.8 + 0.2 * smooth(noise(rng, 12, 3), -0.6, 0.6))
    scene.lay(scar_hw * np.float32(rng.uniform(0.5, 0.75)), (230, 212, 204))
    pen = Pen()
    for _ in range(int(rng.integers(40, 110))):
        x, y = _inside(rng, shape, 0.9)
        pen.blob(x, y, 0.8, 0.8)
    scene.lay(pen.cover() * region_hw * 0.75, (104, 104, 116))
    scene.mark("regression", region_hw)


def _vessels(scene: Scene, shape: Outline) -> None:
    """Red vessels in the lesion: winding lines, or dots and commas."""
    rng = scene.stream("vessels")
    pen = Pen()
    is_line = rng.random() < 0.65
    n = int(rng.integers(15, 28) if is_line else rng.integers(42, 75))
    for _ in range(n):
        x, y = _inside(rng, shape, 0.95)
        if is_line:
            _wander(pen, rng, x, y, rng.uniform(16, 40), rng.uniform(1.5, 2.6), 0.65)
        elif rng.random() < 0.5:
            pen.blob(x, y, rng.uniform(1.6, 2.6), rng.uniform(1.6, 2.6))
        else:
            a = rng.uniform(0, math.tau)
            tip = (x + 7 * math.cos(a), y + 7 * math.sin(a))
            pen.tapered(
                curve((x, y), (x + 4 * math.cos(a + 1), y + 4 * math.sin(a + 1)), tip, 5), 2.4
            )
    cover_hw = pen.cover()
    scene.blood_hw += np.float32(1.2) * cover_hw
    scene.lay(cover_hw * np.float32(rng.uniform(0.7, 0.92)), (194, 38, 50))
    scene.mark("vessels", cover_hw)


def _cysts(scene: Scene, shape: Outline) -> None:
    """Milia-like cysts: small bright round spots; and some dark plugs between them."""
    rng = scene.stream("milia_cysts")
    bright, dark = Pen(), Pen()
    for _ in range(int(rng.integers(9, 22))):
        x, y = _inside(rng, shape, 0.9)
        r = rng.uniform(1.6, 3.4)
        bright.blob(x, y, r, r)
    for _ in range(int(rng.integers(2, 9))):
        x, y = _inside(rng, shape, 0.9)
        r = rng.uniform(1.8, 3.2)
        dark.blob(x, y, r, r * rng.uniform(0.7, 1.2))
    scene.melanin_hw += np.float32(1.4) * dark.cover()
    cover_hw = blurred(bright.cover(), 1.6)
    scene.lay(np.clip(cover_hw * 1.25, 0, 0.85), (238, 222, 196))
    scene.mark("milia_cysts", np.maximum(cover_hw, dark.cover()))


def through_pigment(scene: Scene, base: np.ndarray) -> np.ndarray:
    """Skin seen through its pigment and blood, then all that lies over it."""
    density_hwc = scene.melanin_hw[:, :, None] * MELANIN + scene.blood_hw[:, :, None] * BLOOD
    image_hwc = base * fade(np.clip(density_hwc, 0, None))
    for cover_hw, colour in scene.over:
        image_hwc += cover_hw[:, :, None] * (colour - image_hwc)
    return image_hwc
