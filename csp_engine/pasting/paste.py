"""One artefact into one photograph: without it, with it, and something neutral in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from PIL import Image
from scipy import ndimage

from csp_engine.errors import InputError
from csp_engine.hashing import canonical_json
from csp_engine.pasting import artefacts
from csp_engine.pasting.artefacts import Picture, Touches
from csp_engine.pasting.canvas import SIDE, Field, Frame, Point
from csp_engine.pasting.cutouts import CutOut, lay
from csp_engine.pasting.lesion import find_lesion
from csp_engine.pasting.neutral import neutral_texture
from csp_engine.pasting.rulers import pasted_ruler

VERSION = 3
"""Raise it when the same photograph, artefact and seed come out as other pixels."""

ARTEFACTS = ("ruler", "colour patch", "ink marks", "hair", "gel bubbles", "dark corners")
"""What can be drawn, by the names of the concept set for dermoscopy."""

LEAST_SIDE = 32
"""Pixels along the shorter side of a photograph, below which nothing that is drawn can be told."""

_COVERED = 0.12
_MOST_COVERED = 0.02
_LEAST_OF_PICTURE = 0.001
_PLACES = 24
_PLACED_AT = 128
_REACH = 26


class NoPlaceError(InputError):
    """A photograph has no place for an artefact that leaves its lesion free."""


@dataclass(frozen=True, slots=True, eq=False)
class Pasted:
    """One photograph three times, all uint8 RGB of one size, and where they differ.

    Attributes:
        without: the photograph.
        with_it: the same with the artefact.
        neutral: the same with plain skin in the artefact's place, through the same mask.
        mask_hw: pixels of which the artefact covers at least 12 %.
        shadow_hw: other pixels that it changes: its shadow, its halo, its softest rim.
    """

    without: Image.Image
    with_it: Image.Image
    neutral: Image.Image
    mask_hw: Bool[np.ndarray, "height width"]
    shadow_hw: Bool[np.ndarray, "height width"]


CutOuts = Mapping[str, Sequence[CutOut]]
"""Cut-outs by the artefact that they show."""


def paste(
    image: Image.Image,
    artefact: str,
    seed: int,
    *,
    cutouts: CutOuts | None = None,
    lesion_hw: Bool[np.ndarray, "height width"] | None = None,
) -> Pasted:
    """Paste an artefact where it leaves the lesion free.

    Equal pixels, artefact and seed give equal results. Pixels outside of mask and shadow are those
    of the photograph.

    Args:
        image: the photograph; grey, CMYK and transparent ones are taken as RGB on white.
        artefact: one of ``ARTEFACTS`` or of the cut-outs, which come first.
        seed: chooses kind, place and shade.
        cutouts: artefacts of one's own.
        lesion_hw: what to leave free; found if not given, see ``find_lesion``.

    Raises:
        NoPlaceError: if there is no place for it.
        InputError: if the artefact is unknown, the image too small, or a cut-out larger than it.
    """
    return draw(image, artefact, seed, place(image, artefact, seed, cutouts, lesion_hw), cutouts)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where an artefact goes: the try that left the lesion free, and what it kept off."""

    attempt: int
    lesion_hw: Bool[np.ndarray, "height width"]


