"""Bytes of an image file to upright RGB, whatever the file is called."""

from __future__ import annotations

import io
import logging
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from csp_engine.errors import UnreadableImageError
from csp_engine.probe.decoding import dicom
from csp_engine.probe.decoding.formats import DICOM, HEIF, JPEG_2000, ImageFormat
from csp_engine.probe.decoding.tiff import read_tags, unpack, with_black_as_zero

logger = logging.getLogger(__name__)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000")
"""The only decoders of Pillow that run. It has others, some of which start programs (EPS)."""

# Pillow loads its rarer decoders on demand, but not when the formats are named, as here.
Image.init()

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_2000 = (b"\x00\x00\x00\x0cjP  ", b"\xffO\xffQ")
_MOST_TEXT = 1 << 20
_SCAN, _MOST_SCANS = b"\xff\xda", 100
"""Each scan of a JPEG goes over all of its pixels; programs write some ten."""
_NOT_IMAGES = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with 'git lfs pull'"),
    (b"<", "a web page or drawing (HTML, SVG)"),
    (b"\x1f\x8b", "compressed with gzip; unpack it"),
    (b"PK\x03\x04", "a ZIP archive; unpack it"),
    (b"%PDF", "a PDF document; save its pages as images"),
    (b"8BPS", "a Photoshop document; save it as PNG"),
)


def decode(content: bytes) -> Image.Image:
    """Turn the bytes of an image file into a fully loaded, upright RGB image.

    EXIF orientation is applied; transparency is laid on white; grey of more than 8 bits is scaled
    so that its highest value becomes 255, and inverted where the file says that white is zero;
    float grey must lie in [0, 1]. Of an animation or a multi-page file the first picture counts
    (of a TIFF the first that is no preview of another).
    CMYK follows Pillow (JPEG inks are taken as inverted, as Adobe and browsers do) and embedded
    colour profiles are not applied, so that a network sees what it saw in training. DICOM images
    are shown as their own window says; HEIC and DICOM need packages of their own.

    Raises:
        UnreadableImageError: with a short reason, for anything that does not decode completely.
    """
    if not content:
        raise UnreadableImageError("The file is empty.")
    try:
        if content[128:132] == b"DICM":
            _require(DICOM)
            return dicom.first_picture(content)
        return _decode(content)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(_what_it_is(content)) from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise UnreadableImageError(f"The image has more than {limit} million pixels.") from None
    except (
        Exception
    ) as error:  # Decoders raise many kinds on damaged files; all mean the same here.
        reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
        raise UnreadableImageError(f"The image is damaged or cut off ({reason}).") from error


def _decode(content: bytes) -> Image.Image:
    tags = read_tags(content)
    is_inverted = False
    if tags is not None:
        if not tags.is_right_in_pillow:
            return _to_rgb(unpack(content, tags))
        if tags.is_deep_inverted:
            content, is_inverted = with_black_as_zero(content, tags), True
    if content.startswith(b"\xff\xd8") and (n_scans := content.count(_SCAN)) > _MOST_SCANS:
        raise UnreadableImageError(
            f"The image has {n_scans:,} scans; save it again as JPEG or PNG."
        )
    if content.startswith(_PNG):
        content = _without_long_texts(content)
    if content.startswith(_JPEG_2000):
        _require(JPEG_2000)
    if _is_heif(content):
        image = _heif(content)
    else:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    if tags is not None and tags.page:
        image.seek(tags.page)
    image.load()
    _set_upright(image)
    image = _to_rgb(image)
    return ImageOps.invert(image) if is_inverted else image


def _set_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception as error:  # A damaged EXIF block is no reason to lose the pixels.
        logger.debug("EXIF orientation ignored: %s", error)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _scale_16_bit(np.asarray(image), image.info.get("transparency"))
    elif image.mode == "I":
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise UnreadableImageError(
                "The image has 32-bit pixels outside 0..65535; save it with 8 or 16 bits."
            )
        if image.format == "TIFF" and 0 < grey.max() <= 255:
            # As numpy saves an array of 8-bit grey that it holds as int32: black, read as 16 bits.
            raise UnreadableImageError(
                f"The image has 32-bit pixels up to {grey.max()}, so that its range is not known; "
                "save it with 8 or 16 bits."
            )
        image = _scale_16_bit(grey.astype(np.uint16), None)
    elif image.mode == "F":
        grey = np.asarray(image)
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise UnreadableImageError(
                "The image has float pixels outside 0..1; save it with 8 or 16 bits."
            )
        image = Image.fromarray(np.rint(grey * 255).astype(np.uint8))
    elif image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_16_bit(grey: np.ndarray, transparent: object) -> Image.Image:
    """16-bit to 8-bit grey, 65535 to 255; the value named transparent becomes white."""
    scaled = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(transparent, int):
        scaled[grey == transparent] = 255
    return Image.fromarray(scaled)


