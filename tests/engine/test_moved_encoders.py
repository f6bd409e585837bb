"""The folder of an encoder is found again wherever bundle, folder and person are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from csp_engine.bundle import Bundle
from csp_engine.bundle.folders import places_of
from csp_engine.encoders import load_encoder
from csp_engine.errors import CspError, StaleError
from csp_engine.pipeline import build
from csp_engine.pipeline.recipe import changed
from csp_engine.search import bundle_encoder
from csp_engine.words.templates import TEMPLATES
from tests.engine.test_cli import run
from tests.worlds import toys

MORE = ("red", "green", "violet")


def stored_vectors(folder: Path, files: list[str], seed: int = 0) -> Path:
    """An encoder of stored vectors for these images and a few texts."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    texts = [*toys.WORDS, "violet"]
    np.save(folder / "image_vectors.npy", rng.normal(size=(len(files), 8)).astype(np.float32))
    np.save(folder / "text_vectors.npy", rng.normal(size=(len(texts), 8)).astype(np.float32))
    (folder / "image_names.txt").write_text("\n".join(files) + "\n", "utf-8")
    (folder / "text_names.txt").write_text("\n".join(texts) + "\n", "utf-8")
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """``home/models/enc`` and ``home/out/a.csp``, built from ``home`` by a relative path."""
    home = tmp_path / "home"
    images = toys.draw_images(home / "images")
    files = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.png"))
    stored_vectors(home / "models" / "enc", files)
    monkeypatch.chdir(home)
    recipe = changed(toys.SMALL, {"templates": TEMPLATES["bare"]})
    encoder = load_encoder("precomputed/models/enc")
    build(toys.request(home, Path("out/a.csp"), encoder=encoder, recipe=recipe))
    return home


def words(home: Path) -> Path:
    path = home / "more.txt"
    path.write_text("\n".join(MORE), "utf-8")
    return path


def test_from_another_working_folder(home, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "label", home / "out" / "a.csp", "-v", words(home))
    assert code == 0, err
    assert set(Bundle.open(home / "out" / "a.csp").labels()["text"]) == set(MORE)


def test_after_all_moved_together(home, monkeypatch, tmp_path):
    moved = tmp_path / "elsewhere"
    home.rename(moved)
    monkeypatch.chdir(tmp_path)
    assert "elsewhere" in bundle_encoder(Bundle.open(moved / "out" / "a.csp")).spec


def test_after_the_bundle_moved_alone(home, monkeypatch, tmp_path):
    far = tmp_path / "far" / "away"
    far.mkdir(parents=True)
    shutil.move(home / "out" / "a.csp", far / "a.csp")
    monkeypatch.chdir(far)
    assert str(home) in bundle_encoder(Bundle.open(far / "a.csp")).spec


def test_beside_the_bundle_and_past_another_of_that_name(home, monkeypatch, tmp_path):
    """An older bundle notes no places; a folder of the name that is another encoder is passed."""
    far = tmp_path / "far"
    far.mkdir()
    shutil.move(home / "out" / "a.csp", far / "a.csp")
    shutil.move(home / "models" / "enc", far / "enc")
    files = (far / "enc" / "image_names.txt").read_text().split("\n")[:-1]
    stored_vectors(home / "models" / "enc", files, seed=1)
    monkeypatch.chdir(home)
    found = bundle_encoder(Bundle.open(far / "a.csp"))
    assert found.spec == f"precomputed/{far / 'enc'}"
    shutil.rmtree(far / "enc")
    with pytest.raises(StaleError):
        bundle_encoder(Bundle.open(far / "a.csp"))
    shutil.rmtree(home / "models")
    with pytest.raises(CspError, match="models/enc"):
        bundle_encoder(Bundle.open(far / "a.csp"))


def test_what_is_no_folder_or_is_beside_by_its_words_has_no_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "enc").mkdir()
    bundle = tmp_path / "a.csp"
    assert places_of("open_clip/enc", bundle) == ["enc", str((tmp_path / "enc").resolve())]
    for spec in ("open_clip/./enc", "open_clip/ViT-B-32/tag", "python:enc:make", "transformers/x"):
        assert places_of(spec, bundle) == []
