"""Files as scanners, telephones and clinics write them: right pixels, or one true sentence.

Files come from other encoders (tifffile, pillow-heif, pydicom) or are written byte by byte here;
what they must show is the drawing that they were made from.
"""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from csp_engine.errors import UnreadableImageError
from csp_engine.probe.decoding import decode, formats
from csp_engine.probe.listing import read_probe_set

RAMP = np.linspace(0, 1, 64)[None].repeat(40, axis=0)  # black on the left, white on the right
COLOURS = np.stack([RAMP, RAMP[:, ::-1], np.linspace(0, 1, 40)[:, None].repeat(64, axis=1)], -1)


def shown(content: bytes) -> np.ndarray:
    return np.asarray(decode(content)).astype(float) / 255


def as_stored(share: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return share.astype(dtype)
    return np.rint(share * np.iinfo(dtype).max).astype(dtype)


def tiff(drawn: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.ascontiguousarray(drawn), metadata=None, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_preview_in_front_of_a_tiff_is_not_its_picture(big, dtype, order):
    """NewSubfileType 1: a smaller version of another image of the file."""
    drawn = as_stored(COLOURS, np.dtype(dtype))
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big, byteorder=order) as out:
        for step, kind in ((8, 1), (4, 1), (1, 0), (2, 1)):
            part = np.ascontiguousarray(drawn[::step, ::step])
            out.write(part, photometric="rgb", subfiletype=kind, metadata=None)
    found = shown(buffer.getvalue())
    assert found.shape == COLOURS.shape
    assert np.abs(found - COLOURS).max() <= 1.5 / 255


def test_a_tiff_of_previews_or_pages_shows_the_first():
    for kind in (0, 1, 2):
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer) as out:
            for part in (COLOURS, 1 - COLOURS):
                out.write(as_stored(part, np.dtype("u1")), photometric="rgb", subfiletype=kind)
        assert np.abs(shown(buffer.getvalue()) - COLOURS).max() <= 1 / 255


