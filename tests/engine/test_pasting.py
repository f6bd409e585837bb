"""Pasted artefacts: nothing else changes, the lesion stays free, equal inputs give equal pixels."""

from __future__ import annotations

import logging
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from csp_engine.demo.simulator.cases import draw_cases
from csp_engine.demo.simulator.render import Photograph, render
from csp_engine.errors import CspError, InputError, UnreadableImageError
from csp_engine.pasting import artefacts
from csp_engine.pasting.canvas import SIDE, Frame
from csp_engine.pasting.cutouts import read_cutouts
from csp_engine.pasting.lesion import find_lesion
from csp_engine.pasting.pairs import ImagePairs
from csp_engine.pasting.paste import ARTEFACTS, NoPlaceError, Pasted, paste
from csp_engine.pasting.pasted import PastedPairs
from csp_engine.probe import read_probe_set
from csp_engine.probe.decoding.mask import decode_mask

SIZES = [(256, 256), (320, 200), (90, 260)]


def skin(size: tuple[int, int] = (256, 256), seed: int = 0) -> Image.Image:
    """Noisy skin with an oval, dark lesion in the middle."""
    width, height = size
    rng = np.random.default_rng(seed)
    y_hw, x_hw = np.mgrid[:height, :width]
    off_hw = np.hypot((x_hw - width / 2) / width, (y_hw - height / 2) / height)
    pixels_hwc = np.where((off_hw < 0.16)[..., None], (92, 58, 44), (214, 168, 146))
    pixels_hwc = pixels_hwc + rng.normal(0, 5, (height, width, 3))
    return Image.fromarray(pixels_hwc.clip(0, 255).astype(np.uint8))


@cache
def simulated() -> list[Photograph]:
    return [render(case) for case in draw_cases("clean", 14, seed=5).to_dict("records")]


