"""What the networks see of a few images: pictures whose pixels are worked out by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from csp_engine.bundle import Bundle, kinds, verify
from csp_engine.networks.loading.preprocessing import pixel_pipeline, pixel_recipe
from csp_engine.pipeline import build, relabel
from csp_engine.pipeline.recipe import Recipe, changed
from csp_engine.pipeline.seeing import GAP, SIDE, as_picture, sheet
from tests.worlds import toys


def two_halves(width=80, height=40):
    """Red on the left, blue on the right, with green borders of a tenth."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 200
    pixels[:, width // 2 :, 2] = 200
    pixels[:, : width // 10] = pixels[:, -width // 10 :] = (0, 255, 0)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_normalisation_is_undone_and_a_crop_stays(colour):
    recipe = pixel_recipe(
        {
            "resize": 40,
            "crop": 40,
            "interpolation": "nearest",
            "colour": colour,
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.3, 0.4],
        }
    )
    picture = as_picture(pixel_pipeline(recipe)(two_halves()), recipe)
    assert picture is not None
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(two_halves())[:, 20:60])


def test_unknown_normalisation_is_stretched_and_what_is_no_picture_is_left_out():
    values = np.linspace(-3, 5, 48).reshape(3, 4, 4)
    stretched = np.asarray(as_picture(values, {"anything": 1}))
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert as_picture(np.zeros((16, 4, 4)), {}) is None
    assert as_picture(np.zeros((3, 4)), {}) is None
    grey = as_picture(np.full((1, 2, 2), 0.5), {"mean": 0, "std": 1})
    assert np.asarray(grey).tolist() == [[[128] * 3] * 2] * 2


def test_each_picture_has_its_place():
    red, wide = Image.new("RGB", (9, 9), (255, 0, 0)), Image.new("RGB", (64, 32), (0, 0, 255))
    pixels = np.asarray(sheet([[red, wide], [None, red]]))
    assert pixels.shape == (2 * SIDE + GAP, 2 * SIDE + GAP, 3)
    assert pixels[SIDE // 2, SIDE // 2].tolist() == [255, 0, 0]
    middle = SIDE + GAP + SIDE // 2
    assert pixels[middle, 0].tolist() == [0, 0, 255]
    assert pixels[SIDE + GAP, 0].tolist() == [128] * 3, "above a wide picture is ground"
    assert pixels[SIDE // 2, middle].tolist() == [128] * 3
    assert pixels[middle, middle].tolist() == [255, 0, 0]


@pytest.mark.slow
def test_every_build_keeps_a_sheet_per_model(tmp_path):
    targets = (toys.target(["first"]), toys.target(["second"], name="other"))
    bundle = build(toys.request(tmp_path, tmp_path / "a.csp", targets=targets))
    for model in ("small", "other"):
        content = bundle.seen(model)
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (5 * (SIDE + GAP) - GAP, 3 * (SIDE + GAP) - GAP)
        assert len(content) < 100_000
        assert bundle.fact(kinds.SEEN.name(model), "n_rows") == 3
    assert verify(bundle) == []
    before = toys.content(bundle.path)["seen:small"]
    recipe = Recipe.from_json(bundle.manifest.recipe)
    relabel(bundle.path, changed(recipe, {"gamma": 0.5}))
    build(toys.request(tmp_path, bundle.path, targets=targets[1:]))
    assert toys.content(bundle.path)["seen:small"] == before
    assert Bundle.open(bundle.path).seen("nobody") is None
