"""Stored vectors, and encoders from Python."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csp_engine.encoders import encoder_availability, load_encoder
from csp_engine.encoders.stored import PrecomputedEncoder
from csp_engine.errors import InputError, MissingModelError
from csp_engine.files import ALLOWED

IMAGES = ["birds/one.jpg", "birds/two.jpg", "fish/one.jpg", "three.png"]
TEXTS = ["Ice cream", "bow_(weapon)", "dog"]


def save(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    parts = {
        "image_vectors": rng.normal(size=(4, 5)).astype(np.float16),
        "image_names": IMAGES,
        "text_vectors": 3 * rng.normal(size=(3, 5)),
        "text_names": TEXTS,
    } | changes
    for name, value in parts.items():
        if name.endswith("vectors"):
            np.save(folder / f"{name}.npy", value)
        else:
            (folder / f"{name}.txt").write_text("\n".join(value) + "\n")
    return folder


def load(folder: Path) -> PrecomputedEncoder:
    encoder = load_encoder(f"precomputed/{folder}")
    assert isinstance(encoder, PrecomputedEncoder)
    return encoder


def test_images_are_found_by_path_hash_and_unique_file_name(tmp_path: Path) -> None:
    digest = "ab" * 32
    encoder = load(save(tmp_path, image_names=["birds/one.jpg", digest, "fish/one.jpg", "c.png"]))
    stored = np.load(tmp_path / "image_vectors.npy").astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    rows = encoder.lookup_images(
        ["fish/one.jpg", "new/place/c.png", "x.jpg"], ["00" * 32, "11" * 32, digest]
    )
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, stored[[2, 3, 1]], atol=1e-6)
    # Without an ending, as many lists of names have it.
    np.testing.assert_allclose(encoder.lookup_images(["c.jpeg"]), stored[[3]], atol=1e-6)
    assert encoder.needs_pixels is False
    assert encoder.dim == 5


def test_a_file_name_that_two_images_share_is_not_guessed(tmp_path: Path) -> None:
    encoder = load(save(tmp_path))
    with pytest.raises(InputError, match=r"2 of 3 images .*first 'one\.jpg'; 4 exist"):
        encoder.lookup_images(["one.jpg", "three.png", "four.png"])


def test_texts_in_any_case_with_underscores_for_spaces(tmp_path: Path) -> None:
    encoder = load(save(tmp_path))
    exact = encoder.embed_texts(TEXTS)
    np.testing.assert_array_equal(encoder.embed_texts(["ice_CREAM", "Bow (weapon)", "DOG "]), exact)
    np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1, atol=1e-6)
    assert encoder.embed_texts([]).shape == (0, 5)
    with pytest.raises(InputError, match=r"no stored vector for the text 'dgo'; 3 exist.*dog"):
        encoder.embed_texts(["dog", "dgo"])


def test_an_exact_spelling_wins_over_a_cleaned_one(tmp_path: Path) -> None:
    encoder = load(save(tmp_path, text_names=["Jaguar", "jaguar", "dog"]))
    lower, upper = encoder.embed_texts(["jaguar", "Jaguar"])
    assert not np.allclose(lower, upper)


def test_new_images_are_refused(tmp_path: Path) -> None:
    encoder = load(save(tmp_path))
    with pytest.raises(InputError, match="cannot embed a new image"):
        encoder.preprocess(None)
    with pytest.raises(InputError, match="cannot embed a new image"):
        encoder.embed_images(np.zeros((1, 3, 4, 4), np.float32))


def test_other_files_through_encoder_json(tmp_path: Path) -> None:
    plain = load(save(tmp_path / "plain"))
    (tmp_path / "other").mkdir()
    config = {
        "image_vectors": "../plain/image_vectors.npy",
        "image_names": IMAGES,
        "text_vectors": str(tmp_path / "plain" / "text_vectors.npy"),
        "text_names": "../plain/text_names.txt",
    }
    (tmp_path / "other" / "encoder.json").write_text(json.dumps(config))
    other = load(tmp_path / "other")
    assert other.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(other.embed_texts(TEXTS), plain.embed_texts(TEXTS))
    (tmp_path / "other" / "encoder.json").write_text(json.dumps(config | {"image_list": "x"}))
    with pytest.raises(InputError, match="image_list"):
        load(tmp_path / "other")


@pytest.mark.parametrize("role", ["image_vectors", "text_vectors", "image_names", "text_names"])
@pytest.mark.parametrize("is_link", [False, True])
def test_where_reading_is_limited_no_file_is_fetched_from_outside(
    role: str, is_link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names in a file would stand in messages, where a build is started from elsewhere."""
    save(tmp_path / "outside")
    name = f"{role}.{'npy' if role.endswith('vectors') else 'txt'}"
    inside = save(tmp_path / "inside" / "encoder")
    (inside / name).unlink()
    if is_link:
        (inside / name).symlink_to(tmp_path / "outside" / name)
    else:
        config = {role: f"../../outside/{name}"}
        (inside / "encoder.json").write_text(json.dumps(config))
    load(inside)
    monkeypatch.setenv(ALLOWED, str(tmp_path / "inside"))
    with pytest.raises(InputError, match="lies outside of the folders that may be read"):
        load(inside)
    monkeypatch.setenv(ALLOWED, str(tmp_path))
    load(inside)


