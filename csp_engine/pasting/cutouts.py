"""Artefacts of one's own: pictures with transparency, cut out of other photographs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from csp_engine.errors import InputError
from csp_engine.files import ALLOWED, allowed_folders, given_bytes, is_inside
from csp_engine.hashing import sha256_array
from csp_engine.pasting.artefacts import Picture, paint
from csp_engine.pasting.canvas import Field, Frame, blurred
from csp_engine.probe.decoding.picture import with_alpha

ENDINGS = (".png", ".webp")
_FORMATS = ("PNG", "WEBP")
_COVERED = 0.12
_OPAQUE = 250
_ENOUGH = 16
"""Half-transparent pixels from which it can be told how colours are stored."""
_SHADOW = 0.28


@dataclass(frozen=True, slots=True, eq=False)
class CutOut:
    """A picture with transparency, without the empty border around what it shows."""

    name: str
    rgba_hwc: UInt8[np.ndarray, "height width 4"]

    @property
    def width(self) -> int:
        """In pixels."""
        return self.rgba_hwc.shape[1]

    @property
    def height(self) -> int:
        """In pixels."""
        return self.rgba_hwc.shape[0]

    @property
    def sha256(self) -> str:
        """Of its pixels."""
        return sha256_array(self.rgba_hwc)


def read_cutouts(folder: Path) -> dict[str, list[CutOut]]:
    """The cut-outs of a folder, by artefact.

    A subfolder is an artefact with all the pictures in it; a picture beside the subfolders is one
    by its own name, without a number at the end: ``ruler-2.png`` is a ruler.

    Raises:
        InputError: if there is none, or one is unreadable, not transparent or empty.
    """
    if not folder.is_dir():
        raise InputError(f"{str(folder)!r} is not a folder; give one with cut-outs (PNG).")
    found: dict[str, list[CutOut]] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        if path.suffix.lower() in ENDINGS:
            artefact = parts[0] if len(parts) > 1 else re.sub(r"[\s_-]*\d+$", "", path.stem)
            name = artefact.replace("_", " ").strip() or path.stem
            found.setdefault(name, []).append(read_cutout(path, "/".join(parts)))
    if not found:
        raise InputError(
            f"{str(folder)!r} holds no cut-out; put pictures with transparency ("
            f"{', '.join(ENDINGS)}) into it, in a subfolder for each artefact."
        )
    return found


def read_cutout(path: Path, name: str) -> CutOut:
    """One cut-out.

    Raises:
        InputError: if it is unreadable, not transparent or empty.
    """
    allowed = allowed_folders()
    if allowed is not None and not is_inside(path, allowed):
        raise InputError(
            f"{name!r} lies outside of the folders that may be read ({ALLOWED}); start the server "
            "with --allow FOLDER to add the one that it leads to."
        )
    try:
        given_bytes(path)
        with Image.open(path, formats=_FORMATS) as image:
            is_transparent = image.has_transparency_data
            rgba_hwc = np.asarray(with_alpha(image))
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        raise InputError(
            f"The cut-out {name!r} cannot be read; save it as PNG with transparency."
        ) from None
    alpha_hw = rgba_hwc[..., 3]
    there_hw = alpha_hw >= 255 * _COVERED
    if not is_transparent or there_hw.all():
        raise InputError(
            f"The cut-out {name!r} has no transparency, so that it would cover a rectangle; erase "
            "what is around the artefact and save it as PNG."
        )
    if not there_hw.any():
        raise InputError(f"The cut-out {name!r} is empty: all of it is transparent; save it again.")
    rgba_hwc = _straight(rgba_hwc)
    rows, columns = (np.flatnonzero(there_hw.any(axis=axis)) for axis in (1, 0))
    return CutOut(name, rgba_hwc[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _straight(rgba_hwc: np.ndarray) -> np.ndarray:
    """A cut-out whose colours were multiplied by their opacity, with the colours themselves.

    PNG and WebP hold colours as they are, but some programs write them multiplied, so that an edge
    would darken towards its outside. Such a file has no colour above its opacity anywhere, and
    divided by it its half-transparent pixels are closer to the opaque ones than they are as stored.
    """
    alpha_hw = rgba_hwc[..., 3].astype(np.float32)
    opaque_hw, half_hw = alpha_hw >= _OPAQUE, (alpha_hw > 0) & (alpha_hw < _OPAQUE)
    if not opaque_hw.any() or half_hw.sum() < _ENOUGH:
        return rgba_hwc
    stored_nc, alpha_n1 = rgba_hwc[half_hw, :3].astype(np.float32), alpha_hw[half_hw][:, None]
    if (stored_nc > alpha_n1 + 1).any():
        return rgba_hwc
    divided_nc = np.minimum(stored_nc * 255 / alpha_n1, 255)
    usual_c = rgba_hwc[opaque_hw, :3].mean(0)
    weight_n1 = 255 - alpha_n1  # where both differ most
    apart = [float((weight_n1 * np.abs(each - usual_c)).sum()) for each in (stored_nc, divided_nc)]
    if apart[1] >= apart[0]:
        return rgba_hwc
    result = rgba_hwc.copy()
    result[half_hw, :3] = np.rint(divided_nc)
    return result


def lay(
    image_hwc: Picture, cutout: CutOut, rng: np.random.Generator, frame: Frame, shrunk: float = 1.0
) -> Field:
    """Lay a cut-out on the picture, in place, with a soft shadow; the share that it covers.

    It keeps its own size in pixels, and may be mirrored.

    Args:
        image_hwc: the picture.
        cutout: no larger than the photograph.
        rng: chooses the place.
        frame: of the picture.
        shrunk: how much smaller the picture is than the photograph.
    """
    is_mirrored = bool(rng.random() < 0.5)
    at_x, at_y = rng.random(2)
    size = (max(1, round(cutout.width * shrunk)), max(1, round(cutout.height * shrunk)))
    size = (min(size[0], frame.n_columns), min(size[1], frame.n_rows))
    rgba = Image.fromarray(cutout.rgba_hwc)
    if is_mirrored:
        rgba = rgba.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if size != rgba.size:
        rgba = rgba.resize(size, Image.Resampling.BOX)
    left = round(at_x * (frame.n_columns - size[0]))
    top = round(at_y * (frame.n_rows - size[1]))
    pixels_hwc = np.asarray(rgba, np.float32)
    cover_hw = np.zeros(image_hwc.shape[:2], np.float32)
    cover_hw[top : top + size[1], left : left + size[0]] = pixels_hwc[..., 3] / 255
    shadow_hw = blurred(np.roll(cover_hw, max(1, round(2 * frame.scale)), 0), 5, frame)
    image_hwc *= 1 - _SHADOW * (shadow_hw * (1 - cover_hw))[:, :, None]
    colour_hwc = np.zeros_like(image_hwc)
    colour_hwc[top : top + size[1], left : left + size[0]] = pixels_hwc[..., :3]
    paint(image_hwc, cover_hw, colour_hwc)
    return cover_hw
