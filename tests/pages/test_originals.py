"""Images at full size: whose they are, where they may lie, and that they are the same."""

from __future__ import annotations

import hashlib
import io
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from csp_engine.bundle import Bundle
from csp_engine.serving.originals import original
from csp_engine.views.images.facts import image_facts
from pages.ui.shell import access
from tests.pages.conftest import visiting

IMAGE = 3


@pytest.fixture
def asked(serve, small_bundle, tmp_path, monkeypatch):
    """A folder as the build had it, and what a browser gets of an image."""
    shutil.copytree(small_bundle.parent / "images", tmp_path / "mine" / "images")
    monkeypatch.setenv("CSP_START_FOLDER", str(tmp_path / "mine"))
    serve(small_bundle)
    bundle = Bundle.open(small_bundle)
    path = tmp_path / "mine" / "images" / bundle.images()["file"].iloc[IMAGE]

    def ask(image: object = IMAGE, digest: str = bundle.digest[:16]):
        return visiting().get(f"/csp/original/small/{digest}/{image}")

    return SimpleNamespace(ask=ask, path=path, home=tmp_path)


def test_the_very_file_is_given_and_any_other_is_not(asked):
    answer = asked.ask()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == asked.path.read_bytes()
    asked.path.write_bytes(asked.path.read_bytes() + b" ")
    assert asked.ask().status_code == 204
    asked.path.unlink()
    assert asked.ask().status_code == 204


def test_nothing_outside_of_the_folders_is_read(asked, monkeypatch):
    outside = asked.home / "outside.png"
    asked.path.rename(outside)
    asked.path.symlink_to(outside)
    assert asked.ask().status_code == 204
    monkeypatch.setenv("CSP_ALLOW", str(asked.home))
    assert asked.ask().status_code == 204  # allowed, but not where the name leads
    asked.path.unlink()
    asked.path.symlink_to(outside)
    monkeypatch.setenv("CSP_ALLOW", f"{asked.home}:{asked.home / 'mine'}")
    assert asked.ask().status_code == 200


def test_who_may_not_build_gets_none_and_nonsense_is_no_image(asked, monkeypatch):
    for image, digest in (("99", None), ("-1", None), ("x", None), ("3", "0" * 16)):
        given = asked.ask(image) if digest is None else asked.ask(image, digest)
        assert given.status_code == 404
    monkeypatch.setenv("CSP_READ_ONLY", "1")
    assert access.is_read_only()
    assert asked.ask().status_code == 204


@pytest.mark.parametrize("file", ["../secret.png", "/etc/hostname.png", "a\0b.png", "x.svg", "x"])
def test_a_bundle_cannot_name_what_lies_elsewhere(tmp_path, small_bundle, file):
    content = b"what nobody may see"
    (tmp_path / "secret.png").write_bytes(content)
    (tmp_path / "in").mkdir()
    for name in ("x.svg", "x"):
        (tmp_path / "in" / name).write_bytes(content)
    images = pd.DataFrame({"file": [file], "sha256": [hashlib.sha256(content).hexdigest()]})

    class Hostile(Bundle):
        def images(self) -> pd.DataFrame:
            return images

    hostile = Hostile.open(small_bundle)
    hostile.manifest.inputs["probe"]["name"] = ".."
    assert original(hostile, 0, (tmp_path / "in",)) is None


def test_the_demo_draws_its_photographs_again(serve, shipped_bundle):
    serve(shipped_bundle)
    bundle = Bundle.open(shipped_bundle)
    at = f"/csp/original/{shipped_bundle.stem}/{bundle.digest[:16]}/7"
    answer = visiting().get(at)
    assert answer.status_code == 200
    with Image.open(io.BytesIO(answer.content)) as drawn:
        assert drawn.size == (256, 256)
        whole = np.asarray(drawn.convert("RGB").resize((128, 128), Image.Resampling.BOX), float)
    with Image.open(io.BytesIO(bundle.thumbnail(7))) as thumb:
        kept = np.asarray(thumb.convert("RGB"), float)
    assert np.abs(whole - kept).mean() < 6


def test_facts_of_simulated_images_are_in_words():
    table = pd.DataFrame({"control_skin_tone": [2.5], "share_ruler": [0.0421], "share_odd": [7.0]})
    (facts,) = image_facts(table, frozenset(), [0])
    assert facts[:3] == (("skin tone", "2.5"), ("ruler covers", "4.2 %"), ("share odd", "7.0"))