def cutout_folder(folder: Path) -> Path:
    (folder / "plaster").mkdir(parents=True)
    picture = Image.new("RGBA", (60, 50), (0, 0, 0, 0))
    ImageDraw.Draw(picture).ellipse((8, 8, 40, 36), fill=(20, 200, 240, 255))
    picture.save(folder / "plaster" / "round.png")
    picture.crop((0, 0, 25, 50)).save(folder / "clip-2.png")
    return folder


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def changed(first: Image.Image, second: Image.Image) -> np.ndarray:
    return (pixels(first) != pixels(second)).any(axis=2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("artefact", [*ARTEFACTS, "plaster"])
def test_nothing_changes_but_the_artefact_and_what_it_shades(
    artefact: str, size: tuple[int, int], tmp_path: Path
) -> None:
    own = read_cutouts(cutout_folder(tmp_path))
    image = skin(size)
    made = paste(image, artefact, 3, cutouts=own)
    assert made.without.tobytes() == image.tobytes()
    assert made.with_it.size == made.neutral.size == made.without.size == size
    assert {made.with_it.mode, made.neutral.mode, made.without.mode} == {"RGB"}
    assert made.mask_hw.shape == made.shadow_hw.shape == size[::-1]
    assert made.mask_hw.any()
    assert not (made.mask_hw & made.shadow_hw).any()
    assert not (changed(made.without, made.with_it) & ~made.mask_hw & ~made.shadow_hw).any()
    assert changed(made.without, made.with_it)[made.mask_hw].mean() > 0.6
    # A shadow is beside what throws it: within a tenth of the shorter side.
    far_hw = ndimage.distance_transform_edt(~made.mask_hw)
    assert far_hw[made.shadow_hw].max(initial=0) <= 0.16 * min(size)


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_the_neutral_paste_fills_the_same_mask_with_skin(artefact: str) -> None:
    made = paste(skin(), artefact, 1)
    assert not (changed(made.without, made.neutral) & ~made.mask_hw).any()
    # All the masked pixels are skin, so that plain skin in their place hardly differs.
    before, after, plain = (pixels(i)[made.mask_hw] for i in made_images(made))
    assert np.abs(plain.mean(0) - before.mean(0)).max() < 6
    assert np.abs(after - before).mean() > np.abs(plain - before).mean()


def made_images(made: Pasted) -> tuple[Image.Image, Image.Image, Image.Image]:
    return made.without, made.with_it, made.neutral


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_equal_inputs_give_equal_pixels_and_others_do_not(artefact: str) -> None:
    image = skin((300, 220))
    first = paste(image, artefact, 7)
    again = paste(image.copy(), artefact, 7)
    assert [i.tobytes() for i in made_images(first)] == [i.tobytes() for i in made_images(again)]
    assert (first.mask_hw == again.mask_hw).all()
    assert paste(image, artefact, 8).with_it.tobytes() != first.with_it.tobytes()
    other = paste(skin((300, 220), seed=1), artefact, 7)
    assert (other.mask_hw != first.mask_hw).any()


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_the_lesion_stays_free_on_photographs_whose_lesion_is_known(artefact: str) -> None:
    """Of the true lesion, which ``paste`` does not know, little is covered: found or refused."""
    covered, n_refused = [], 0
    for photograph in simulated():
        true_hw = photograph.masks["lesion"]
        try:
            made = paste(photograph.image(), artefact, 0)
        except NoPlaceError:
            n_refused += 1
            continue
        covered.append((made.mask_hw & true_hw).sum() / true_hw.sum())
    assert n_refused <= 5
    assert np.mean(covered) < 0.02
    assert max(covered) < 0.10


@pytest.mark.parametrize("artefact", ARTEFACTS)
def test_a_given_mask_decides_what_stays_free(artefact: str) -> None:
    image = skin((256, 256))
    left_hw = np.zeros((256, 256), bool)
    left_hw[60:200, 30:120] = True
    made = paste(image, artefact, 2, lesion_hw=left_hw)
    assert (made.mask_hw & left_hw).sum() <= 0.02 * left_hw.sum()
    with pytest.raises(InputError, match="256 × 256"):
        paste(image, artefact, 2, lesion_hw=left_hw[:100])


def test_the_lesion_is_found_beside_black_corners() -> None:
    scores = []
    for photograph in simulated():
        pixels_hwc = photograph.image_hwc.copy()
        y_hw, x_hw = np.mgrid[:SIDE, :SIDE]
        pixels_hwc[np.hypot(x_hw - SIDE / 2, y_hw - SIDE / 2) > 0.56 * SIDE] = (8, 9, 12)
        found_hw = find_lesion(Image.fromarray(pixels_hwc))
        true_hw = photograph.masks["lesion"]
        scores.append((found_hw & true_hw).sum() / true_hw.sum())
    assert np.median(scores) > 0.9
    assert not find_lesion(Image.new("RGB", (64, 64), "black")).any()


def test_things_are_drawn_alike_at_any_size_and_not_squeezed() -> None:
    covers = []
    for factor in (1, 2, 3):
        frame = Frame(400.0, 256.0, 400 * factor, 256 * factor)
        picture = np.full((256 * factor, 400 * factor, 3), 200, np.float32)
        cover_hw = artefacts.gel_bubbles(picture, np.random.default_rng(4), frame)
        small = Image.fromarray(cover_hw, "F").resize((400, 256), Image.Resampling.BOX)
        covers.append(np.asarray(small) > 0.5)
    for other in covers[1:]:
        assert (covers[0] & other).sum() / (covers[0] | other).sum() > 0.9
    label_hw, _ = ndimage.label(covers[0])
    boxes = [box for box in ndimage.find_objects(label_hw) if box[0].start > 0 < box[1].start]
    whole = [(b[0].stop - b[0].start, b[1].stop - b[1].start) for b in boxes]
    large = [(h, w) for h, w in whole if min(h, w) >= 8]
    assert large
    assert all(0.75 < h / w < 1.34 for h, w in large)
    assert max(box[1].stop for box in boxes) > 300  # the whole width is used


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1", "LA"])
def test_photographs_of_other_kinds(mode: str) -> None:
    made = paste(skin((120, 100)).convert(mode), "ruler", 0)
    assert made.with_it.mode == "RGB"
    assert made.with_it.size == (120, 100)


@pytest.mark.parametrize("size", [(32, 32), (33, 700), (1500, 1100)])
def test_the_smallest_the_longest_and_a_large_photograph(size: tuple[int, int]) -> None:
    for artefact in ("ruler", "dark corners", "gel bubbles"):
        made = paste(skin(size), artefact, 0)
        assert made.with_it.size == size
        assert made.mask_hw.any()


def test_what_cannot_be_pasted_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="31 × 90"):
        paste(skin((31, 90)), "hair", 0)
    with pytest.raises(InputError, match=r"colour patch.*gel bubbles"):
        paste(skin(), "rulers", 0)
    own = read_cutouts(cutout_folder(tmp_path))
    with pytest.raises(InputError, match=r"'nothing'.*clip, plaster"):
        paste(skin(), "nothing", 0, cutouts=own)
    with pytest.raises(InputError, match=r"33 × 29.*32 × 40"):
        paste(skin((32, 40)), "plaster", 0, cutouts=own)
    everything_hw = np.ones((256, 256), bool)
    for artefact in ("ruler", "colour patch", "hair"):
        with pytest.raises(NoPlaceError, match=artefact):
            paste(skin(), artefact, 0, lesion_hw=everything_hw)


