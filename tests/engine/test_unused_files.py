"""Images that cannot be read and files that are none: counted and named wherever a bundle is."""

from __future__ import annotations

import io
import json
import re
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.cli import main
from csp_engine.cli.building.told import report
from csp_engine.errors import BundleError, CspError, InputError, brief, shortened
from csp_engine.probe.decoding import decode
from csp_engine.probe.decoding.formats import why_not_read
from csp_engine.views.overview.provenance import provenance
from csp_engine.views.overview.unused import unused_files
from tests.worlds import toys


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    folder = tmp_path_factory.mktemp("unused")
    toys.draw_images(folder / "images")
    (folder / "images" / "red" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "images" / "red" / "empty.jpg").write_bytes(b"")
    for name in ("a.svs", "b.svs", "LICENSE"):
        (folder / "images" / name).write_bytes(b"x")
    return pipeline.build(toys.request(folder, folder / "a.csp"))


def test_both_sentences_count_and_name(bundle):
    assert bundle.n_images == 28
    unreadable, left_out = unused_files(bundle)
    assert unreadable.startswith("2 of 30 images cannot be read: red/cut.png (")
    assert "red/empty.jpg (The file is empty)" in unreadable
    assert left_out == (
        "3 files are left out, not counted as images: 2 .svs, which is not read (whole slide): "
        "cut it into tiles and save them as PNG (such as a.svs); 1 without an ending (LICENSE)."
    )
    assert verify(bundle) == []


def test_build_output_info_and_overview_say_them(bundle, capsys):
    sentences = unused_files(bundle)
    report(bundle, False)
    assert all(sentence in capsys.readouterr().out for sentence in sentences[:1])
    with pytest.raises(SystemExit):
        main(["info", str(bundle.path)])
    said = capsys.readouterr().out
    assert all(sentence in said for sentence in sentences)
    with pytest.raises(SystemExit):
        main(["info", str(bundle.path), "--json"])
    assert json.loads(capsys.readouterr().out)["unused"] == sentences
    assert [text for name, text in provenance(bundle) if name == "Not used"] == sentences


@pytest.mark.slow
def test_where_all_was_used_nothing_is_said(tmp_path):
    toys.draw_images(tmp_path / "images")
    whole = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp"))
    assert unused_files(whole) == []
    assert "left_out" not in whole.manifest.inputs["probe"]


@pytest.mark.parametrize("harm", [[3], [{"ending": 1}], "no list", [{"ending": "", "n_files": -1}]])
def test_a_list_of_another_form_is_refused_at_opening(bundle, tmp_path, harm):
    body = json.loads((bundle.path / "manifest.json").read_text("utf-8"))
    body["inputs"]["probe"]["left_out"] = harm
    (tmp_path / "manifest.json").write_text(json.dumps(body), "utf-8")
    with pytest.raises(BundleError):
        Bundle.open(tmp_path)


class TestFormsThatAreNotRead:
    """Each is counted and named with the reason and what to do, wherever a bundle is described."""

    @pytest.fixture(scope="class")
    def bundle(self, tmp_path_factory) -> Bundle:
        folder = tmp_path_factory.mktemp("forms")
        images = toys.draw_images(folder / "images") / "red"
        deep = np.zeros((9, 8, 3), "u4")
        tifffile.imwrite(images / "deep.tif", deep, photometric="rgb", metadata=None)
        out = io.BytesIO()
        tifffile.imwrite(out, deep.astype("f4"), photometric="rgb", metadata=None)
        packed = bytearray(out.getvalue())
        at = packed.index(struct.pack("<HHI", 259, 3, 1))  # the tag that says how it is packed
        packed[at + 8] = 7
        (images / "packed.tif").write_bytes(packed)
        for name in ("a.jxl", "b.jxl", "c.exr"):
            (images / name).write_bytes(b"\xff\x0a")
        (images / "named.png").write_bytes(b"8BPS\0\1")
        return pipeline.build(toys.request(folder, folder / "a.csp"))

    def test_everywhere(self, bundle, capsys):
        wanted = (
            "3 of 31 images cannot be read",
            "deep.tif (The TIFF holds 3 samples of 32 bits, which cannot be read; save it "
            "with 8 or 16 bits)",
            "packed.tif (The TIFF holds 3 float samples of 32 bits, JPEG, which cannot be read; "
            "save it with 8 or 16 bits)",
            "named.png (The file is not an image but a Photoshop document; save it as PNG)",
            "3 files are left out",
            "2 .jxl, which is not read (JPEG XL): save it as PNG",
            "1 .exr, which is not read (high dynamic range): map it to 8 bits and save it as PNG",
        )
        report(bundle, as_json=False)
        built = capsys.readouterr().out
        with pytest.raises(SystemExit):
            main(["info", str(bundle.path)])
        told = capsys.readouterr().out
        overview = " ".join(said for _, said in provenance(bundle))
        for sentence in wanted:
            for where in (built, told, overview):
                assert sentence in " ".join(where.split()), sentence

    def test_float_grey_that_is_packed_is_read(self):
        grey = np.linspace(0, 1, 72, dtype="f4").reshape(9, 8)
        out = io.BytesIO()
        Image.fromarray(grey).save(out, "TIFF", compression="tiff_lzw")
        found = np.asarray(decode(out.getvalue()))[..., 0]
        assert np.array_equal(found, np.rint(grey * 255).astype(np.uint8))

    @pytest.mark.parametrize(
        "name", ["x.JXL", "x.ndpi", "x.dng", "x.exr", "x.svs", "x.nii", "x.psd"]
    )
    def test_every_kind_says_what_to_do(self, name):
        assert re.fullmatch(r"is not read \([\w ]+\): .*(PNG|JPEG).*", why_not_read(name))

    @pytest.mark.parametrize("name", ["x.png", "x.tif", "x.txt", "jp2", "x.jp2", "x.jxl.txt", "x"])
    def test_and_of_no_other(self, name):
        assert why_not_read(name) == ""