def place(
    image: Image.Image,
    artefact: str,
    seed: int,
    cutouts: CutOuts | None = None,
    lesion_hw: Bool[np.ndarray, "height width"] | None = None,
) -> Place:
    """Find a place on a small copy of the photograph; see ``paste``."""
    image = as_rgb(image)
    _require_usable(image, artefact, cutouts)
    if lesion_hw is None:
        lesion_hw = find_lesion(image)
    elif lesion_hw.shape != image.size[::-1]:
        raise InputError(
            f"The mask of the lesion has {lesion_hw.shape[1]} × {lesion_hw.shape[0]} pixels and "
            f"the photograph {image.width} × {image.height}; save both in one size."
        )
    frame = _frame(image.size)
    small = _frame(image.size, min(_PLACED_AT, *image.size))
    size = (small.n_columns, small.n_rows)
    picture_hwc = np.asarray(image.resize(size, Image.Resampling.BOX), np.float32)
    small_lesion = Image.fromarray(lesion_hw).convert("L").resize(size, Image.Resampling.BOX)
    lesion_small_hw = np.asarray(small_lesion) > 64
    digest = _digest(image, artefact)
    n_lesion = max(1, int(lesion_small_hw.sum()))
    best, least = None, _MOST_COVERED
    for attempt in range(_PLACES):
        rng = _stream(digest, seed, attempt)
        touches = _touching(lesion_small_hw, small)
        cover_hw = _cover(picture_hwc.copy(), artefact, rng, small, touches, cutouts, frame.scale)
        there_hw = cover_hw >= _COVERED
        if there_hw.mean() < _LEAST_OF_PICTURE:
            continue
        # Of the smaller of the two: a thin rod right across the lesion covers little of it.
        share = (there_hw & lesion_small_hw).sum() / min(n_lesion, there_hw.sum())
        if share <= least and (best is None or share < least):
            best, least = attempt, share
        if best is not None and least == 0:
            break
    if best is None:
        raise NoPlaceError(
            f"There is no place for {artefact!r} that leaves the lesion free; leave this "
            "photograph out, or give a mask of its lesion if it was not found rightly."
        )
    return Place(best, lesion_hw)


def draw(
    image: Image.Image, artefact: str, seed: int, at: Place, cutouts: CutOuts | None = None
) -> Pasted:
    """Paste at a place that was found; see ``paste``."""
    image = as_rgb(image)
    _require_usable(image, artefact, cutouts)
    frame = _frame(image.size)
    small = _frame(image.size, min(_PLACED_AT, *image.size))
    size = (small.n_columns, small.n_rows)
    lesion = Image.fromarray(at.lesion_hw).convert("L").resize(size, Image.Resampling.BOX)
    touches = _touching(np.asarray(lesion) > 64, small)
    before_hwc = np.asarray(image)
    picture_hwc = before_hwc.astype(np.float32)
    rng = _stream(_digest(image, artefact), seed, at.attempt)
    cover_hw = _cover(picture_hwc, artefact, rng, frame, touches, cutouts, frame.scale)
    mask_hw = cover_hw >= _COVERED
    after_hwc = np.floor(picture_hwc.clip(0, 255) + np.float32(0.5)).astype(np.uint8)
    far_hw = ~mask_hw & ~_around(mask_hw, frame)
    after_hwc[far_hw] = before_hwc[far_hw]
    shadow_hw = (after_hwc != before_hwc).any(axis=2) & ~mask_hw
    texture_hwc = neutral_texture(before_hwc, mask_hw | at.lesion_hw, frame.scale, rng)
    share_hw1 = np.where(mask_hw, cover_hw.clip(0, 1), 0)[:, :, None]
    plain_hwc = before_hwc + share_hw1 * (texture_hwc - before_hwc)
    plain_hwc = np.floor(plain_hwc.clip(0, 255) + 0.5).astype(np.uint8)
    return Pasted(image, Image.fromarray(after_hwc), Image.fromarray(plain_hwc), mask_hw, shadow_hw)


