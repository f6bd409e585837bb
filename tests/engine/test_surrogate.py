"""The stand-in encoder reproduces the vectors it came with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.surrogate import SurrogateEncoder


@pytest.fixture(scope="module")
def surrogate(shared_data):
    return SurrogateEncoder(shared_data)


def test_texts(surrogate, shared_data):
    path = shared_data / "surrogate_clip_vitb32" / "text_test_vectors.json"
    expected = json.loads(path.read_text())
    found = surrogate.raw_texts(expected["texts"])
    np.testing.assert_allclose(found, np.array(expected["vectors"]), atol=2e-4)


def test_images(surrogate, shared_data):
    path = shared_data / "surrogate_clip_vitb32" / "image_test_vectors.json"
    expected = json.loads(path.read_text())
    files = expected["images"]
    pixels = []
    for file in files:
        with Image.open(shared_data / file) as image:
            pixels.append(surrogate.preprocess(image.convert("RGB")))
    found = surrogate.raw_images(np.stack(pixels))
    cosine = (found * np.array(expected["vectors"])).sum(axis=1)
    assert cosine.min() > 0.999
