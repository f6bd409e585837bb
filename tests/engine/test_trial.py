"""Trying an encoder on a few images: what it knows, what it cannot read, and what is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from csp_engine.errors import InputError
from csp_engine.jobs import BuildOrder
from csp_engine.pipeline.trying.encoder import try_encoder
from csp_engine.pipeline.trying.left import leave_trial, read_trial
from csp_engine.probe.listing import read_probe_set
from csp_engine.views.images.trial import KNOWS, NOISE, UNREAD, UNSURE, verdict
from tests.engine.test_cli import run
from tests.engine.test_separation import KnowsNothing
from tests.engine.test_unread_words import FewWords
from tests.worlds import toys

GREY = ["granite", "slate", "flint", "chalk", "basalt", "gneiss", "schist", "marble"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trial")
    toys.draw_images(folder / "images", 60)
    (folder / "images" / "red" / "torn.png").write_bytes(b"no picture")
    return folder


def tried(folder, encoder, texts=toys.WORDS):
    probe = read_probe_set(folder / "images", is_hashed=False)
    return try_encoder(encoder, probe, toys.words(folder, texts))


def test_a_good_encoder_names_the_classes_and_a_blind_one_is_noise(folder):
    encoder = toys.ColourEncoder()
    found = tried(folder, encoder)
    said = verdict(found)
    assert said.kind == KNOWS
    assert (found.n_images, found.n_unreadable, len(found.pictures)) == (60, 1, 12)
    # The same area as a plain loop over the images gives.
    probe = read_probe_set(folder / "images", is_hashed=False)
    files = [file for file in probe.table["file"] if not file.endswith("torn.png")]
    pixels = [
        encoder.preprocess(Image.open(folder / "images" / file).convert("RGB")) for file in files
    ]
    image_nd = encoder.embed_images(np.stack(pixels))
    names = sorted(toys.COLOURS)
    texts = [*names, *(word for word in toys.WORDS if word not in names)]
    text_td = encoder.embed_texts(texts)
    both_td = encoder.embed_texts([*names, *toys.WORDS])  # the mean that a build takes
    score_nc = image_nd @ (text_td[: len(names)] - both_td.mean(axis=0)).T
    area = [
        roc_auc_score([file.startswith(name) for file in files], score_nc[:, c])
        for c, name in enumerate(names)
    ]
    assert found.facts["auroc"] == pytest.approx(np.mean(area), abs=1e-3)
    for each in found.pictures:
        score_t = image_nd[files.index(each.file)] @ text_td.T
        best = [texts[t] for t in np.argsort(-score_t, kind="stable")[:3]]
        assert [text for text, _ in each.nearest] == best
        assert each.of == each.file.split("/")[0]
    blind = verdict(tried(folder, KnowsNothing()))
    assert blind.kind == NOISE
    assert "noise on these photographs" in blind.heading


def test_words_that_it_cannot_read_are_counted_and_near_to_nothing(folder):
    found = tried(folder, FewWords(), [*toys.COLOURS, *GREY[:3]])
    assert found.unread == tuple(GREY[:3])
    assert verdict(found).kind == KNOWS
    nearest = {text for each in found.pictures for text, _ in each.nearest}
    assert nearest <= set(toys.COLOURS)
    mostly = verdict(tried(folder, FewWords(), ["red", *GREY]))
    assert (mostly.kind, mostly.heading) == (NOISE, UNREAD)
    assert any("8 of 9 words" in each for each in mostly.sentences)


def test_few_images_without_names_say_nothing_either_way(tmp_path):
    toys.draw_images(tmp_path / "images", 8)
    for path in (tmp_path / "images").glob("*/*.png"):
        path.rename(tmp_path / "images" / path.name)
    assert verdict(tried(tmp_path, toys.ColourEncoder())).kind == UNSURE


def test_a_folder_without_a_picture_and_broken_vectors_are_sentences(tmp_path, folder):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="None of 1 images of 'images' can be read"):
        tried(tmp_path, toys.ColourEncoder())

    class Broken(toys.ColourEncoder):
        def embed_images(self, pixels):
            return super().embed_images(pixels) * np.nan

    with pytest.raises(InputError, match=r"vector that is not finite for image \S+\.png"):
        tried(folder, Broken())


def test_what_is_left_is_read_again_and_anything_else_is_refused(folder, tmp_path):
    found = tried(folder, FewWords(), [*toys.COLOURS, *GREY[:3]])
    leave_trial(tmp_path / "left", found)
    assert read_trial(tmp_path / "left") == found
    held = json.loads((tmp_path / "left" / "trial.json").read_text())
    del held["facts"]
    (tmp_path / "left" / "trial.json").write_text(json.dumps(held))
    for path in (tmp_path / "left", tmp_path / "nowhere"):
        with pytest.raises(InputError, match="holds no trial"):
            read_trial(path)


def test_the_command_says_it_and_its_exit_code_too(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CSP_TRUST_PYTHON", "1")
    toys.words(folder)
    arguments = ["try", "images", "--vocabulary", "words.txt", "--encoder"]
    code, out, _ = run(capsys, *arguments, "python:tests.worlds.toys:ColourEncoder", "--json")
    assert code == 0
    assert json.loads(out)["verdict"] == KNOWS
    code, out, _ = run(capsys, *arguments, "python:tests.engine.test_separation:KnowsNothing")
    assert code == 1
    assert out.startswith("Labels from this encoder will be noise")
    assert "60 images and 10 words; 1 cannot be read" in out
    code, _, last = run(capsys, "try", "nowhere", "--encoder", "python:os:getcwd")
    assert code == 2
    assert "There is no folder or table at 'nowhere'" in last


@pytest.mark.parametrize("command", [["try", "images", "--encoder", "e"], ["fix", "a.csp"]])
def test_a_folder_that_holds_something_is_not_written_into(tmp_path, capsys, monkeypatch, command):
    """Its 00.webp and trial.json were written over."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "00.webp").write_text("mine")
    code, _, error = run(capsys, *command, "--leave", "mine")
    assert (code, "mine is there already and is not empty; name a new" in error) == (2, True)
    assert (tmp_path / "mine" / "00.webp").read_text() == "mine"


def test_an_order_is_tried_with_the_options_that_a_trial_takes():
    order = BuildOrder(
        images="-photos", model="m", layers=("a",), encoder="open_clip/x/y", out="o.csp",
        vocabulary=("general", "~/w.txt"), class_column="kind", exemplars=6, device="cuda",
    )  # fmt: skip
    command = order.trial()
    assert command[:2] == ["try", "./-photos"]
    assert {"--encoder", "--class-column", "--device"} <= set(command)
    assert not {"--model", "--layer", "--out", "--exemplars"} & set(command)
