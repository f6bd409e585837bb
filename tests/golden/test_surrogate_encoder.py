"""The stand-in encoder against the outputs its makers gave, and against real CLIP vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from csp_engine.encoders import load_encoder


@pytest.fixture(scope="module")
def encoder(shared_data: Path) -> Any:
    if not (shared_data / "surrogate_clip_vitb32").is_dir():
        pytest.skip(f"no surrogate_clip_vitb32 in {shared_data}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSP_SHARED_DATA", str(shared_data))
        return load_encoder("python:studies.surrogate:encoder")


def pixels(encoder: Any, folder: Path, files: list[str]) -> np.ndarray:
    return np.stack([encoder.preprocess(Image.open(folder / file)) for file in files])


def test_text_rows_equal_the_given_ones(encoder: Any, shared_data: Path) -> None:
    path = shared_data / "surrogate_clip_vitb32" / "text_test_vectors.json"
    given = json.loads(path.read_text())
    # They are rounded to five places, and the projection is stored in half precision.
    np.testing.assert_allclose(encoder.raw_texts(given["texts"]), given["vectors"], atol=2e-5)


def test_image_rows_equal_the_given_ones(encoder: Any, shared_data: Path) -> None:
    path = shared_data / "surrogate_clip_vitb32" / "image_test_vectors.json"
    given = json.loads(path.read_text())
    rows = encoder.raw_images(pixels(encoder, shared_data, given["images"]))
    # Another JPEG decoder than theirs moves components by up to 4e-3; bicubic instead of bilinear
    # resizing would move them by 2e-2, to a cosine of 0.994.
    np.testing.assert_allclose(rows, given["vectors"], atol=6e-3)
    assert (rows * np.array(given["vectors"])).sum(axis=1).min() > 0.9995


def test_centred_texts_find_their_photographs(encoder: Any, shared_data: Path) -> None:
    folder = shared_data / "images" / "imagenet_sample_1000"
    files = sorted(p.name for p in folder.iterdir())[::40]
    names = [Path(f).stem.split("_", 1)[1].replace("_", " ") for f in files]
    text_td = encoder.embed_texts(names)
    np.testing.assert_allclose(np.linalg.norm(text_td, axis=1), 1, atol=1e-5)
    score = encoder.embed_images(pixels(encoder, folder, files)) @ text_td.T
    rank = (score > np.diag(score)[:, None]).sum(axis=1)
    # 25 photographs among 25 names: by chance the middle name is in place 12.
    assert np.median(rank) <= 2