class TestMessages:
    def test_a_message_never_holds_a_file(self):
        jpeg = bytes(range(256)).decode("latin-1") * 700
        said = str(InputError(f"Table 'a' cannot be read ({jpeg}); give another file."))
        assert len(said) <= 600
        assert said.startswith("Table 'a' cannot be read (")
        assert said.endswith("; give another file.")

    def test_short_ones_are_as_they_were(self):
        assert str(CspError("There is no layer 'x'.")) == "There is no layer 'x'."
        assert str(CspError()) == ""

    @pytest.mark.parametrize("n", range(1, 40))
    def test_the_bound_is_exact(self, n):
        assert len(shortened("x" * 40, n)) == n

    @pytest.mark.parametrize(
        "value",
        [
            "/" + "/".join(["folder"] * 700),
            "https://example.org/" + "a" * 5000,
            "a label of words " * 300,
            "{" + '"key": 1, ' * 500 + "}",
            "it's " * 900,
            "ü" * 5000,
            "tab\tnew\n" * 900,
        ],
    )
    @pytest.mark.parametrize("quote", ["{!r}", "“{}”", "{}"])
    def test_what_a_message_repeats_leaves_room_for_its_own_words(self, value, quote):
        said = str(
            InputError(
                f"{quote.format(value)} is not below /srv/a, and nothing else is read; use --to."
            )
        )
        assert said.endswith(" is not below /srv/a, and nothing else is read; use --to.") or (
            quote == "{}" and " " in value  # no mark says where it ends
        )
        assert len(said) <= (600 if quote == "{}" else 250)

    @settings(max_examples=200)
    @given(st.text(st.sampled_from("ab '\"“”/\n"), max_size=500))
    def test_messages_of_short_values_are_never_changed(self, text):
        runs = re.split(r"\s", text)
        is_short = len(text) <= 600 and all(len(run) <= 160 for run in runs)
        if is_short and not set(text) & set("'\"“”"):
            assert str(CspError(text)) == text
        assert len(str(CspError(text))) <= 600

    def test_apostrophes_are_no_quotes(self):
        said = "The encoder's texts " + "hardly separate these images " * 12 + "of the model's."
        assert brief(said) == said

    @pytest.mark.slow
    def test_raw_bytes_given_as_anything_end_in_a_short_line(self, tmp_path, capsys):
        (tmp_path / "raw.csv").write_bytes(bytes(range(256)) * 800)
        (tmp_path / "raw.txt").write_bytes(bytes(range(1, 256)) * 800)
        for arguments in (
            ["build", tmp_path / "raw.csv", "--model", "torchvision/resnet18", "--layer", "fc"],
            ["build", tmp_path, "--model", "x" * 5000, "--layer", "fc"],
            ["info", "y" * 5000],
            ["build", tmp_path, "--vocabulary", tmp_path / "raw.txt", "--model", "m", "-l", "fc"],
        ):
            with pytest.raises(SystemExit):
                main([*map(str, arguments), "--encoder", "e", "--out", str(tmp_path / "o.csp")])
            said = capsys.readouterr()
            assert len(said.err) + len(said.out) < 800, arguments
            assert said.err.startswith("csp: ")
