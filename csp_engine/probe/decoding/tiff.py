"""TIFF files that Pillow reads wrongly or not at all, told by their first directory of tags.

Pillow is right for samples of up to 8 bits and for most of 16. It does not invert deep grey where
white is zero, takes 12 bits for 16, swaps the bytes of big-endian floats that were compressed, and
mixes up planes of 16 bits. What of that can be unpacked here is; the rest is refused by its name.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from csp_engine.errors import UnreadableImageError

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_STORED, _DEFLATE = (1,), (8, 32946)
_BY_PILLOW = (5, 32773, 50000)
"""LZW, PackBits and Zstd, which Pillow unpacks; the others here are pictures of 1 or 8 bits."""
_COMPRESSIONS = {
    2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 6: "JPEG", 7: "JPEG", 8: "Deflate",
    32773: "PackBits", 32946: "Deflate", 50000: "Zstd",
}  # fmt: skip
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
MOST_BYTES = 8
"""Unpacked, of each of the pixels that an image may have: four samples of 16 bits."""
MOST_UNPACKED = 1 << 29
"""Bytes of any image, however many pixels it may have: seconds of work, from a file of any size."""
_AT_ONCE = 1 << 22
"""Bits that are worked on together; what that takes is many times what they take."""
_MOST_PREVIEWS = 8
_MOST_VALUES = 1 << 22  # of one tag: an image of 89 million pixels has fewer strips
_TAGS = {
    254: "subfile", 256: "width", 257: "height", 258: "bits", 259: "compression",
    262: "photometric",
    266: "fill_order", 274: "orientation", 277: "n_samples", 278: "rows_per_strip",
    284: "planar", 317: "predictor", 322: "tile_width", 323: "tile_height",
    338: "extra", 339: "sample_format", 273: "offsets", 324: "offsets", 279: "sizes",
    325: "sizes",
}  # fmt: skip
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class TiffTags:
    """What of an image's tags decides how its samples are stored; ``page`` is its place."""

    order: str
    is_big: bool
    photometric_at: int | None
    values: dict[str, tuple[int, ...]]
    page: int = 0

    def one(self, name: str, default: int) -> int:
        """A tag of one value."""
        return self.values.get(name, (default,))[0]

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of each sample of a pixel."""
        n_samples = self.one("n_samples", 1)
        given = self.values.get("bits", (1,))
        return given * n_samples if len(given) == 1 else given[:n_samples]

    @property
    def photometric(self) -> int:
        """What the samples mean."""
        return self.one("photometric", BLACK_IS_ZERO)

    @property
    def is_planar(self) -> bool:
        """Whether each channel is stored by itself."""
        return self.one("planar", 1) == 2 and len(self.bits) > 1

    @property
    def is_stored(self) -> bool:
        """Whether samples are not compressed."""
        return self.one("compression", 1) in _STORED

    @property
    def is_deep_inverted(self) -> bool:
        """Whether white is zero and Pillow leaves it so."""
        return self.photometric == WHITE_IS_ZERO and max(self.bits) > 8

    @property
    def is_right_in_pillow(self) -> bool:
        """Whether Pillow gives the stored samples, white as zero apart."""
        bits, kind = max(self.bits), self.one("sample_format", _UNSIGNED)
        if self.is_big and self.order == ">":
            return False
        if bits <= 8:
            return kind != _SIGNED
        if bits == 16 and kind == _UNSIGNED:
            return not (self.is_planar and self.is_stored)
        is_grey = len(self.bits) == 1
        if bits == 32 and kind == _FLOAT:
            return is_grey and (self.order == "<" or self.is_stored)
        # Whole numbers of unknown range; the decoder refuses those that 16 bits cannot hold.
        return is_grey and kind in (_UNSIGNED, _SIGNED) and bits in (16, 32) and (
            self.photometric == BLACK_IS_ZERO and (kind == _SIGNED or self.order == "<")
        )  # fmt: skip

    @property
    def is_of_many_channels(self) -> bool:
        """Whether it has more samples than grey with a mask: what they show nobody says."""
        return self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and len(self.bits) > 2

    @property
    def cannot_be_read(self) -> str:
        """Why, and what to do, as a sentence."""
        instead = "the channels that make a picture as RGB" if self.is_of_many_channels else "it"
        unsigned = " without a sign" if self.one("sample_format", 1) == _SIGNED else ""
        return (
            f"The TIFF holds {self}, which cannot be read; save {instead} with 8 or 16 bits"
            f"{unsigned}."
        )

    def __str__(self) -> str:
        kind = {_FLOAT: "float ", _SIGNED: "signed "}.get(self.one("sample_format", 1), "")
        packed = self.one("compression", 1)
        how = "" if self.is_stored else f", {_COMPRESSIONS.get(packed, f'compression {packed}')}"
        planes = ", plane by plane" if self.is_planar else ""
        samples = "sample" if len(self.bits) == 1 else "samples"
        return f"{len(self.bits)} {kind}{samples} of {max(self.bits)} bits{how}{planes}"


def read_tags(content: bytes) -> TiffTags | None:
    """The tags of a TIFF's picture; None for other files and damaged directories.

    That is its first picture that does not say to be another one made smaller: some programs write
    a preview in front.
    """
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 16:
        return None
    (version,) = struct.unpack_from(order + "H", content, 2)
    if version not in (42, 43):
        return None
    is_big = version == 43
    first = None
    try:
        (at,) = struct.unpack_from(order + ("Q" if is_big else "I"), content, 8 if is_big else 4)
        for page in range(_MOST_PREVIEWS):
            tags, at = _directory(content, order, is_big, at, page)
            first = first or tags
            if "width" in tags.values and not tags.one("subfile", 0) & 1:
                first = tags
                break
            if at == 0:
                break
    except (struct.error, OverflowError):
        pass
    return first if first is not None and "width" in first.values else None


def _directory(
    content: bytes, order: str, is_big: bool, at: int, page: int
) -> tuple[TiffTags, int]:
    """The tags of one image, and where those of the next one begin (0 after the last)."""
    number, size, entry = ("Q", 8, 20) if is_big else ("I", 4, 12)
    count_type = "Q" if is_big else "H"
    (n_entries,) = struct.unpack_from(order + count_type, content, at)
    at += struct.calcsize(count_type)
    values: dict[str, tuple[int, ...]] = {}
    photometric_at = None
    for place in range(at, at + min(n_entries, 4096) * entry, entry):
        tag, kind, n = struct.unpack_from(order + "HH" + number, content, place)
        name = _TAGS.get(tag)
        if name is None or kind not in _TYPES or not 0 < n <= _MOST_VALUES:
            continue
        form = f"{order}{n}{_TYPES[kind]}"
        value_at = place + 4 + size
        if tag == 262:
            photometric_at = value_at if kind == 3 else None
        if struct.calcsize(form) > size:
            (value_at,) = struct.unpack_from(order + number, content, value_at)
        values[name] = struct.unpack_from(form, content, value_at)
    following = 0
    if len(content) >= at + n_entries * entry + size:
        (following,) = struct.unpack_from(order + number, content, at + n_entries * entry)
    return TiffTags(order, is_big, photometric_at, values, page), following


def with_black_as_zero(content: bytes, tags: TiffTags) -> bytes:
    """The same file saying that black is zero, so that Pillow gives the samples as stored."""
    if tags.photometric_at is None:
        return content
    changed = bytearray(content)
    struct.pack_into(tags.order + "H", changed, tags.photometric_at, BLACK_IS_ZERO)
    return bytes(changed)


def unpack(content: bytes, tags: TiffTags) -> Image.Image:
    """The first image of a TIFF that Pillow does not read, as 8 bits a sample.

    Raises:
        UnreadableImageError: if it is stored in a way that is not unpacked here, or damaged.
    """
    _require_known(tags)
    width, height, n_samples = tags.one("width", 0), tags.one("height", 0), len(tags.bits)
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if width * height > limit or width < 1 or height < 1:
        raise UnreadableImageError(f"The image has more than {limit // 1_000_000} million pixels.")
    block_width = tags.one("tile_width", width)
    block_height = tags.one("tile_height", min(tags.one("rows_per_strip", height), height))
    if not (0 < block_width <= 65536 and 0 < block_height <= max(height, 65536)):
        raise UnreadableImageError("The image is damaged or cut off (tiles of no size).")
    across, down = -(-width // block_width), -(-height // block_height)
    n_planes, n_inside = (n_samples, 1) if tags.is_planar else (1, n_samples)
    row_bytes = -(-block_width * n_inside * max(tags.bits) // 8)
    most = min(MOST_BYTES * limit, MOST_UNPACKED)
    if n_planes * across * down * block_height * row_bytes > most:
        raise UnreadableImageError(
            f"The TIFF holds {tags}, in all more than {most // 1_000_000} MB; save it with 8 or "
            "16 bits."
        )
    offsets, sizes = tags.values.get("offsets", ()), tags.values.get("sizes", ())
    if len(offsets) < n_planes * across * down or len(sizes) < len(offsets):
        raise UnreadableImageError("The image is damaged or cut off (strips are missing).")
    out = np.zeros((height, width, n_samples), np.uint8)
    for plane in range(n_planes):
        for row in range(down):
            for column in range(across):
                at = (plane * down + row) * across + column
                is_tile = "tile_height" in tags.values
                n_rows = block_height if is_tile else min(block_height, height - row * block_height)
                packed = content[offsets[at] : offsets[at] + sizes[at]]
                raw = _unpacked(packed, tags, n_rows, row_bytes)
                y, x = row * block_height, column * block_width
                first = plane if tags.is_planar else 0
                place = out[y : y + n_rows, x : x + block_width, first : first + n_inside]
                for rows in _few_rows(len(place), 8 * row_bytes):
                    samples = _samples(raw[rows][: len(place[rows])], tags, block_width, n_inside)
                    place[rows] = _to_8_bits(samples[:, : place.shape[1]], tags)
    image = _as_image(out, tags)
    turn = _TURNS.get(tags.one("orientation", 1))
    return image if turn is None else image.transpose(turn)


def _require_known(tags: TiffTags) -> None:
    kind, bits = tags.one("sample_format", _UNSIGNED), tags.bits
    is_known_number = (kind == _UNSIGNED and 8 <= max(bits) <= 16) or (
        kind == _FLOAT and max(bits) in (16, 32, 64)
    )
    if not (
        is_known_number
        and len(set(bits)) == 1
        and not tags.is_of_many_channels
        and tags.one("compression", 1) in _STORED + _DEFLATE + _BY_PILLOW
        and tags.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK)
        and tags.one("fill_order", 1) == 1
        and (tags.one("predictor", 1) == 1 or max(bits) in (8, 16, 32, 64))
    ):
        raise UnreadableImageError(tags.cannot_be_read)


def _unpacked(packed: bytes, tags: TiffTags, n_rows: int, row_bytes: int) -> np.ndarray:
    """The bytes of one strip or tile, row by row."""
    packing = tags.one("compression", 1)
    if packing in _DEFLATE:
        packed = zlib.decompressobj().decompress(packed, n_rows * row_bytes)
    elif packing in _BY_PILLOW:
        packed = _by_pillow(packed, packing, n_rows, row_bytes)
    if len(packed) < n_rows * row_bytes:
        raise UnreadableImageError("The image is damaged or cut off (a strip is too short).")
    return np.frombuffer(packed, np.uint8, n_rows * row_bytes).reshape(n_rows, row_bytes)


def _samples(raw: np.ndarray, tags: TiffTags, width: int, n_inside: int) -> np.ndarray:
    """The samples of some rows, in the byte order of this machine."""
    bits, shape = max(tags.bits), (len(raw), width, n_inside)
    is_float = tags.one("sample_format", _UNSIGNED) == _FLOAT
    predictor = tags.one("predictor", 1)
    if bits not in (8, 16, 32, 64):  # packed tightly, the highest bit first in either byte order
        weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint32)
        flags = np.unpackbits(raw, axis=1, count=width * n_inside * bits)
        return flags.reshape(-1, width, n_inside, bits) @ weights
    if predictor == 3:  # planes of bytes, the most significant first, each a difference
        step = raw.reshape(len(raw), -1, n_inside)
        summed = np.cumsum(step, axis=1, dtype=np.uint8)
        planes = summed.reshape(len(raw), bits // 8, width * n_inside)
        joined = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(f">f{bits // 8}")
        return joined.astype(f"=f{bits // 8}").reshape(shape)
    whole = raw.view(f"{tags.order}u{bits // 8}").astype(f"=u{bits // 8}").reshape(shape)
    if predictor == 2:
        whole = np.cumsum(whole, axis=1, dtype=whole.dtype)
    return whole.view(f"=f{bits // 8}") if is_float else whole


def _by_pillow(packed: bytes, packing: int, n_rows: int, row_bytes: int) -> bytes:
    """The bytes of a strip, which Pillow is given as a picture of so many bytes in a row.

    How bytes are packed does not depend on what they mean, and of bytes nothing is guessed.
    """
    entries = {256: row_bytes, 257: n_rows, 258: 8, 259: packing, 262: BLACK_IS_ZERO, 277: 1,
               278: n_rows, 279: len(packed)}  # fmt: skip
    entries[273] = 8 + 2 + 12 * (len(entries) + 1) + 4  # where the strip begins: after all of this
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, entries[tag]) for tag in sorted(entries))
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    alone = io.BytesIO(head + directory + bytes(4) + packed)
    with Image.open(alone, formats=("TIFF",)) as image:
        return image.tobytes()


def _few_rows(n_rows: int, row_bits: int) -> Iterator[slice]:
    """All rows, as few at a time as fit in the memory that is meant for it."""
    step = max(1, _AT_ONCE // row_bits)
    return (slice(at, at + step) for at in range(0, n_rows, step))


def _to_8_bits(samples: np.ndarray, tags: TiffTags) -> np.ndarray:
    if samples.dtype.kind == "f":
        share: Any = samples.astype(np.float32)
        if not (np.isfinite(share).all() and share.min() >= 0 and share.max() <= 1):
            raise UnreadableImageError(
                "The image has float pixels outside 0..1; save it with 8 or 16 bits."
            )
        scaled = np.rint(share * 255).astype(np.uint8)
    else:
        top = (1 << max(tags.bits)) - 1
        scaled = ((samples.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    return 255 - scaled if tags.photometric == WHITE_IS_ZERO else scaled


def _as_image(samples: np.ndarray, tags: TiffTags) -> Image.Image:
    n_colours = {RGB: 3, CMYK: 4}.get(tags.photometric, 1)
    colours = samples[..., :n_colours]
    extra = tags.values.get("extra", ())
    if tags.photometric == CMYK:
        size = (samples.shape[1], samples.shape[0])
        return Image.frombytes("CMYK", size, np.ascontiguousarray(colours).tobytes())
    rgb = colours.repeat(3, axis=2) if n_colours == 1 else colours
    if samples.shape[2] > n_colours and extra and extra[0] in (1, 2):
        alpha = samples[..., n_colours, None]
        size = (samples.shape[1], samples.shape[0])
        mode = "RGBa" if extra[0] == 1 else "RGBA"
        joined = np.ascontiguousarray(np.concatenate([rgb, alpha], axis=2))
        return Image.frombytes(mode, size, joined.tobytes()).convert("RGBA")
    return Image.fromarray(np.ascontiguousarray(rgb))