def test_fingerprint_follows_vectors_and_names(tmp_path: Path) -> None:
    first = load(save(tmp_path / "a")).fingerprint
    assert load(save(tmp_path / "b")).fingerprint == first
    renamed = save(tmp_path / "c", text_names=["ice cream", "bow_(weapon)", "cat"])
    assert load(renamed).fingerprint != first
    changed = np.load(tmp_path / "a" / "text_vectors.npy")
    changed[0, 0] += 0.01
    assert load(save(tmp_path / "d", text_vectors=changed)).fingerprint != first


def bad_row(value: float) -> np.ndarray:
    vectors = np.ones((4, 5), np.float32)
    vectors[2] = value
    return vectors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_vectors": bad_row(np.nan)}, r"1 rows .*'fish/one\.jpg'"),
        ({"image_vectors": bad_row(0)}, r"1 rows .*'fish/one\.jpg'"),
        ({"image_vectors": bad_row(np.inf)}, "1 rows "),
        ({"image_vectors": np.ones((3, 5))}, "3 rows, but there are 4 names"),
        ({"text_names": ["dog"]}, "3 rows, but there are 1 names"),
        ({"image_vectors": np.ones((4, 6))}, "6 dimensions and text vectors 5"),
        ({"image_vectors": np.ones((4, 5), int)}, "holds int64"),
        ({"image_vectors": np.ones(4)}, r"shape \(4,\)"),
        ({"image_names": ["a", "b", "a", "c"]}, "'a' stands twice"),
    ],
)
def test_unusable_vectors_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(save(tmp_path, **changes))


