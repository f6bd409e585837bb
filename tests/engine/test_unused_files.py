"""Images that cannot be read and files that are none: counted and named wherever a bundle is."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csp_engine import pipeline
from csp_engine.bundle import Bundle, verify
from csp_engine.cli import main
from csp_engine.cli.building import _report
from csp_engine.errors import BundleError, CspError, InputError, brief, shortened
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
        "3 files are left out, not counted as images: 2 .svs (such as a.svs); "
        "1 without an ending (LICENSE)."
    )
    assert verify(bundle) == []


def test_build_output_info_and_overview_say_them(bundle, capsys):
    sentences = unused_files(bundle)
    _report(bundle, False)
    assert all(sentence in capsys.readouterr().out for sentence in sentences[:1])
    with pytest.raises(SystemExit):
        main(["info", str(bundle.path)])
    said = capsys.readouterr().out
    assert all(sentence in said for sentence in sentences)
    with pytest.raises(SystemExit):
        main(["info", str(bundle.path), "--json"])
    assert json.loads(capsys.readouterr().out)["unused"] == sentences
    assert [text for name, text in provenance(bundle) if name == "Not used"] == sentences


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