class TestTiff:
    @pytest.mark.parametrize("kind", ["miniswhite", "minisblack", "rgb", "rgba", "separated"])
    @pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4", "f8"])
    def test_every_way_to_store_a_drawing_shows_it(self, kind, dtype):
        dtype = np.dtype(dtype)
        is_grey = kind.startswith("minis")
        wanted = RAMP[..., None].repeat(3, axis=-1) if is_grey else COLOURS
        opaque, no_black = np.ones((40, 64, 1)), np.zeros((40, 64, 1))
        drawn = {
            "miniswhite": 1 - RAMP,
            "minisblack": RAMP,
            "rgb": COLOURS,
            "rgba": np.concatenate([COLOURS, opaque], -1),
            "separated": np.concatenate([1 - COLOURS, no_black], -1),
        }[kind]
        photometric = "rgb" if kind == "rgba" else kind
        more = {"extrasamples": ["unassalpha"]} if kind == "rgba" else {}
        n_seen = 0
        for order, packing, planes, tile, is_big in itertools.product(
            "<>", (None, "zlib"), (1, 2), (None, (16, 16)), (False, True)
        ):
            if is_grey and planes == 2:
                continue
            stored = np.moveaxis(drawn, -1, 0) if planes == 2 else drawn
            content = tiff(
                as_stored(stored, dtype),
                photometric=photometric,
                byteorder=order,
                compression=packing,
                planarconfig=None if is_grey else planes,
                tile=tile,
                bigtiff=is_big,
                **more,
            )
            away = np.abs(shown(content) - wanted).max()
            assert away <= 1.5 / 255, (order, packing, planes, tile, is_big)
            n_seen += 1
        assert n_seen == (16 if is_grey else 32)

    @pytest.mark.parametrize("order", ["II", "MM"])
    @pytest.mark.parametrize("bits", [9, 10, 12, 14])
    @pytest.mark.parametrize("photometric", [0, 1])
    @pytest.mark.parametrize("is_packed", [False, True])
    def test_bits_packed_across_bytes(self, order, bits, photometric, is_packed):
        e = "<" if order == "II" else ">"
        values = np.rint(RAMP * (2**bits - 1)).astype(int)
        if photometric == 0:
            values = 2**bits - 1 - values
        digits = "".join(f"{value:0{bits}b}" for value in values.ravel())  # rows end on a byte
        data = int(digits, 2).to_bytes(len(digits) // 8, "big")
        data = zlib.compress(data) if is_packed else data
        tags = [(256, 3, 64), (257, 3, 40), (258, 3, bits), (259, 3, 8 if is_packed else 1),
                (262, 3, photometric), (273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 3, 40),
                (279, 4, len(data))]  # fmt: skip
        body = order.encode() + struct.pack(e + "HIH", 42, 8, len(tags))
        for tag, kind, value in tags:
            padded = (value, 0) if kind == 3 else (value,)
            body += struct.pack(e + "HHI" + ("HH" if kind == 3 else "I"), tag, kind, 1, *padded)
        read = shown(body + struct.pack(e + "I", 0) + data)
        assert np.abs(read - RAMP[..., None]).max() <= 1 / 255

    @pytest.mark.parametrize("dtype", ["u1", "u2", "f8"])
    def test_orientation_is_applied_however_the_samples_are_read(self, dtype):
        # 6: the first row of the file is the right side of the picture.
        drawn = as_stored(RAMP, np.dtype(dtype))
        content = tiff(drawn, photometric="minisblack", extratags=[(274, "H", 1, 6, True)])
        read = decode(content)
        assert read.size == (40, 64)
        assert read.getpixel((0, 0))[0] == 0
        assert read.getpixel((0, 63))[0] == 255
        marked = drawn.copy()
        marked[0] = drawn.max()
        content = tiff(marked, photometric="minisblack", extratags=[(274, "H", 1, 6, True)])
        right = np.asarray(decode(content))[:, -1, 0]
        assert (right == 255).all()

    def test_half_transparent_floats_are_laid_on_white(self):
        half = np.concatenate([COLOURS, np.full((40, 64, 1), 0.5)], -1).astype("f4")
        content = tiff(half, photometric="rgb", extrasamples=["unassalpha"])
        assert np.abs(shown(content) - (COLOURS + 1) / 2).max() <= 2 / 255

    @pytest.mark.parametrize(
        ("drawn", "reason"),
        [
            (np.zeros((8, 8, 3), "u4"), "3 samples of 32 bits"),
            (np.zeros((8, 8, 3), "i2"), "3 signed samples of 16 bits"),
            (np.zeros((8, 8), "i8"), "1 signed sample of 64 bits"),
            (np.full((8, 8), -3, "i1"), "1 signed sample of 8 bits"),
            (np.full((8, 8, 3), 7.0, "f4"), "outside 0..1"),
            (np.full((8, 8), np.nan, "f8"), "outside 0..1"),
        ],
    )
    def test_what_is_not_read_is_named_as_what_it_is(self, drawn, reason):
        kind = "rgb" if drawn.ndim == 3 else "minisblack"
        with pytest.raises(UnreadableImageError, match=reason) as caught:
            decode(tiff(drawn, photometric=kind))
        assert "8 or 16 bits" in str(caught.value)

    @pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4", "f8"])
    @pytest.mark.parametrize("n_channels", [3, 5])
    def test_channels_of_a_microscope_are_not_cut_down_to_the_first(self, dtype, n_channels):
        drawn = as_stored(np.repeat(COLOURS, 2, axis=-1)[..., :n_channels], np.dtype(dtype))
        content = tiff(drawn, photometric="minisblack", planarconfig="contig")
        with pytest.raises(UnreadableImageError, match="save the channels that make a picture as"):
            decode(content)

    @pytest.mark.filterwarnings("ignore")
    def test_damage_anywhere_is_a_sentence_or_an_image(self):
        content = bytearray(tiff(as_stored(COLOURS, np.dtype("f4")), photometric="rgb"))
        generator = np.random.default_rng(0)
        n_refused = 0
        for _ in range(400):
            changed = bytearray(content)
            for at in generator.integers(0, 400, 3):
                changed[at] = generator.integers(0, 256)
            try:
                assert decode(bytes(changed)).mode == "RGB"
            except UnreadableImageError:
                n_refused += 1
        assert n_refused > 50

    def test_a_strip_that_unpacks_to_a_gigabyte_is_cut_short(self):
        small = tiff(as_stored(1 - RAMP, np.dtype("f8")), photometric="miniswhite", rowsperstrip=40,
                     compression="zlib")  # fmt: skip
        bomb = zlib.compress(bytes(1 << 28))
        tags = tifffile.TiffFile(io.BytesIO(small)).pages[0].tags
        changed = bytearray(small) + bomb
        struct.pack_into("<I", changed, tags["StripOffsets"].valueoffset, len(small))
        struct.pack_into("<I", changed, tags["StripByteCounts"].valueoffset, len(bomb))
        tracemalloc.start()
        assert np.asarray(decode(bytes(changed))).min() == 255  # all of it is zero, which is white
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 << 20


def lzw(content: bytes) -> bytes:
    """Packed as TIFF does, without ever learning a word: a clear code before it would need one."""
    codes = [256]
    for at, byte in enumerate(content, start=1):
        codes += [byte, 256] if at % 200 == 0 else [byte]
    digits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(digits + "0" * (-len(digits) % 8), 2).to_bytes(-(-len(digits) // 8), "big")


def by_libtiff(content: bytes) -> bytes:
    """Packed by libtiff, which learns words, as a picture of one row of bytes."""
    buffer = io.BytesIO()
    Image.frombytes("L", (len(content), 1), content).save(buffer, "TIFF", compression="tiff_lzw")
    page = tifffile.TiffFile(io.BytesIO(buffer.getvalue())).pages[0]
    (at,), (size,) = page.dataoffsets, page.databytecounts
    return buffer.getvalue()[at : at + size]


def pack_bits(content: bytes) -> bytes:
    parts = [content[at : at + 100] for at in range(0, len(content), 100)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


PACKINGS = {"lzw": (5, lzw), "lzw by libtiff": (5, by_libtiff), "packbits": (32773, pack_bits)}


def packed_tiff(drawn: np.ndarray, packing: str, order: str, n_rows: int, predictor: int) -> bytes:
    """A TIFF of strips of some rows, of floats or of whole numbers, written byte by byte."""
    number, pack = PACKINGS[packing]
    height, width, n_samples = drawn.shape
    n_bytes, is_float = drawn.dtype.itemsize, drawn.dtype.kind == "f"
    strips = []
    for first in range(0, height, n_rows):
        rows = drawn[first : first + n_rows]
        if predictor == 2:
            whole = rows.view(f"u{n_bytes}")
            rows = np.diff(whole, axis=1, prepend=np.zeros_like(whole[:, :1])).astype(whole.dtype)
            stored = rows.astype(f"{order}u{n_bytes}").tobytes()
        elif predictor == 3:
            planes = rows.astype(f">f{n_bytes}").view("u1").reshape(len(rows), -1, n_bytes)
            turned = planes.transpose(0, 2, 1).reshape(len(rows), -1, n_samples)
            stored = np.diff(turned, axis=1, prepend=np.zeros_like(turned[:, :1])).tobytes()
        else:
            stored = rows.astype(drawn.dtype.newbyteorder(order)).tobytes()
        strips.append(pack(stored))
    arrays = {258: [8 * n_bytes] * n_samples, 339: [3 if is_float else 1] * n_samples}
    ones = {256: width, 257: height, 259: number, 262: 2 if n_samples == 3 else 1, 277: n_samples,
            278: n_rows, 317: predictor}  # fmt: skip
    longs = {273: [0] * len(strips), 279: [len(strip) for strip in strips]}
    tags = sorted([*arrays, *ones, *longs])
    at = 8 + 2 + 12 * len(tags) + 4
    directory, extra = b"", b""
    for tag in tags:
        values = longs.get(tag) or arrays.get(tag) or [ones[tag]]
        kind, letter = (4, "I") if tag in longs else (3, "H")
        if tag == 273:
            values_at = at + len(extra)
            longs[273] = values
        body = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(body) > 4:
            where, extra = struct.pack(f"{order}I", at + len(extra)), extra + body
        else:
            where = body.ljust(4, b"\0")
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + where
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    made = bytearray(head + directory + bytes(4) + extra)
    offsets = np.cumsum([len(made), *map(len, strips)])[:-1]
    place = values_at if len(strips) > 1 else made.index(struct.pack(f"{order}HHI", 273, 4, 1)) + 8
    struct.pack_into(f"{order}{len(strips)}I", made, place, *offsets.tolist())
    return bytes(made) + b"".join(strips)


PREDICTED = ("f2 1", "f2 3", "f4 1", "f4 2", "f4 3", "f8 1", "u2 1", "u2 2")
"""Types of samples, and what their bytes were made from: samples, their differences, planes."""


class TestPackedTiff:
    """OpenCV writes float TIFFs with LZW, which Pillow gives with the wrong bytes or not at all."""

    @pytest.mark.parametrize("packing", PACKINGS)
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("stored", PREDICTED)
    @pytest.mark.parametrize("is_grey", [False, True])
    def test_every_way_to_pack_a_drawing_shows_it(self, packing, order, stored, is_grey):
        dtype, predictor = stored.split()
        if packing == "packbits":
            predictor = "1"  # goes with the others alone
        wanted = RAMP[..., None] if is_grey else COLOURS
        for n_rows in (40, 7):
            drawn = as_stored(wanted, np.dtype(dtype))
            content = packed_tiff(drawn, packing, order, n_rows, int(predictor))
            read = tifffile.TiffFile(io.BytesIO(content)).pages[0]
            assert (read.shape[:2], read.dtype) == ((40, 64), drawn.dtype)
            assert np.abs(shown(content) - wanted).max() <= 1.5 / 255, n_rows

    @pytest.mark.parametrize("packing", PACKINGS)
    def test_damage_is_a_sentence(self, packing):
        drawn = as_stored(COLOURS, np.dtype("f4"))
        content = packed_tiff(drawn, packing, ">", 40, 1)
        with pytest.raises(UnreadableImageError, match="damaged or cut off"):
            decode(content[:-2000])
        generator = np.random.default_rng(0)
        n_refused = 0
        for _ in range(60):
            changed = bytearray(content)
            for at in generator.integers(200, len(content), 5):
                changed[at] = generator.integers(0, 256)
            try:
                assert decode(bytes(changed)).size == (64, 40)
            except UnreadableImageError:
                n_refused += 1
        assert n_refused > 30


def png_with(**texts: bytes) -> bytes:
    """A PNG of colours with chunks put before its pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(COLOURS * 255).astype(np.uint8)).save(buffer, "PNG")
    plain = buffer.getvalue()
    made = b"".join(
        struct.pack(">I", len(body)) + name.encode() + body
        + struct.pack(">I", zlib.crc32(name.encode() + body))
        for name, body in texts.items()
    )  # fmt: skip
    return plain[:33] + made + plain[33:]


class TestPngMetadata:
    """Browsers show all of these."""

    @pytest.mark.parametrize(
        "chunks",
        [
            {"tEXt": b"Comment\0" + b"x" * (3 << 20)},
            {"zTXt": b"Comment\0\0" + zlib.compress(b"x" * (3 << 20))},
            {"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * (3 << 20))},
            {"iTXt": b"XML:com.adobe.xmp\0\0\0\0\0" + b" " * (70 << 20)},
            {"iCCP": b"icc\0\0" + zlib.compress(np.random.default_rng(0).bytes(2 << 20))},
            {"zTXt": b"Comment\0\0" + b"not compressed at all"},
            {"iTXt": b"broken"},
        ],
        ids=["text", "packed text", "packed XMP", "70 MB of XMP", "profile", "garbage", "broken"],
    )
    def test_no_text_costs_the_pixels(self, chunks):
        assert np.array_equal(shown(png_with(**chunks)), np.rint(COLOURS * 255) / 255)

    def test_many_short_texts(self):
        texts = PngImagePlugin.PngInfo()
        for number in range(100):
            texts.add_text(f"part {number}", "x" * 900_000, zip=True)
        buffer = io.BytesIO()
        drawn = Image.fromarray(np.rint(COLOURS * 255).astype(np.uint8))
        drawn.save(buffer, "PNG", pnginfo=texts)
        assert np.array_equal(np.asarray(decode(buffer.getvalue())), np.asarray(drawn))

    def test_orientation_in_a_short_text_still_counts(self):
        xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
        content = png_with(iTXt=b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
        assert decode(content).size == (40, 64)


class TestOtherKinds:
    @pytest.mark.parametrize("maximum", [1, 15, 255, 1023, 4095, 65535])
    def test_portable_greymaps_of_any_depth(self, maximum):
        values = np.rint(RAMP * maximum).astype(">u2" if maximum > 255 else "u1")
        content = b"P5 64 40 %d\n" % maximum + values.tobytes()
        wanted = np.rint(RAMP * maximum) / maximum
        assert np.abs(shown(content)[..., 0] - wanted).max() <= 1 / 255

    def test_avif(self):
        buffer = io.BytesIO()
        drawn = Image.fromarray(np.rint(COLOURS * 255).astype(np.uint8))
        drawn.save(buffer, "AVIF", quality=100, subsampling="4:4:4")
        assert np.abs(shown(buffer.getvalue()) - COLOURS).max() < 0.03

    def test_palettes_with_transparency_as_another_decoder_reads_them(self):
        import torch
        from torchvision.io import ImageReadMode, decode_image

        drawn = Image.fromarray(np.rint(COLOURS * 255).astype(np.uint8)).quantize(16)
        buffer = io.BytesIO()
        drawn.save(buffer, "PNG", transparency=bytes(range(0, 256, 16)))
        content = buffer.getvalue()
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        rgba = decode_image(data, ImageReadMode.RGB_ALPHA).numpy().transpose(1, 2, 0) / 255
        wanted = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
        assert np.abs(shown(content) - wanted).max() <= 1 / 255

    def test_a_jpeg_of_12_bits_is_not_called_damaged(self):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16)).save(buffer, "JPEG")
        content = buffer.getvalue()
        at = content.index(b"\xff\xc0") + 4
        with pytest.raises(UnreadableImageError, match="12 bits a sample"):
            decode(content[:at] + b"\x0c" + content[at + 1 :])

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
            (b"\x1f\x8b\x08" + bytes(20), "gzip"),
            (b"PK\x03\x04" + bytes(20), "ZIP"),
            (b"%PDF-1.7\n", "PDF"),
            (b"\n <svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ],
    )
    def test_other_files_are_named(self, content, what):
        with pytest.raises(UnreadableImageError, match=what):
            decode(content)


class TestJpeg2000:
    """Where Pillow was built with what reads it; else it is counted and named."""

    drawn = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)

    def saved(self, image: Image.Image, **how) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG2000", irreversible=False, **how)
        return buffer.getvalue()

    @pytest.mark.parametrize("no_jp2", [False, True])
    def test_colours_are_read_without_loss(self, no_jp2):
        content = self.saved(Image.fromarray(self.drawn), no_jp2=no_jp2)
        np.testing.assert_array_equal(np.asarray(decode(content)), self.drawn)
        assert formats.is_image_name("x.JP2")

    def test_deep_grey_is_scaled(self):
        grey = np.arange(72, dtype=np.uint16).reshape(9, 8) * 900
        found = np.asarray(decode(self.saved(Image.fromarray(grey))))
        np.testing.assert_array_equal(found[..., 1], np.rint(grey / 257).astype(np.uint8))

    def test_a_cut_one_is_damaged(self):
        for content in (b"\x00\x00\x00\x0cjP  \r\n\x87\n", self.saved(Image.new("L", (9, 8)))[:60]):
            with pytest.raises(UnreadableImageError, match="damaged or cut off"):
                decode(content)

    def test_a_pillow_without_it_says_so(self, monkeypatch):
        content = self.saved(Image.fromarray(self.drawn))
        monkeypatch.setattr("PIL.features.check", lambda name: False)
        with pytest.raises(UnreadableImageError, match="needs a Pillow with OpenJPEG"):
            decode(content)
        assert "OpenJPEG" in formats.why_not_read("x.jp2")


@pytest.fixture
def nothing_installed(monkeypatch):
    """As where only what the project needs is installed."""
    monkeypatch.setattr(formats.ImageFormat, "is_readable", property(lambda self: not self.module))
    formats.image_endings.cache_clear()
    yield
    formats.image_endings.cache_clear()


def heic(drawn: Image.Image, **options) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(drawn).save(buffer, quality=-1, **options)
    return buffer.getvalue()


class TestTelephones:
    def test_heic_shows_its_picture_whatever_it_is_called(self, tmp_path):
        drawn = Image.fromarray(np.rint(COLOURS * 255).astype(np.uint8))
        content = heic(drawn, chroma=444)
        assert np.abs(shown(content) - COLOURS).max() < 0.03
        (tmp_path / "telephone.HEIC").write_bytes(content)
        (tmp_path / "sent.jpg").write_bytes(content)
        assert len(read_probe_set(tmp_path)) == 2

    @pytest.mark.parametrize("orientation", [3, 6, 8])
    def test_heic_is_turned_once(self, orientation):
        drawn = Image.fromarray(np.rint(COLOURS * 255).astype(np.uint8))
        exif = Image.Exif()
        exif[0x0112] = orientation
        pillow_heif = pytest.importorskip("pillow_heif")
        made = pillow_heif.from_pillow(drawn)
        buffer = io.BytesIO()
        made.save(buffer, quality=-1, chroma=444, exif=exif.tobytes())
        turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_270,
                8: Image.Transpose.ROTATE_90}[orientation]  # fmt: skip
        wanted = np.asarray(drawn.transpose(turn)) / 255
        assert np.abs(shown(buffer.getvalue()) - wanted).max() < 0.03

    def test_without_the_package_the_sentence_says_what_to_install(self, nothing_installed):
        header = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
        with pytest.raises(UnreadableImageError, match=r"pillow-heif: pip install .*\[heif\]"):
            decode(header)


def dicom(stored: np.ndarray, kind: str = "MONOCHROME2", **elements) -> bytes:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    data.Rows, data.Columns = stored.shape[:2]
    data.SamplesPerPixel = stored.shape[2] if stored.ndim == 3 else 1
    if stored.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = kind
    data.BitsAllocated = 8 * stored.dtype.itemsize
    data.BitsStored = elements.pop("BitsStored", data.BitsAllocated)
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    frames = elements.pop("both_frames", stored)
    for name, value in elements.items():
        setattr(data, name, value)
    data.PixelData = frames.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


class TestClinics:
    @pytest.mark.parametrize("bits", [8, 10, 12, 16])
    def test_grey_fills_the_range_of_its_stored_bits(self, bits):
        stored = np.rint(RAMP * (2**bits - 1)).astype("u1" if bits == 8 else "<u2")
        read = shown(dicom(stored, BitsStored=bits))
        assert np.abs(read - RAMP[..., None]).max() <= 1 / 255

    def test_white_is_zero(self):
        stored = np.rint((1 - RAMP) * 4095).astype("<u2")
        read = shown(dicom(stored, "MONOCHROME1", BitsStored=12))
        assert np.abs(read - RAMP[..., None]).max() <= 1 / 255

    def test_signed_values_without_a_window(self):
        stored = np.rint(RAMP * 4095 - 2048).astype("<i2")
        read = shown(dicom(stored, BitsStored=12, RescaleSlope=2, RescaleIntercept=-10))
        assert np.abs(read - RAMP[..., None]).max() <= 1 / 255

    def test_a_window_in_hounsfield_units(self):
        stored = np.arange(0, 2560).reshape(40, 64).astype("<u2")
        content = dicom(
            stored, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024,
            WindowCenter=[40, 400], WindowWidth=[400, 2000],
        )  # fmt: skip
        # The formula of the standard, PS3.3 C.11.2.1.2.1, on the first window.
        units = stored.astype(float) - 1024
        wanted = np.clip((units - 39.5) / 399 + 0.5, 0, 1)
        assert np.abs(shown(content)[..., 0] - wanted).max() <= 1 / 255

    def test_colour(self):
        stored = np.rint(COLOURS * 255).astype("u1")
        assert np.array_equal(shown(dicom(stored, "RGB")), stored / 255)

    def test_a_palette_of_16_bits(self):
        tables = {
            f"{name}PaletteColorLookupTable{part}": value
            for name, ramp in (("Red", 1), ("Green", -1), ("Blue", 0))
            for part, value in (
                ("Descriptor", [256, 0, 16]),
                ("Data", ((np.arange(256)[::ramp] if ramp else np.zeros(256)) * 257)
                 .astype("<u2").tobytes()),
            )
        }  # fmt: skip
        stored = np.arange(256).reshape(16, 16).astype("u1")
        read = np.asarray(decode(dicom(stored, "PALETTE COLOR", **tables)))
        assert np.array_equal(read[..., 0], stored)
        assert np.array_equal(read[..., 1], 255 - stored)
        assert not read[..., 2].any()

    def test_of_several_frames_the_first(self):
        stored = np.stack([np.zeros((8, 8)), np.full((8, 8), 255)]).astype("u1")
        content = dicom(stored[0], NumberOfFrames=2, both_frames=stored)
        assert np.asarray(decode(content)).max() == 0

    def test_without_a_picture_and_without_the_package(self, nothing_installed):
        with pytest.raises(UnreadableImageError, match=r"pydicom: pip install .*\[dicom\]"):
            decode(dicom(np.zeros((4, 4), "u1")))

    def test_a_size_beyond_reason_is_refused_before_memory_is_taken(self):
        content = bytearray(dicom(np.zeros((4, 4), "u1")))
        for tag in (b"\x28\x00\x10\x00US", b"\x28\x00\x11\x00US"):
            struct.pack_into("<H", content, content.index(tag) + 8, 65535)
        with pytest.raises(UnreadableImageError, match="million pixels"):
            decode(bytes(content))


class TestSmallFilesThatUnpackToMuch:
    """With a limit of 200,000 pixels; a file says less of its size than it unpacks to."""

    @pytest.fixture(autouse=True)
    def few_pixels(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)

    @staticmethod
    def refused(content: bytes) -> str:
        tracemalloc.start()
        try:
            with pytest.raises(UnreadableImageError) as told:
                decode(content)
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()
        return str(told.value)

    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    def test_a_tiff_of_many_samples_is_refused_before_it_is_unpacked(self, dtype):
        content = tiff(np.zeros((60, 60, 400), dtype), photometric="minisblack",
                       planarconfig="contig", compression="zlib")  # fmt: skip
        assert len(content) < 100_000
        assert "400 float samples" in self.refused(content)

    def test_a_tiff_whose_tiles_are_larger_than_its_image_is_refused(self):
        content = tiff(np.zeros((16, 16), "f8"), tile=(2048, 2048), compression="zlib",
                       photometric="minisblack")  # fmt: skip
        assert len(content) < 100_000
        assert "in all more than 1 MB" in self.refused(content)
        usual = np.full((16, 16), 1, "f8")
        content = tiff(usual, tile=(256, 256), compression="zlib", photometric="minisblack")
        assert (shown(content) == 1).all()

    def test_floats_are_unpacked_a_few_rows_at_a_time(self, monkeypatch):
        """A strip of 32 MB, which zlib holds in a buffer of up to twice that."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4_000_000)
        content = tiff(np.zeros((2000, 2000), "f8"), photometric="minisblack", compression="zlib",
                       rowsperstrip=2000)  # fmt: skip
        assert len(content) < 100_000
        tracemalloc.start()
        shown(content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 120 << 20

    def test_more_than_half_a_gigabyte_is_refused_however_few_the_pixels(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90_000_000)
        content = tiff(np.zeros((4, 4), "f8"), photometric="minisblack", compression="zlib",
                       tile=(4096, 16))  # fmt: skip
        changed = bytearray(content)
        tags = tifffile.TiffFile(io.BytesIO(content)).pages[0].tags
        for name in ("TileWidth", "TileLength"):
            tag = tags[name]
            struct.pack_into("<I" if tag.dtype == 4 else "<H", changed, tag.valueoffset, 16384)
        with pytest.raises(UnreadableImageError, match="in all more than 536 MB"):
            decode(bytes(changed))

    def test_twelve_bits_take_few_bytes_a_pixel(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
        packed = zlib.compress(bytes([0x80, 0x08]) * (2000 * 2000 * 9 // 4))
        entries = ((256, 4, 2000), (257, 4, 2000), (258, 3, 12), (259, 3, 8), (262, 3, 2),
                   (273, 4, 134), (277, 3, 3), (278, 4, 2000), (279, 4, len(packed)),
                   (284, 3, 1))  # fmt: skip
        head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        directory = b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in entries)
        tracemalloc.start()
        image = decode((head + directory).ljust(134, b"\0") + packed)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert image.size == (2000, 2000)
        assert peak < 30 * 2000 * 2000

    def test_texts_of_a_png_are_not_unpacked_beyond_what_is_kept(self, monkeypatch):
        from csp_engine.probe.decoding import picture as decoding

        body = b"a\0\0" + zlib.compress(bytes((1 << 20) - 1), 9)
        text = struct.pack(">I", len(body)) + b"zTXt" + body
        text += struct.pack(">I", zlib.crc32(b"zTXt" + body))
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
        png = buffer.getvalue()
        unpacked, measure = [], decoding._unpacked_size
        monkeypatch.setattr(
            decoding, "_unpacked_size", lambda *chunk: unpacked.append(1) or measure(*chunk)
        )
        assert decode(png[:33] + 100 * text + png[33:]).getpixel((4, 4)) == (255, 0, 0)
        assert len(unpacked) == 33  # 32 MB are kept at most

    @pytest.mark.parametrize(("n_more", "is_read"), [(1000, True), (8_000_000, False)])
    def test_a_deflated_dicom_is_unpacked_as_far_as_pictures_go(self, n_more, is_read):
        pydicom = pytest.importorskip("pydicom")
        data = pydicom.dataset.Dataset()
        data.Rows, data.Columns, data.SamplesPerPixel = 8, 8, 1
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PhotometricInterpretation = "MONOCHROME2"
        data.add_new(0x00091010, "OB", bytes(n_more))
        data.PixelData = bytes([255]) * 64
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        buffer = io.BytesIO()
        data.save_as(buffer, enforce_file_format=True)
        content = buffer.getvalue()
        assert len(content) < 20_000
        if is_read:
            assert (shown(content) == 1).all()
        else:
            assert "million pixels" in self.refused(content)
