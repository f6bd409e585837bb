"""Which kinds of image files can be read, by their names, and what is missing for the others."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A kind of image file.

    Attributes:
        name: as in messages.
        endings: of file names, lower case.
        package: what reads it beside Pillow, as its package is called; "" if nothing is needed.
        module: the module of that package.
        extra: our optional dependency that brings it.
        codec: part of Pillow that some builds of it lack.
    """

    name: str
    endings: tuple[str, ...]
    package: str = ""
    module: str = ""
    extra: str = ""
    codec: str = ""

    @property
    def is_readable(self) -> bool:
        """Whether what reads it is installed."""
        if self.codec:
            from PIL import features

            return bool(features.check(self.codec))
        return not self.module or importlib.util.find_spec(self.module) is not None

    @property
    def remedy(self) -> str:
        """What to install, in words."""
        if self.codec:
            return f"needs a Pillow with {self.package}: pip install --force-reinstall pillow"
        return f"needs {self.package}: pip install 'csp-neuron-browser[{self.extra}]'"


HEIF = ImageFormat("HEIC", (".heic", ".heif"), "pillow-heif", "pillow_heif", "heif")
DICOM = ImageFormat("DICOM", (".dcm", ".dicom"), "pydicom", "pydicom", "dicom")
JPEG_2000 = ImageFormat(
    "JPEG 2000",
    (".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"),
    package="OpenJPEG",
    codec="jpg_2000",
)
IMAGE_FORMATS = (
    ImageFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo")),
    ImageFormat("PNG", (".png", ".apng")),
    ImageFormat("WebP", (".webp",)),
    ImageFormat("BMP", (".bmp", ".dib")),
    ImageFormat("TIFF", (".tif", ".tiff")),
    ImageFormat("GIF", (".gif",)),
    ImageFormat("PPM", (".ppm", ".pgm", ".pbm", ".pnm")),
    ImageFormat("AVIF", (".avif",)),
    JPEG_2000,
    HEIF,
    DICOM,
)


NOT_READ = {
    "JPEG XL": ((".jxl",), "save it as PNG"),
    "raw file of a camera": (
        (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
        "develop it to JPEG or PNG",
    ),
    "high dynamic range": ((".exr", ".hdr"), "map it to 8 bits and save it as PNG"),
    "whole slide": (
        (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".bif"),
        "cut it into tiles and save them as PNG",
    ),
    "NIfTI": ((".nii",), "save its slices as PNG"),
    "Photoshop": ((".psd", ".psb"), "save it as PNG"),
    "drawing": ((".svg", ".eps", ".ai"), "draw it as PNG"),
}
"""Images that nothing here reads, by name: their endings, and what to do instead."""


@lru_cache(maxsize=1)
def image_endings() -> tuple[str, ...]:
    """File name endings, lower case, that count as images here."""
    return tuple(ending for each in IMAGE_FORMATS if each.is_readable for ending in each.endings)


def is_image_name(name: str) -> bool:
    """Whether a file so named counts as an image."""
    return name.lower().endswith(image_endings())


def why_not_read(name: str) -> str:
    """What keeps a file so named from being read as the image that it is, and what to do.

    Empty for readable ones and for what is no image.
    """
    for each in IMAGE_FORMATS:
        if name.lower().endswith(each.endings) and not each.is_readable:
            return each.remedy
    for what, (endings, instead) in NOT_READ.items():
        if name.lower().endswith(endings):
            return f"is not read ({what}): {instead}"
    return ""