def test_cutouts_by_folder_and_by_name(tmp_path: Path) -> None:
    own = read_cutouts(cutout_folder(tmp_path))
    assert sorted(own) == ["clip", "plaster"]
    (cutout,) = own["plaster"]
    assert (cutout.width, cutout.height) == (33, 29)
    made = paste(skin(), "plaster", 0, cutouts=own)
    assert made.mask_hw.sum() == (cutout.rgba_hwc[..., 3] > 0).sum()
    assert (pixels(made.with_it)[made.mask_hw] == (20, 200, 240)).all()
    (tmp_path / "hair.png").write_bytes((tmp_path / "plaster" / "round.png").read_bytes())
    made = paste(skin(), "hair", 0, cutouts=read_cutouts(tmp_path))
    assert (pixels(made.with_it)[made.mask_hw] == (20, 200, 240)).all()


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (Image.new("RGB", (20, 20), "red"), "no transparency"),
        (Image.new("RGBA", (20, 20), (255, 0, 0, 255)), "no transparency"),
        (Image.new("RGBA", (20, 20), (255, 0, 0, 250)), "no transparency"),
        (Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "is empty"),
        (None, "cannot be read"),
    ],
)
def test_cutouts_that_cannot_be_used(
    picture: Image.Image | None, said: str, tmp_path: Path
) -> None:
    if picture is None:
        (tmp_path / "tape.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    else:
        picture.save(tmp_path / "tape.png")
    with pytest.raises(InputError, match=said) as caught:
        read_cutouts(tmp_path)
    assert "tape.png" in str(caught.value)


@pytest.mark.parametrize("kind", ["rgba", "grey of 16 bits", "colours of 16 bits", "palette"])
def test_a_cutout_is_what_it_looks_like_however_it_is_saved(tmp_path: Path, kind: str) -> None:
    """A disc of (180, 180, 180); what is transparent is said in the way of each kind of PNG."""
    y_hw, x_hw = np.mgrid[:21, :31]
    disc_hw = np.hypot(y_hw - 10, x_hw - 15) < 9
    rgba = np.zeros((21, 31, 4), np.uint8)
    rgba[disc_hw] = (180, 180, 180, 255)
    path = tmp_path / "disc.png"
    if kind == "rgba":
        Image.fromarray(rgba).save(path)
    elif kind == "palette":
        picture = Image.fromarray(disc_hw.astype(np.uint8), "P")
        picture.putpalette([0, 0, 0, 180, 180, 180])
        picture.save(path, transparency=0)
    else:
        grey_hw = np.where(disc_hw, 180 * 257, 300).astype(">u2")
        path.write_bytes(png_16(grey_hw, is_grey=kind.startswith("grey"), key=300))
    own = read_cutouts(tmp_path)["disc"][0].rgba_hwc
    rows, columns = np.flatnonzero(disc_hw.any(1)), np.flatnonzero(disc_hw.any(0))
    box_hw = disc_hw[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (own[..., 3] == np.where(box_hw, 255, 0)).all()
    assert (own[box_hw][:, :3] == 180).all()


def png_16(grey_hw: np.ndarray, *, is_grey: bool, key: int) -> bytes:
    """A PNG of 16 bits of which one value is transparent, written by hand."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(
            ">I", zlib.crc32(name + body)
        )  # fmt: skip

    n = 1 if is_grey else 3
    rows = np.repeat(grey_hw[:, :, None], n, axis=2)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(
        ">IIBBBBB", grey_hw.shape[1], grey_hw.shape[0], 16, 0 if n == 1 else 2, 0, 0, 0
    )
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"tRNS", struct.pack(">H", key) * n)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def test_a_cutout_turned_by_its_exif_is_upright(tmp_path: Path) -> None:
    rgba = np.zeros((10, 30, 4), np.uint8)
    rgba[2:8, 2:28] = (200, 10, 10, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rgba).save(tmp_path / "rod.png", exif=exif)
    (cutout,) = read_cutouts(tmp_path)["rod"]
    assert (cutout.width, cutout.height) == (6, 26)


def soft_disc(colours_hwc: np.ndarray) -> np.ndarray:
    """A disc whose edge fades over ten pixels, in colours that are given for every pixel."""
    y_hw, x_hw = np.mgrid[:61, :61]
    alpha_hw = np.clip((25 - np.hypot(y_hw - 30, x_hw - 30)) / 10, 0, 1)
    rgba_hwc = np.dstack([colours_hwc, np.rint(alpha_hw * 255)]).astype(np.uint8)
    rgba_hwc[rgba_hwc[..., 3] == 0] = 0
    return rgba_hwc


HALVES = np.where(np.arange(61)[:, None, None] < 30, [240, 200, 60], [20, 90, 220])
COLOURS = {
    "one": np.full((61, 61, 3), [200, 120, 40]),
    "white": np.full((61, 61, 3), 255),
    "dark": np.full((61, 61, 3), [30, 22, 18]),
    "two": np.broadcast_to(HALVES, (61, 61, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", COLOURS)
def test_colours_multiplied_by_opacity_are_taken_back(tmp_path: Path, name: str) -> None:
    """Multiplied, an edge fades to black; within rounding both files are one cut-out."""
    straight = soft_disc(COLOURS[name])
    multiplied = straight.copy()
    multiplied[..., :3] = np.rint(straight[..., :3] * (straight[..., 3:] / 255))
    found = []
    for which, rgba in (("straight", straight), ("multiplied", multiplied)):
        (tmp_path / which).mkdir()
        Image.fromarray(rgba).save(tmp_path / which / "a.png")
        found.append(read_cutouts(tmp_path / which)["a"][0].rgba_hwc.astype(int))
    alpha_hw = found[0][..., 3]
    seen_hw = alpha_hw >= 31
    whole = straight[5:56, 5:56]
    rows = np.flatnonzero((whole[..., 3] >= 31).any(1))
    own = whole[rows[0] : rows[-1] + 1, rows[0] : rows[-1] + 1]
    assert (found[0] == own).all()  # what is stored as it should be is not touched
    assert (found[1][..., 3] == alpha_hw).all()
    # Half a step of rounding becomes 255 / 31 / 2 steps where opacity is least.
    assert np.abs(found[1] - found[0])[seen_hw].max() <= 5


def test_a_dark_shadow_around_a_bright_thing_stays(tmp_path: Path) -> None:
    rgba = soft_disc(np.full((61, 61, 3), 230))
    half = (rgba[..., 3] > 0) & (rgba[..., 3] < 255)
    rgba[half, :3] = 0  # a black shadow is black divided by anything
    Image.fromarray(rgba).save(tmp_path / "a.png")
    own = read_cutouts(tmp_path)["a"][0].rgba_hwc
    assert (own[(own[..., 3] > 0) & (own[..., 3] < 255), :3] == 0).all()


def test_a_folder_without_cutouts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no cut-out"):
        read_cutouts(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        read_cutouts(tmp_path / "nowhere")


# --- pairs ---------------------------------------------------------------------------------------


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    lines = ["file,lesion_id,ink,Ruler"]
    for i in range(10):
        skin((96 + 4 * i, 90), seed=i).save(folder / f"{i}.png")
        lines.append(f"{i}.png,lesion {i // 2},{int(i < 4)},0")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    skin((20, 90)).save(folder / "tiny.png")
    lines += ["broken.png,lesion 8,0,", "tiny.png,lesion 9,0,"]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_one_photograph_a_group_and_none_that_has_the_artefact(
    photographs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    probe = read_probe_set(photographs / "table.csv")
    with caplog.at_level(logging.WARNING):
        pairs: ImagePairs = PastedPairs(probe, ["ruler", "ink marks"], 20, seed=0)
    by_artefact = {name: rows for name, rows in pairs.table.groupby("artefact")}
    assert len(by_artefact["ruler"]) == 5
    assert sorted(by_artefact["ink marks"]["group"]) == ["lesion 2", "lesion 3", "lesion 4"]
    assert by_artefact["ruler"]["group"].is_unique
    assert "4 have it already" in caplog.text
    assert "1 cannot be read" in caplog.text
    assert "1 have fewer than 32 pixels" in caplog.text
    for row, (artefact, file) in enumerate(pairs.table[["artefact", "file"]].to_numpy()):
        image = Image.open(photographs / file)
        expected = paste(image, artefact, 0)
        assert [i.tobytes() for i in pairs.images(row) if i is not None] == [
            i.tobytes() for i in made_images(expected)
        ]


def test_pairs_are_the_same_again_and_others_with_another_seed(photographs: Path) -> None:
    probe = read_probe_set(photographs / "table.csv")
    first = PastedPairs(probe, ["ruler", "hair"], 3, seed=1)
    again = PastedPairs(probe, ["ruler", "hair"], 3, seed=1)
    assert first.fingerprint == again.fingerprint
    assert first.table.equals(again.table)
    assert len(first.table) == 6
    assert PastedPairs(probe, ["ruler", "hair"], 3, seed=2).fingerprint != first.fingerprint
    # Both artefacts are in the same photographs.
    assert first.table["file"][:3].tolist() == first.table["file"][3:].tolist()


def _mask_of(kind: str, mask_hw: np.ndarray, path: Path) -> None:
    """A mask as programs write it."""
    one = mask_hw.astype(np.uint8)
    if kind == "0 and 255":
        Image.fromarray(one * 255).save(path)
    elif kind == "0 and 1":
        Image.fromarray(one).save(path)
    elif kind == "0 and 1 of 16 bits":
        Image.fromarray(one.astype(np.uint16)).save(path)
    elif kind == "0 and 255 of 16 bits":
        Image.fromarray(one.astype(np.uint16) * 255).save(path)
    elif kind == "one bit":
        Image.fromarray(mask_hw).save(path)
    elif kind == "dark red of a palette":
        picture = Image.fromarray(one, "P")
        picture.putpalette([0, 0, 0, 128, 0, 0])
        picture.save(path)
    else:
        Image.fromarray(np.where(mask_hw, 255, 0).astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(1)
        ).save(path)


@pytest.mark.parametrize(
    "kind",
    ["0 and 255", "0 and 1", "0 and 1 of 16 bits", "0 and 255 of 16 bits", "one bit",
     "dark red of a palette", "soft edges"],
)  # fmt: skip
def test_a_mask_is_what_it_says_however_it_is_saved(tmp_path: Path, kind: str) -> None:
    y_hw, x_hw = np.mgrid[:30, :40]
    mask_hw = np.hypot(y_hw - 12, x_hw - 25) < 8
    _mask_of(kind, mask_hw, tmp_path / "m.png")
    found_hw = decode_mask((tmp_path / "m.png").read_bytes())
    assert (found_hw != mask_hw).mean() < (0.02 if kind == "soft edges" else 1e-9)
    for whole in (np.zeros_like(mask_hw), np.ones_like(mask_hw)):
        if kind in ("0 and 255", "0 and 1", "one bit"):
            _mask_of(kind, whole, tmp_path / "m.png")
            assert (decode_mask((tmp_path / "m.png").read_bytes()) == whole).all()


def test_a_mask_that_numbers_several_things_is_refused_and_told(
    photographs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbered = np.zeros((90, 132), np.uint8)
    numbered[:30], numbered[30:60] = 1, 2
    Image.fromarray(numbered).save(photographs / "mask9.png")
    with pytest.raises(UnreadableImageError, match="3 values"):
        decode_mask((photographs / "mask9.png").read_bytes())
    (photographs / "one.csv").write_text("file,lesion_mask\n9.png,mask9.png\n")
    PastedPairs(read_probe_set(photographs / "one.csv"), ["colour patch"], 1, seed=0)
    assert "mask9.png cannot be used: The mask holds 3 values" in caplog.text


def test_masks_of_lesions_in_the_table_are_kept_free(photographs: Path) -> None:
    mask = np.zeros((90, 132), np.uint8)
    mask[:, :80] = 255
    Image.fromarray(mask).save(photographs / "mask9.png")
    (photographs / "one.csv").write_text("file,lesion_mask\n9.png,mask9.png\n")
    pairs = PastedPairs(read_probe_set(photographs / "one.csv"), ["colour patch"], 1, seed=0)
    assert not (pairs.pasted(0).mask_hw & (mask > 0)).sum() > 0.02 * (mask > 0).sum()


def test_cutouts_change_the_fingerprint(photographs: Path, tmp_path: Path) -> None:
    probe = read_probe_set(photographs / "table.csv")
    own = cutout_folder(tmp_path / "own")
    first = PastedPairs(probe, ["plaster"], 2, 0, own).fingerprint
    other = Image.new("RGBA", (11, 9))
    other.paste((1, 2, 3, 128), (0, 0, 9, 9))
    other.save(own / "plaster" / "round.png")
    assert PastedPairs(probe, ["plaster"], 2, 0, own).fingerprint != first


@pytest.mark.parametrize(
    ("artefacts_", "n", "said"),
    [(["tape"], 3, "'tape'"), ([], 3, "No artefact"), (["ruler"], 0, "0 pairs")],
)
def test_pairs_that_cannot_be_made(
    artefacts_: list[str], n: int, said: str, photographs: Path
) -> None:
    with pytest.raises(CspError, match=said):
        PastedPairs(read_probe_set(photographs / "table.csv"), artefacts_, n, seed=0)


def test_no_photograph_without_the_artefact(photographs: Path) -> None:
    (photographs / "all.csv").write_text("file,ink\n1.png,1\n2.png,1\n")
    with pytest.raises(InputError, match="2 have it already"):
        PastedPairs(read_probe_set(photographs / "all.csv"), ["ink marks"], 2, seed=0)