def test_missing_files_and_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingModelError, match="no folder"):
        load(tmp_path / "nothing")
    folder = save(tmp_path / "pickled")
    np.save(folder / "image_vectors.npy", np.array([{}, {}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"not an array in \.npy format"):
        load(folder)
    (folder / "image_vectors.npy").unlink()
    with pytest.raises(MissingModelError, match=r"no image_vectors\.npy"):
        load(folder)
    assert encoder_availability(f"precomputed/{folder}").startswith("missing: ")


def test_shared_clip_vectors(shared_data: Path, tmp_path: Path) -> None:
    """Real CLIP vectors: photographs find the words for what they show."""
    vectors = shared_data / "clip_vectors"
    count = len(np.load(vectors / "unsplash125_image.npy"))
    config = {
        "image_vectors": str(vectors / "unsplash125_image.npy"),
        "image_names": [f"image_{i}.jpg" for i in range(count)],
        "text_vectors": str(vectors / "text_lvis1203.npy"),
        "text_names": str(vectors / "text_lvis1203.txt"),
    }
    (tmp_path / "encoder.json").write_text(json.dumps(config))
    encoder = load(tmp_path)
    files = sorted(p.name for p in (shared_data / "images" / "unsplash125").glob("*.jpg"))
    image_nd = encoder.lookup_images(files)
    assert image_nd.shape == (len(files), 512)
    names = (vectors / "text_lvis1203.txt").read_text().splitlines()
    np.testing.assert_array_equal(encoder.embed_texts(names).shape, (1203, 512))


MODULE = """
import hashlib
import numpy as np

class Tiny:
    dim = 4
    fingerprint = "f" * 64
    description = {"kind": "tiny"}
    scale = 1.0

    def preprocess(self, image):
        return np.full((1, 2, 2), np.asarray(image).mean(), np.float32)

    def embed_images(self, pixels):
        rows = np.zeros((len(pixels), 4), np.float32)
        rows[:, 0] = self.scale
        return rows

    def embed_texts(self, texts):
        return self.embed_images(np.zeros((len(texts), 1, 2, 2), np.float32))

class NoFingerprint(Tiny):
    fingerprint = ""

class Long(Tiny):
    scale = 2.0

class Wide(Tiny):
    dim = 5

class NoText:
    dim, fingerprint, description = 4, "x", {}

class Flat(Tiny):
    def preprocess(self, image):
        return np.zeros(4)

class Stored(Tiny):
    needs_pixels = False

def broken():
    return 1 / 0

class Lively(Tiny):
    # rows that point where the pixels say
    def preprocess(self, image):
        return np.asarray(image, np.float32)[:2, :2].transpose(2, 0, 1) / 255

    def embed_images(self, pixels):
        return self.unit(pixels.reshape(len(pixels), -1)[:, :4])

    def embed_texts(self, texts):
        return self.unit(np.float32([[1, len(t), ord(t[0]), 1] for t in texts]))

    def unit(self, rows):
        return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))

class Drops(Lively):
    chance = np.random.default_rng(0)

    def embed_images(self, pixels):
        rows = super().embed_images(pixels)
        return self.unit(rows * (self.chance.random(rows.shape) > 0.4) + 1e-6)

class DropsWords(Lively):
    chance = np.random.default_rng(0)

    def embed_texts(self, texts):
        rows = super().embed_texts(texts)
        return self.unit(rows * (self.chance.random(rows.shape) > 0.4) + 1e-6)

class ByBatch(Lively):
    def embed_images(self, pixels):
        rows = super().embed_images(pixels)
        return self.unit(rows - 0.5 * rows.mean(0) + 1e-6)

class Flips(Lively):
    chance = np.random.default_rng(0)

    def preprocess(self, image):
        return super().preprocess(image)[..., :: self.chance.choice([1, -1])]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "tiny_encoder_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "tiny_encoder_module", raising=False)
    return "tiny_encoder_module"


def test_an_encoder_from_a_python_factory(module: str) -> None:
    for name in ("Tiny", "Lively"):
        spec = f"python:{module}:{name}"
        assert encoder_availability(spec) == "ready"
        encoder: Any = load_encoder(spec)
        assert (encoder.spec, encoder.needs_pixels) == (spec, True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NoFingerprint", "no fingerprint"),
        ("Long", "length 2; they must be 1"),
        ("Wide", r"shape \(2, 4\).*\(2, 5\)"),
        ("NoText", "without preprocess, embed_images, embed_texts"),
        ("Flat", r"shape \(4,\)"),
        ("Stored", "no lookup_images"),
        ("Nothing", "no function 'Nothing'"),
        ("broken", "ZeroDivisionError"),
        ("Drops", r"gives images other vectors in a second run .* evaluation mode \(.eval\(\)\)"),
        ("DropsWords", "gives texts other vectors in a second run"),
        ("ByBatch", "gives an image other vectors in a second run or beside others"),
        ("Flips", "preprocessing of python:.*:Flips gives other pixels for the same image"),
    ],
)
def test_objects_that_are_no_encoders_are_refused(module: str, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_encoder(f"python:{module}:{name}")


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(MissingModelError, match="cannot be imported"):
        load_encoder("python:no_such_module_here:encoder")
