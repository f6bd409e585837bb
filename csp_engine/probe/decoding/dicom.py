"""The picture in a DICOM file, as its own window shows it."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
from PIL import Image

from csp_engine.errors import UnreadableImageError
from csp_engine.probe.decoding.tiff import MOST_BYTES

_DEFLATED, _HEAD = b"1.2.840.10008.1.2.1.99", 4096
"""The name of the one compression of whole files, and within how many bytes it stands."""
_LENGTH_OF_HEADER = b"\2\0\0\0UL"


def first_picture(content: bytes) -> Image.Image:
    """The first picture of a DICOM file as RGB, through its first window where it has one.

    Without a window, the range that its stored bits can hold becomes 0 to 255, not the range of
    this one picture, so that equal values look equal in all pictures.

    Raises:
        UnreadableImageError: if there is no picture, or no package for its compression.
    """
    import pydicom
    from pydicom.pixels import apply_color_lut, pixel_array

    _require_modest(content)
    data = pydicom.dcmread(io.BytesIO(content))
    if not any(name in data for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnreadableImageError("The DICOM file holds no picture.")
    if int(data.Rows) * int(data.Columns) > 2 * (Image.MAX_IMAGE_PIXELS or 0):
        raise Image.DecompressionBombError
    try:
        stored = pixel_array(data, index=0)
    except (NotImplementedError, RuntimeError) as error:
        syntax = data.file_meta.TransferSyntaxUID.name
        raise UnreadableImageError(
            f"The DICOM file is compressed as {syntax}; install what pydicom reads that with: "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg."
        ) from error
    if data.PhotometricInterpretation == "PALETTE COLOR":
        coloured = apply_color_lut(stored, data)[..., :3]
        return Image.fromarray((coloured >> (8 * coloured.dtype.itemsize - 8)).astype(np.uint8))
    if stored.ndim == 3:  # pydicom has turned it to RGB
        return Image.fromarray((stored >> max(0, int(data.BitsStored) - 8)).astype(np.uint8))
    share = _shown(stored, data)
    if data.PhotometricInterpretation == "MONOCHROME1":
        share = 1 - share
    return Image.fromarray(np.rint(share * 255).astype(np.uint8)).convert("RGB")


def _require_modest(content: bytes) -> None:
    """Refuse a deflated file that holds far more than a picture: pydicom unpacks all of it first.

    Raises:
        UnreadableImageError: as said.
    """
    if _DEFLATED not in content[:_HEAD]:
        return
    if content[132:138] != _LENGTH_OF_HEADER:
        raise UnreadableImageError("The DICOM file is damaged or cut off (its header has no size).")
    at, limit = 144 + int.from_bytes(content[140:144], "little"), 2 * (Image.MAX_IMAGE_PIXELS or 0)
    most = MOST_BYTES * limit
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[at:], most + 1)) > most:
        raise UnreadableImageError(f"The image has more than {limit // 1_000_000} million pixels.")


def _shown(stored: np.ndarray, data: Any) -> np.ndarray:
    """Grey values as shares of the brightest that the picture's own settings can give."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    grey = apply_modality_lut(stored, data)
    if "VOILUTSequence" in data:
        depth = int(data.VOILUTSequence[0].LUTDescriptor[2])
        return apply_voi_lut(grey, data).astype(np.float64) / (2**depth - 1)
    if stored.dtype.kind == "f":
        raise UnreadableImageError(
            "The DICOM file has float pixels of unknown range; save it as an image of 8 or 16 bits."
        )
    lowest, highest = _range(data)
    if "WindowWidth" not in data:
        lowest, highest = sorted((lowest, highest))
    shown = apply_voi_lut(grey, data).astype(np.float64)
    return np.clip((shown - lowest) / (highest - lowest), 0, 1)


def _range(data: Any) -> tuple[float, float]:
    """What the lowest and the highest value that can be stored become; windows end there too."""
    bits = int(data.BitsStored)
    if data.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    lowest = -(2.0 ** (bits - 1)) if data.PixelRepresentation else 0.0
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    return lowest * slope + intercept, (lowest + 2**bits - 1) * slope + intercept