def _on_white(image: Image.Image) -> Image.Image:
    rgba = with_alpha(image)
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, mask=alpha)
    return white


def with_alpha(image: Image.Image) -> Image.Image:
    """An opened image upright and as RGBA, with what it says is transparent."""
    _set_upright(image)
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        grey = np.asarray(image)
        rgba = _scale_16_bit(grey, None).convert("RGBA")
        if isinstance(key, int):
            rgba.putalpha(Image.fromarray(np.where(grey == key, 0, 255).astype(np.uint8)))
        return rgba
    if image.mode == "RGB" and isinstance(key, tuple) and max(key) > 255:
        # A 16-bit PNG: Pillow keeps the upper byte of each pixel but all 16 bits of the key colour.
        image.info["transparency"] = tuple(part >> 8 for part in key)
    return image.convert("RGBA")


# --- what other packages read ------------------------------------------------------------------


def _require(needed: ImageFormat) -> None:
    if not needed.is_readable:
        raise UnreadableImageError(f"It is a {needed.name} file, which {needed.remedy}.")


def _is_heif(content: bytes) -> bool:
    brands = content[8:64]
    is_media = content[4:8] == b"ftyp" and b"avif" not in brands and b"avis" not in brands
    return is_media and brands[:4] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1")


def _heif(content: bytes) -> Image.Image:
    _require(HEIF)
    from pillow_heif import HeifImageFile

    image = HeifImageFile(io.BytesIO(content))
    if image.width * image.height > 2 * (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError
    return image


# --- PNG texts, and what a file is instead -------------------------------------------------------


def _without_long_texts(png: bytes) -> bytes:
    """A PNG without texts and colour profiles that Pillow would give the whole file up for.

    They are never shown. Short texts stay, for programs keep EXIF in them.
    """
    dropped: list[tuple[int, int]] = []
    at, n_left = 8, 32 * _MOST_TEXT
    while at + 12 <= len(png):
        (size,) = struct.unpack_from(">I", png, at)
        name, end = png[at + 4 : at + 8], at + 12 + size
        if name in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            # Once they are too much together, no more is unpacked: thousands fit into a small file.
            size = _unpacked_size(png[at + 8 : end - 4], name) if n_left > 0 else 0
            n_left -= size
            if size >= _MOST_TEXT or n_left <= 0:
                dropped.append((at, end))
        at = end
    for first, last in reversed(dropped):
        png = png[:first] + png[last:]
    return png


def _unpacked_size(chunk: bytes, name: bytes) -> int:
    """Bytes of a text once unpacked; not more of it is unpacked than it takes to know."""
    body = chunk.partition(b"\0")[2]
    if name == b"tEXt" or (name == b"iTXt" and body[:1] != b"\1"):
        return len(body)
    language = body[2:].partition(b"\0")[2]
    body = language.partition(b"\0")[2] if name == b"iTXt" else body[1:]
    try:
        return len(zlib.decompressobj().decompress(body, _MOST_TEXT))
    except zlib.error:
        return len(body)


def _what_it_is(content: bytes) -> str:
    """Why no decoder took a file, as far as its beginning tells."""
    for start, what in _NOT_IMAGES:
        if content.lstrip()[: len(start)] == start or content.startswith(start):
            return f"The file is not an image but {what}."
    tags = read_tags(content)
    if tags is not None:
        return tags.cannot_be_read
    if content.startswith(b"\xff\xd8"):
        depth = _jpeg_depth(content)
        if depth not in (None, 8):
            return f"The JPEG has {depth} bits a sample, which cannot be read; save it with 8."
    if _is_heif(content):
        return "The HEIC file is damaged or cut off."
    if content.startswith(_JPEG_2000):
        return "The JPEG 2000 file is damaged or cut off."
    names = "JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or JPEG 2000"
    return f"The file is not a {names} image, or its start is lost."


def _jpeg_depth(jpeg: bytes) -> int | None:
    """Bits a sample by the frame header; None where there is none."""
    at = 2
    while at + 5 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return jpeg[at + 4]
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return None
