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
    """

    name: str
    endings: tuple[str, ...]
    package: str = ""
    module: str = ""
    extra: str = ""

    @property
    def is_readable(self) -> bool:
        """Whether what reads it is installed."""
        return not self.module or importlib.util.find_spec(self.module) is not None

    @property
    def remedy(self) -> str:
        """What to install, in words."""
        return f"needs {self.package}: pip install 'csp-neuron-browser[{self.extra}]'"


HEIF = ImageFormat("HEIC", (".heic", ".heif"), "pillow-heif", "pillow_heif", "heif")
DICOM = ImageFormat("DICOM", (".dcm", ".dicom"), "pydicom", "pydicom", "dicom")
IMAGE_FORMATS = (
    ImageFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".mpo")),
    ImageFormat("PNG", (".png", ".apng")),
    ImageFormat("WebP", (".webp",)),
    ImageFormat("BMP", (".bmp", ".dib")),
    ImageFormat("TIFF", (".tif", ".tiff")),
    ImageFormat("GIF", (".gif",)),
    ImageFormat("PPM", (".ppm", ".pgm", ".pbm", ".pnm")),
    ImageFormat("AVIF", (".avif",)),
    HEIF,
    DICOM,
)


@lru_cache(maxsize=1)
def image_endings() -> tuple[str, ...]:
    """File name endings, lower case, that count as images here."""
    return tuple(ending for each in IMAGE_FORMATS if each.is_readable for ending in each.endings)


def is_image_name(name: str) -> bool:
    """Whether a file so named counts as an image."""
    return name.lower().endswith(image_endings())


def lacking(name: str) -> ImageFormat | None:
    """The kind of image that a file so named would be, if what reads it were installed."""
    for each in IMAGE_FORMATS:
        if name.lower().endswith(each.endings) and not each.is_readable:
            return each
    return None
