"""Image files of other depths, byte orders and endings."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from csp_engine.cli.selftest import kind, refused, require
from csp_engine.cli.selftest.world import World
from csp_engine.probe.decoding.picture import decode
from csp_engine.probe.listing import read_probe_set

AREA = "image files"


def tiff(order: str, bits: int, packed: bytes, *, side: tuple[int, int], form: int = 1) -> bytes:
    """A TIFF of one grey strip, compressed with Deflate, byte by byte."""
    width, height = side
    tags = ((256, width), (257, height), (258, bits), (259, 8), (262, 1), (273, 8), (277, 1),
            (278, height), (279, len(packed)), (339, form))  # fmt: skip
    pad = packed + bytes(len(packed) % 2)
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8 + len(pad))
    body = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    return head + pad + struct.pack(order + "H", len(tags)) + body + bytes(4)


@kind(AREA, "H: 12 bits are scaled, in either byte order")
def twelve_bits(_: World) -> str:
    """Black, white and a grey between, packed tightly."""
    packed = zlib.compress(bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00]))
    found = [
        np.asarray(decode(tiff(order, 12, packed, side=(4, 1))))[0, :, 0].tolist() for order in "<>"
    ]
    return require(found == [[0, 255, 128, 0]] * 2, f"read as {found[0]}")


@kind(AREA, "H: big-endian floats keep their values")
def big_endian(_: World) -> str:
    """Three shares of white."""
    packed = zlib.compress(np.array([0, 0.2, 1], ">f4").tobytes())
    found = np.asarray(decode(tiff(">", 32, packed, side=(3, 1), form=3)))[0, :, 0].tolist()
    return require(found == [0, 51, 255], f"read as {found}")


@kind(AREA, "H: a small file that unpacks to very much is refused")
def bomb(_: World) -> str:
    """A kilobyte that would be a gigabyte of floats."""
    content = tiff("<", 64, zlib.compress(bytes(1000)), side=(12_000, 12_000), form=3)
    return refused(lambda: decode(content), "save it with 8 or 16 bits")


@kind(AREA, "H: a PNG with much beside its pixels is read")
def much_text(_: World) -> str:
    """Four megabytes of a comment."""
    drawn, out, info = np.random.default_rng(0).integers(0, 255, (8, 8, 3)), io.BytesIO(), PngInfo()
    info.add_text("Comment", "x" * 4_000_000, zip=True)
    Image.fromarray(drawn.astype(np.uint8)).save(out, "PNG", pnginfo=info)
    return require(np.array_equal(np.asarray(decode(out.getvalue())), drawn), "the pixels")


@kind(AREA, "H: files called .jfif and .jpe are photographs")
def endings(world: World) -> str:
    """Two JPEG files under their other names."""
    for name in ("a.jfif", "b.jpe"):
        Image.new("RGB", (8, 8), "red").save(world.folder / name, "JPEG")
    found = read_probe_set(world.folder)
    return require(len(found) == 2, f"{len(found)} images")
