"""An encoder that has no vector for an image or a text names it, whoever asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from csp_engine import pipeline
from csp_engine.encoders.answering import embedded
from csp_engine.errors import InputError
from csp_engine.pipeline import add_faithfulness, judge_probe
from csp_engine.search.query import image_query_vector, query_vector
from csp_engine.types import TextRecipe
from csp_engine.words.templates import embed_labels, empty_vector
from tests.worlds import toys

LOST = [np.nan, np.inf, 0.0, 3.0]
"""What a number of a vector is multiplied by; the last two leave it finite, of another length."""
BRIGHT = 0.45


def lost(base: type[Any], value: float, *, images: bool, word: str = "stripe") -> Any:
    """An encoder without a unit vector for bright images, or for whatever says a word."""

    class Lost(base):  # ty: ignore[unsupported-base]
        def embed_images(self, pixels: np.ndarray) -> np.ndarray:
            rows = super().embed_images(pixels)
            is_bright = images & (pixels.mean(axis=(1, 2, 3)) > BRIGHT)
            return np.where(is_bright[:, None], rows * np.float32(value), rows)

        def embed_texts(self, texts: list[str]) -> np.ndarray:
            rows = super().embed_texts(texts)
            is_lost = np.array([not images and word in text.split() for text in texts])
            return np.where(is_lost[:, None], rows * np.float32(value), rows)

    return Lost()


@pytest.mark.parametrize("value", LOST)
def test_a_build_names_the_text_and_the_image(tmp_path: Path, value: float) -> None:
    shown = sorted(toys.draw_images(tmp_path / "images").rglob("*.png"))
    sees = toys.ColourEncoder().preprocess
    first = next(file for file in shown if sees(Image.open(file)).mean() > BRIGHT)
    named = {False: "the text 'stripe' a vector", True: rf"for image \w+/{first.name}"}
    for images, said in named.items():
        encoder = lost(toys.ColourEncoder, value, images=images)
        asked = toys.request(tmp_path, tmp_path / f"{images}.csp", encoder=encoder)
        with pytest.raises(InputError, match=said):
            pipeline.build(asked)


@pytest.mark.parametrize("value", LOST)
def test_so_do_a_search_and_a_judge(tmp_path: Path, value: float) -> None:
    bundle = pipeline.build(toys.request(tmp_path, tmp_path / "a.csp"))
    for images, said in {False: "the text 'red'", True: r"for image \w+/\d+\.png"}.items():
        judge = lost(toys.Judge, value, images=images, word="red")
        with pytest.raises(InputError, match=said):
            add_faithfulness(bundle.path, judge_probe(bundle, judge))
    with pytest.raises(InputError, match="'odd stripe'"):
        query_vector(bundle, "odd stripe", lost(toys.ColourEncoder, value, images=False))
    white = Image.new("RGB", (9, 9), "white")
    with pytest.raises(InputError, match="searched with"):
        image_query_vector(bundle, white, lost(toys.ColourEncoder, value, images=True))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nothing_is_taken_off_that_is_no_number(value: float) -> None:
    """The empty text stands in every vector where it is subtracted."""

    def embed(texts: list[str]) -> np.ndarray:
        rows = np.tile(np.array([[0.6, 0.8]], np.float32), (len(texts), 1))
        rows[[text == "a " for text in texts]] *= value
        return rows

    recipe = TextRecipe(("a {}",), subtract_empty=True)
    with pytest.raises(InputError, match="'a '"):
        embed_labels(embed, ["red"], recipe)
    with pytest.raises(InputError, match="'a '"):
        empty_vector(embed, recipe)


def test_lengths_of_half_precision_are_let_through() -> None:
    """A unit vector of 512 halves is off by less than a thousandth."""
    rows = np.random.default_rng(0).normal(size=(20, 512))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)

    class Halves(toys.ColourEncoder):
        def embed_images(self, pixels: np.ndarray) -> np.ndarray:
            return rows

    pixels = np.zeros((20, 3, 2, 2), np.float32)
    found = embedded(Halves(), pixels, [str(row) for row in range(20)])
    assert found.dtype == np.float32
    assert np.array_equal(found, rows.astype(np.float32))