def as_rgb(image: Image.Image) -> Image.Image:
    """Any image as RGB, transparency laid on white; as the project decodes files."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def require_known(artefact: str, cutouts: CutOuts | None) -> None:
    """Refuse an artefact that can neither be drawn nor was cut out.

    Raises:
        InputError: as said; it names those that exist.
    """
    if artefact not in ARTEFACTS and artefact not in (cutouts or {}):
        existing = ", ".join(dict.fromkeys((*ARTEFACTS, *(cutouts or {}))))
        raise InputError(
            f"There is no artefact {artefact!r} to paste; choose one of {existing}, or give a "
            "folder of cut-outs with one of that name."
        )


def _require_usable(image: Image.Image, artefact: str, cutouts: CutOuts | None) -> None:
    require_known(artefact, cutouts)
    if min(image.size) < LEAST_SIDE:
        raise InputError(
            f"The photograph has {image.width} × {image.height} pixels, too few to paste into; "
            f"give one of at least {LEAST_SIDE} on its shorter side."
        )
    own = (cutouts or {}).get(artefact, ())
    if own and not any(c.width <= image.width and c.height <= image.height for c in own):
        raise InputError(
            f"The cut-out {own[0].name!r} has {own[0].width} × {own[0].height} pixels, more than "
            f"the photograph ({image.width} × {image.height}); save it smaller."
        )


def _frame(size: tuple[int, int], shorter: int | None = None) -> Frame:
    """Units and pixels of a photograph, or of a copy of it with so many on its shorter side."""
    width, height = size
    least = min(size)
    units = (SIDE * width / least, SIDE * height / least)
    if shorter is None:
        over = min(8, max(2, round(3 * SIDE / least)))
        return Frame(*units, width, height, over)
    n_columns, n_rows = (max(shorter, round(long * shorter / least)) for long in size)
    return Frame(*units, n_columns, n_rows, 3)


def _digest(image: Image.Image, artefact: str) -> bytes:
    head = canonical_json([VERSION, artefact, image.size]).encode()
    return hashlib.sha256(head + image.tobytes()).digest()


def _stream(digest: bytes, seed: int, attempt: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, attempt, *digest]))


def _touching(lesion_hw: np.ndarray, frame: Frame) -> Touches:
    """Whether points come within three units of the lesion."""
    wide_hw = ndimage.binary_dilation(lesion_hw, iterations=max(1, round(3 * frame.scale)))

    def touches(points: Sequence[Point]) -> bool:
        ends = np.asarray(points, np.float64)
        steps = np.linspace(0, 1, 8)[:, None, None]
        path = (
            ends if len(ends) == 1 else (ends[:-1] + steps * np.diff(ends, axis=0)).reshape(-1, 2)
        )
        column, row = np.floor(path * frame.scale).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < frame.n_columns) & (row < frame.n_rows)
        return bool(wide_hw[row[inside], column[inside]].any())

    return touches


def _around(mask_hw: np.ndarray, frame: Frame) -> np.ndarray:
    """Pixels that a shadow can reach."""
    n = max(1, round(_REACH * frame.scale))
    return ndimage.maximum_filter(mask_hw.astype(np.uint8), 2 * n + 1) > 0


def _cover(
    picture_hwc: Picture, artefact: str, rng: np.random.Generator, frame: Frame,
    touches: Touches, cutouts: CutOuts | None, full_scale: float,
) -> Field:  # fmt: skip
    """Paint the artefact, in place; the share of each pixel that it covers."""
    if own := (cutouts or {}).get(artefact):
        shrunk = frame.scale / full_scale
        fitting = [
            c for c in own
            if c.width * shrunk <= frame.n_columns + 0.5 and c.height * shrunk <= frame.n_rows + 0.5
        ]  # fmt: skip
        return lay(picture_hwc, fitting[int(rng.integers(len(fitting)))], rng, frame, shrunk)
    if artefact == "ruler":
        return pasted_ruler(picture_hwc, rng, frame)
    if artefact == "colour patch":
        return artefacts.colour_patch(picture_hwc, rng, _patch_colours(rng), frame)
    if artefact == "ink marks":
        colour = str(rng.choice(["purple", "blue", "black"], p=(0.7, 0.2, 0.1)))
        # Real marks are denser than one of the simulator's: several of one pen.
        covers = [artefacts.ink(picture_hwc, rng, colour, frame) for _ in range(rng.integers(2, 4))]
        return np.maximum.reduce(covers)
    if artefact == "hair":
        density = "dense" if rng.random() < 0.6 else "sparse"
        thickness = "thick" if rng.random() < 0.45 else "thin"
        shade = "dark" if rng.random() < 0.85 else "light"
        return artefacts.hair(picture_hwc, rng, density, thickness, shade, frame, touches)
    if artefact == "gel bubbles":
        return artefacts.gel_bubbles(picture_hwc, rng, frame, touches)
    return artefacts.dark_corners(picture_hwc, rng, frame, falls_from=0.88)


def _patch_colours(rng: np.random.Generator) -> str:
    names = list(artefacts.PATCH_RGB)
    outer = str(rng.choice(names))
    if rng.random() < 0.3:
        outer = f"{outer}/{rng.choice([name for name in names if name != outer])}"
    return outer if rng.random() < 0.75 else f"{outer}+{rng.choice(names)}"
