"""Known pixels are drawn, saved in each format, and read back."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from csp_engine.errors import InputError, UnreadableImageError
from csp_engine.probe.decoding import decode
from csp_engine.probe.images import (
    NO_INFORMATION,
    near_duplicate_groups,
    perceptual_hash,
    thumbnail,
)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def blocks(seed: int = 0, rows: int = 5, columns: int = 7, side: int = 16) -> Image.Image:
    """Random flat colour blocks, so that JPEG keeps the colour of each block's middle."""
    colours = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(colours, np.ones((side, side, 1), np.uint8)))


def photo(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Smooth random colours over many scales: the nearest to a photograph that can be drawn."""
    generator = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12, 24):
        noise = generator.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        total += np.asarray(Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC), float)
    return Image.fromarray((total / 4).astype(np.uint8))


def middles(image: Image.Image, side: int = 16) -> np.ndarray:
    return np.asarray(image, dtype=int)[side // 2 :: side, side // 2 :: side]


def png(pixels: np.ndarray, depth: int, colour_type: int, transparent: bytes = b"") -> bytes:
    """A PNG written by hand, because Pillow writes no 16-bit colour."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    height, width = pixels.shape[:2]
    rows = pixels.astype(">u2" if depth == 16 else "u1").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


GREYS_16 = np.array([[0, 128, 257, 32768, 65407, 65535]])
GREYS_8 = [0, 0, 1, 128, 255, 255]  # round(v / 257)


class TestDecode:
    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("PNG", {}),
            ("BMP", {}),
            ("PPM", {}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("WEBP", {"lossless": True}),
        ],
    )
    def test_lossless_formats_return_the_drawn_pixels(self, kind, options):
        drawn = blocks()
        read = decode(encode(drawn, kind, **options))
        assert read.mode == "RGB"
        assert np.array_equal(np.asarray(read), np.asarray(drawn))

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("JPEG", {"quality": 95, "subsampling": 0}),
            ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
            ("MPO", {"quality": 95, "subsampling": 0}),
            ("WEBP", {"quality": 100}),
        ],
    )
    def test_lossy_formats_return_nearly_the_drawn_pixels(self, kind, options):
        drawn = blocks()
        difference = middles(decode(encode(drawn, kind, **options))) - middles(drawn)
        assert np.abs(difference).max() <= 6

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_every_exif_orientation_ends_upright(self, orientation, kind):
        upright = blocks(rows=2, columns=3)
        transpose = Image.Transpose
        # What a camera held that way stores: the inverse of what a viewer must do.
        stored = {
            1: upright,
            2: upright.transpose(transpose.FLIP_LEFT_RIGHT),
            3: upright.transpose(transpose.ROTATE_180),
            4: upright.transpose(transpose.FLIP_TOP_BOTTOM),
            5: upright.transpose(transpose.TRANSPOSE),
            6: upright.transpose(transpose.ROTATE_90),
            7: upright.transpose(transpose.TRANSVERSE),
            8: upright.transpose(transpose.ROTATE_270),
        }[orientation]
        exif = Image.Exif()
        exif[0x0112] = orientation
        options = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
        read = decode(encode(stored, kind, exif=exif, **options))
        assert read.size == upright.size
        assert np.abs(middles(read) - middles(upright)).max() <= 30

    def test_damaged_exif_does_not_lose_the_pixels(self):
        drawn = blocks()
        read = decode(encode(drawn, "PNG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff broken"))
        assert np.array_equal(np.asarray(read), np.asarray(drawn))

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
    def test_grey_becomes_three_equal_channels(self, kind):
        grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
        read = np.asarray(decode(encode(grey, kind)))
        assert np.array_equal(read, np.asarray(grey)[..., None].repeat(3, axis=2))

    def test_one_bit_images_are_black_and_white(self):
        bits = Image.fromarray(np.eye(8, dtype=bool))
        assert np.array_equal(np.asarray(decode(encode(bits, "PNG")))[..., 1], np.eye(8) * 255)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
    def test_transparency_is_laid_on_white(self, kind):
        colour = np.array([200, 100, 0])
        pixels = np.zeros((2, 3, 4), np.uint8)
        pixels[..., :3] = colour
        pixels[0, :, 3] = [0, 128, 255]
        pixels[1, :, 3] = 255
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        read = np.asarray(decode(encode(Image.fromarray(pixels), kind, **options)), dtype=int)
        alpha = pixels[..., 3:] / 255
        assert np.abs(read - (alpha * colour + (1 - alpha) * 255)).max() <= 1

    def test_grey_with_alpha_is_laid_on_white(self):
        pixels = np.array([[[50, 0], [50, 255]]], np.uint8)
        read = np.asarray(decode(encode(Image.fromarray(pixels, "LA"), "PNG")))
        assert read[0, :, 0].tolist() == [255, 50]

    def test_opaque_alpha_changes_nothing(self):
        drawn = blocks()
        opaque = drawn.copy()
        opaque.putalpha(255)
        assert np.array_equal(np.asarray(decode(encode(opaque, "PNG"))), np.asarray(drawn))

    @pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP"])
    def test_palette_images_show_their_colours(self, kind):
        drawn = blocks(rows=2, columns=3)
        palette = drawn.quantize(6, dither=Image.Dither.NONE)
        read = decode(encode(palette, kind))
        assert np.array_equal(np.asarray(read), np.asarray(palette.convert("RGB")))

    @pytest.mark.parametrize("kind", ["PNG", "GIF"])
    def test_transparent_palette_entries_are_white(self, kind):
        palette = Image.new("P", (2, 1))
        palette.putpalette([10, 20, 30, 40, 50, 60])
        palette.putpixel((1, 0), 1)
        read = np.asarray(decode(encode(palette, kind, transparency=0)))
        assert read[0].tolist() == [[255, 255, 255], [40, 50, 60]]

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk_comes_out_in_the_right_colours(self, kind):
        # Pillow stores CMYK JPEGs inverted with Adobe's marker, as Photoshop does.
        inks = Image.new("CMYK", (64, 16))
        wanted = [(255, 255, 255), (0, 255, 255), (255, 0, 255), (0, 0, 0)]
        for i, ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 0, 255)]):
            inks.paste(ink, (16 * i, 0, 16 * i + 16, 16))
        content = encode(inks, kind, **({"quality": 100} if kind == "JPEG" else {}))
        assert (b"Adobe" in content) == (kind == "JPEG")
        assert np.abs(middles(decode(content))[0] - wanted).max() <= 6

    def test_16_bit_grey_is_scaled_over_its_full_range(self):
        assert np.asarray(decode(png(GREYS_16, 16, 0)))[0, :, 0].tolist() == GREYS_8

    def test_16_bit_grey_with_a_transparent_value(self):
        read = np.asarray(decode(png(GREYS_16, 16, 0, struct.pack(">H", 32768))))
        assert read[0, :, 0].tolist() == [0, 0, 1, 255, 255, 255]

    def test_16_bit_colour_keeps_its_colours(self):
        pixels = np.stack([GREYS_16, GREYS_16[:, ::-1], 0 * GREYS_16], axis=-1)
        read = np.asarray(decode(png(pixels, 16, 2)), dtype=int)
        assert np.abs(read - np.rint(pixels / 257)).max() <= 1

    def test_16_bit_colour_with_a_transparent_colour(self):
        pixels = np.array([[[257, 514, 771], [65535, 0, 0]]])
        read = np.asarray(decode(png(pixels, 16, 2, struct.pack(">HHH", 257, 514, 771))))
        assert read[0].tolist() == [[255, 255, 255], [255, 0, 0]]

    @pytest.mark.parametrize("colour_type", [4, 6])
    def test_16_bit_alpha_is_laid_on_white(self, colour_type):
        alpha = np.array([[0, 65535]])
        grey = np.array([[1000, 51400]])
        channels = [grey] * (1 if colour_type == 4 else 3) + [alpha]
        read = np.asarray(decode(png(np.stack(channels, axis=-1), 16, colour_type)))
        assert read[0, :, 0].tolist() == [255, 200]

    @pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32"])
    def test_16_bit_tiff_in_either_byte_order_and_as_integers(self, dtype):
        image = Image.fromarray(GREYS_16.astype(dtype))
        assert np.asarray(decode(encode(image, "TIFF")))[0, :, 0].tolist() == GREYS_8

    def test_16_bit_pgm(self):
        content = b"P5 6 1 65535\n" + GREYS_16.astype(">u2").tobytes()
        assert np.asarray(decode(content))[0, :, 0].tolist() == GREYS_8

    def test_float_grey_between_0_and_1(self):
        image = Image.fromarray(np.array([[0, 0.25, 1]], np.float32))
        assert np.asarray(decode(encode(image, "TIFF")))[0, :, 0].tolist() == [0, 64, 255]

    @pytest.mark.parametrize(
        "pixels",
        [
            np.array([[0, 70000]], np.int32),
            np.array([[-1, 5]], np.int32),
            np.array([[0, 255]], np.int32),
            np.array([[0, 3.5]], np.float32),
            np.array([[0, np.nan]], np.float32),
        ],
    )
    def test_grey_of_unknown_scale_is_refused(self, pixels):
        with pytest.raises(UnreadableImageError, match="8 or 16 bits"):
            decode(encode(Image.fromarray(pixels), "TIFF"))

    def test_animations_show_their_first_picture(self):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
        content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert decode(content).getpixel((4, 4)) == (255, 0, 0)

    def test_the_result_is_loaded_and_its_pixels_can_be_changed(self):
        image = decode(encode(blocks(), "JPEG"))
        image.putpixel((0, 0), (1, 2, 3))
        assert image.getpixel((0, 0)) == (1, 2, 3)

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("JPEG", {}),
            ("JPEG", {"progressive": True}),
            ("PNG", {}),
            ("WEBP", {}),
            ("BMP", {}),
            ("GIF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("PPM", {}),
        ],
    )
    def test_a_file_cut_anywhere_is_an_error_or_complete(self, kind, options):
        content = encode(blocks().resize((24, 18)), kind, **options)
        whole = np.asarray(decode(content))
        n_refused = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for length in range(0, len(content), 3):
                try:
                    read = decode(content[:length])
                except UnreadableImageError:
                    n_refused += 1
                else:
                    assert np.array_equal(np.asarray(read), whole)
        assert n_refused > 0.9 * len(range(0, len(content), 3))

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "empty"),
            (b"not an image at all", "not a JPEG"),
            (b"<html><body>404</body></html>", "a web page"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a JPEG"),
            (b"\xff\xd8\xff", "cut off|not a JPEG"),
            (png(np.zeros((1, 1)), 8, 0)[:40], "cut off|not a JPEG"),
        ],
    )
    def test_anything_else_is_one_short_sentence(self, content, reason):
        with pytest.raises(UnreadableImageError, match=reason) as caught:
            decode(content)
        assert len(str(caught.value)) < 180
        assert "\n" not in str(caught.value)

    def test_zero_width_is_an_error(self):
        with pytest.raises(UnreadableImageError):
            decode(b"P6 0 4 255\n")

    def test_a_decompression_bomb_is_refused_before_it_unpacks(self):
        bomb = png(np.zeros((1, 1)), 8, 0)
        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
        bomb = bomb[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + bomb[33:]
        with pytest.raises(UnreadableImageError, match="million pixels"):
            decode(bomb)


class TestThumbnail:
    @pytest.mark.parametrize(
        ("size", "wanted"),
        [
            ((320, 240), (160, 120)),
            ((240, 320), (120, 160)),
            ((1000, 3), (160, 1)),
            ((32, 8), (32, 8)),
        ],
    )
    def test_longest_side_and_aspect(self, size, wanted):
        content = thumbnail(Image.new("RGB", size, "teal"))
        with Image.open(io.BytesIO(content)) as read:
            assert read.format == "WEBP"
            assert read.size == wanted

    def test_it_shows_the_image_and_leaves_the_original_alone(self):
        drawn = photo(1)
        before = drawn.tobytes()
        read = decode(thumbnail(drawn, side=80))
        wanted = np.asarray(drawn.resize((80, 60), Image.Resampling.BOX), dtype=float)
        assert drawn.tobytes() == before
        assert np.abs(np.asarray(read) - wanted).mean() < 8


class TestPerceptualHash:
    def test_terms_are_those_of_scipy(self):
        from scipy.fft import dctn

        image = photo(3)
        grey = image.convert("L").resize((32, 32), Image.Resampling.BOX)
        terms = dctn(np.asarray(grey, float), norm="ortho")
        order = sorted((i + j, i, j) for i in range(32) for j in range(32) if i + j)[:64]
        wanted = int("".join("1" if terms[i, j] > 0 else "0" for _, i, j in order), 2)
        assert perceptual_hash(image) == wanted != NO_INFORMATION

    @pytest.mark.parametrize(
        "change",
        [
            lambda image: decode(encode(image, "JPEG", quality=50)),
            lambda image: decode(encode(image, "WEBP", quality=60)),
            lambda image: image.resize((224, 168), Image.Resampling.BILINEAR),
            lambda image: image.resize((640, 480), Image.Resampling.BICUBIC),
        ],
    )
    def test_copies_stay_within_four_bits(self, change):
        for seed in range(10):
            image = photo(seed)
            distance = (perceptual_hash(image) ^ perceptual_hash(change(image))).bit_count()
            assert distance <= 4

    def test_different_images_are_far_apart(self):
        hashes = [perceptual_hash(photo(seed)) for seed in range(30)]
        near = min((a ^ b).bit_count() for i, a in enumerate(hashes) for b in hashes[:i])
        assert near > 8

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_blank_images_have_no_information(self, level):
        assert perceptual_hash(Image.new("RGB", (64, 48), (level,) * 3)) == NO_INFORMATION

    def test_neither_do_faint_noise_or_even_stripes(self):
        noise = 250 + np.random.default_rng(0).integers(0, 3, (240, 320, 3))
        stripes = np.zeros((240, 320, 3)) + 255 * (np.arange(320)[None, :, None] // 20 % 2)
        for pixels in (noise, stripes):
            image = Image.fromarray(pixels.astype(np.uint8))
            assert perceptual_hash(image) == NO_INFORMATION

    def test_one_pixel_images_are_fine(self):
        assert perceptual_hash(Image.new("RGB", (1, 1))) == NO_INFORMATION


def groups(hashes: list[int], contents: str, distance: int = 4) -> list[int]:
    return near_duplicate_groups(np.array(hashes, np.uint64), list(contents), distance).tolist()


class TestNearDuplicateGroups:
    def test_distance_is_inclusive(self):
        assert groups([0xFF00, 0xFF0F, 0xE0E0], "abc") == [0, 0, 2]
        assert groups([0xFF00, 0xFF1F], "ab") == [0, 1]

    def test_chains_join(self):
        assert groups([0xF000, 0xF00F, 0xF0FF], "abc") == [0, 0, 0]

    def test_equal_content_joins_whatever_the_hash(self):
        assert groups([0, 0xFFFF_FFFF, 0], "aba") == [0, 1, 0]

    def test_images_without_information_stay_apart(self):
        assert groups([0, 0, 1], "abc") == [0, 1, 2]

    def test_content_and_hash_chain_together(self):
        # 3 equals 1 in content and looks like 0; 4 has no information but the content of 2.
        assert groups([0xABC0, 0, 0, 0xABC1, 0], "xyzyz") == [0, 0, 2, 0, 2]

    def test_distance_zero_joins_equal_hashes_only(self):
        assert groups([7, 7, 6], "abc", distance=0) == [0, 0, 2]

    def test_nothing_gives_nothing(self):
        assert groups([], "") == []

    @pytest.mark.parametrize("distance", [-1, 11])
    def test_distances_out_of_range_are_refused(self, distance):
        with pytest.raises(InputError, match="0 to 10"):
            groups([1, 2], "ab", distance)

    def test_crowded_hashes_of_one_kind_of_photograph(self):
        # 20,000 images that differ in 16 bits only: every band is shared by many.
        generator = np.random.default_rng(0)
        few_bits = generator.choice(64, 16, replace=False)
        draws = generator.integers(0, 2, (20_000, 16), dtype=np.uint64)
        hashes = (draws << few_bits.astype(np.uint64)).sum(axis=1, dtype=np.uint64)
        group = near_duplicate_groups(hashes, [str(i) for i in range(len(hashes))], 2)
        informative = hashes != 0
        assert len(np.unique(group[informative])) == 1

    @pytest.mark.slow
    def test_one_dermatoscope_does_not_make_one_group(self, shared_data):
        files = sorted((shared_data / "images" / "isic2017").glob("*.jpg"))[:500]
        images = [decode(file.read_bytes()) for file in files]
        copies = [decode(encode(image, "JPEG", quality=70)) for image in images[:100]]
        hashes = [perceptual_hash(image) for image in images + copies]
        group = near_duplicate_groups(
            np.array(hashes, np.uint64), [str(i) for i in range(len(hashes))]
        )
        n_joined = int((group[:500] != np.arange(500)).sum())
        n_found = int((group[500:] == group[:100]).sum())
        assert n_joined <= 5
        assert n_found >= 99


def test_a_jpeg_of_very_many_scans_is_refused_and_a_usual_one_is_read():
    held = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(held, "JPEG", progressive=True)
    content = held.getvalue()
    first = content.rindex(b"\xff\xda")
    longer = content[:-2] + content[first:-2] * 200 + content[-2:]
    assert decode(content).size == (64, 64)
    with pytest.raises(UnreadableImageError, match=r"has 2\d\d scans; save it again"):
        decode(longer)
