"""Pixels: our recipe against the transforms it claims to equal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from csp_engine.errors import InputError
from csp_engine.networks.loading.preprocessing import (
    pixel_pipeline,
    pixel_recipe,
    require_repeatable,
    share_cut,
    timm_recipe,
    transformers_recipe,
    whole_image,
)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BASE = {"resize": 40, "crop": 32, "interpolation": "bilinear", "mean": MEAN, "std": STD}
SIZES = [(64, 64), (57, 80), (91, 43), (40, 40), (33, 300), (20, 25), (1, 7)]  # width, height


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest"])
def test_equals_torchvision_for_any_image_size(size, name):
    from torchvision import transforms as t

    theirs = t.Compose(
        [
            t.Resize(40, interpolation=t.InterpolationMode(name)),
            t.CenterCrop(32),
            t.ToTensor(),
            t.Normalize(MEAN, STD),
        ]
    )
    ours = pixel_pipeline(pixel_recipe(BASE | {"interpolation": name}))
    np.testing.assert_allclose(ours(noise(size)), theirs(noise(size)).numpy(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_crop_without_resize_equals_torchvision_also_where_it_pads(size):
    from torchvision import transforms as t

    theirs = t.Compose([t.CenterCrop((28, 36)), t.ToTensor(), t.Normalize(MEAN, STD)])
    ours = pixel_pipeline(pixel_recipe(BASE | {"resize": None, "crop": [28, 36]}))
    np.testing.assert_allclose(ours(noise(size)), theirs(noise(size)).numpy(), atol=1e-6, rtol=0)


def test_equals_the_preset_of_real_torchvision_weights():
    from torchvision.models import MobileNet_V2_Weights

    preset = MobileNet_V2_Weights.IMAGENET1K_V2.transforms()
    ours = pixel_pipeline(pixel_recipe(BASE | {"resize": 232, "crop": 224}))
    image = noise((301, 250))
    np.testing.assert_allclose(ours(image), preset(image).numpy(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("mode", "pct", "is_ours"),
    [("center", 0.875, True), ("squash", 0.9, True), ("border", 1.0, False)],
)
def test_timm_settings_become_a_recipe_or_stay_timms_own(mode, pct, is_ours):
    from timm.data import create_transform

    config = {
        "input_size": (3, 48, 48),
        "interpolation": "bicubic",
        "mean": tuple(MEAN),
        "std": tuple(STD),
        "crop_pct": pct,
        "crop_mode": mode,
    }
    recipe, own = timm_recipe(config)
    assert (recipe is not None) == is_ours
    ours = pixel_pipeline(recipe) if recipe else own
    theirs = create_transform(**config, is_training=False)
    for size in [(64, 90), (90, 61)]:
        np.testing.assert_allclose(
            ours(noise(size)), theirs(noise(size)).numpy(), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(
    "kind", ["ViTImageProcessorPil", "CLIPImageProcessorPil", "ConvNextImageProcessorPil"]
)
def test_transformers_processors_become_a_recipe_with_the_same_pixels(kind):
    import transformers

    options = {
        "ViTImageProcessorPil": {"size": {"height": 32, "width": 48}},
        "CLIPImageProcessorPil": {
            "size": {"shortest_edge": 40},
            "crop_size": {"height": 33, "width": 33},
        },
        "ConvNextImageProcessorPil": {"size": {"shortest_edge": 64}, "crop_pct": 0.8},
    }[kind]
    processor = getattr(transformers, kind)(**options)
    recipe, own = transformers_recipe(processor)
    assert own is None
    image = noise((91, 150), seed=3)
    theirs = processor(images=image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(pixel_pipeline(recipe)(image), theirs, atol=1e-5, rtol=0)


def test_a_processor_that_pads_keeps_its_own_pixels():
    import transformers

    processor = transformers.ViTImageProcessorPil(
        size={"height": 32, "width": 32}, do_pad=True, pad_size={"height": 40, "width": 40}
    )
    record, own = transformers_recipe(processor)
    assert set(record) == {"transformers"}
    assert own(noise((50, 60))).shape == (3, 40, 40)


def test_colours_and_scale():
    image = Image.new("RGB", (2, 2), (255, 0, 51))
    plain = {"resize": None, "crop": 2, "mean": 0, "std": 1}
    rgb = pixel_pipeline(pixel_recipe(plain))(image)[:, 0, 0]
    np.testing.assert_allclose(rgb, [1, 0, 0.2], rtol=1e-6)
    bgr = pixel_pipeline(pixel_recipe(plain | {"colour": "bgr"}))(image)[:, 0, 0]
    np.testing.assert_allclose(bgr, [0.2, 0, 1], rtol=1e-6)
    grey = pixel_pipeline(pixel_recipe(plain | {"colour": "grey", "scale": 1}))(image)
    assert grey.shape == (1, 2, 2)
    assert grey[0, 0, 0] == np.asarray(image.convert("L"))[0, 0]


def test_result_is_contiguous_float32_and_the_image_is_untouched():
    image = noise((50, 60))
    before = image.tobytes()
    pixels = pixel_pipeline(pixel_recipe(BASE))(image)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    assert torch.from_numpy(pixels).shape == (3, 32, 32)
    assert image.tobytes() == before


def test_what_is_not_given_comes_from_the_weights():
    base = pixel_recipe(BASE)
    assert pixel_recipe({"mean": [0, 0, 0]}, base) == base | {"mean": [0.0, 0.0, 0.0]}
    assert pixel_recipe(base) == base


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "lacks resize, crop, mean, std"),
        ({"resize": 4, "crop": 4, "mean": 0, "std": 1}, "lacks interpolation"),
        (BASE | {"size": 3}, "no key 'size'"),
        (BASE | {"resize": True}, "'resize' is True"),
        (BASE | {"resize": 0}, "'resize' is 0"),
        (BASE | {"crop": [1, 2, 3]}, "'crop' is"),
        (BASE | {"crop": None}, "different sizes"),
        (BASE | {"interpolation": "cubic"}, "nearest, bilinear, bicubic"),
        (BASE | {"mean": [1, 2]}, "3 numbers"),
        (BASE | {"mean": "x"}, "3 numbers"),
        (BASE | {"std": [1, 0, 1]}, "holds a 0"),
        (BASE | {"colour": "hsv"}, "rgb, bgr, grey"),
        (BASE | {"scale": "big"}, "use a number"),
        (BASE | {"crop_offset": "ceil"}, "'round' or 'floor'"),
    ],
)
def test_a_recipe_that_says_too_little_or_nonsense_is_refused(given, words):
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        pixel_recipe(given)


@pytest.mark.parametrize(
    ("recipe", "size", "cut"),
    [
        ({"resize": 256, "crop": 224}, (500, 500), 1 - (224 / 256) ** 2),
        ({"resize": 256, "crop": 224}, (600, 450), 1 - 224 / 256 * 224 / (256 * 600 / 450)),
        ({"resize": 224, "crop": 224}, (224, 300), 1 - 224 / 300),
        ({"resize": [224, 224], "crop": None}, (900, 100), 0),
        ({"resize": None, "crop": [50, 100]}, (200, 100), 0.75),
        ({"resize": None, "crop": 500}, (200, 100), 0),
    ],
)
def test_the_share_that_a_crop_cuts(recipe, size, cut):
    whole = pixel_recipe(recipe | {"interpolation": "bilinear", "mean": 0.5, "std": 0.5})
    assert share_cut(whole, *size) == pytest.approx(cut)
    assert share_cut(whole_image(whole), *size) == 0


def test_whole_shows_the_corners_that_a_crop_cuts():
    recipe = pixel_recipe(
        {"resize": 40, "crop": 32, "interpolation": "bilinear", "mean": 0.0, "std": 1.0}
    )
    image = Image.new("RGB", (60, 40))
    for corner in ((0, 0), (57, 37)):
        image.paste((255, 255, 255), (*corner, corner[0] + 3, corner[1] + 3))
    assert pixel_pipeline(recipe)(image).max() == 0
    seen = pixel_pipeline(whole_image(recipe))(image)
    assert seen.shape == (3, 32, 32)
    assert seen[:, 0, 0].min() > 0.5
    assert seen[:, -1, -1].min() > 0.5
    with pytest.raises(InputError, match="needs to know the size"):
        whole_image({"timm": {}})


CAFFE = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        (CAFFE, "mean", "123.675"),
        ({"mean": 0.0, "std": 255.0}, "std", "255"),
        ({"mean": [0.485, 0.456, -0.406]}, "mean", "-0.406"),
        ({"mean": 127.5, "std": 1.0, "scale": 1 / 127.5}, "mean", "127.5"),
    ],
)
def test_mean_and_std_of_another_scale_than_the_pixels_are_refused(change, key, value):
    with pytest.raises(InputError, match=f"'{key}' holds {value}, where pixels .* lie between 0"):
        pixel_recipe(BASE | change)


def test_pixels_from_0_to_255_with_a_mean_of_theirs():
    ours = pixel_pipeline(pixel_recipe(BASE | CAFFE | {"scale": 1}))
    unit = pixel_pipeline(pixel_recipe(BASE))
    np.testing.assert_allclose(ours(noise((64, 64))), unit(noise((64, 64))), atol=1e-5)
    for kept in (
        {"scale": 1 / 127.5, "mean": 1.0, "std": 1.0},
        {"scale": 1, "mean": 0, "std": 255},
    ):
        pixel_recipe(BASE | kept)


def test_transforms_of_training_are_refused():
    from torchvision import transforms as t

    last = [t.ToTensor()]
    for name, random in {
        "flip": t.RandomHorizontalFlip(),
        "crop": t.RandomCrop(40),
        "colours": t.ColorJitter(brightness=0.2),
    }.items():
        chain = t.Compose([t.Resize((48, 48)), random, *last])
        with pytest.raises(InputError, match=f"preprocessing of {name} gives other pixels"):
            require_repeatable(lambda image, chain=chain: chain(image).numpy(), name)
    require_repeatable(lambda image: t.Compose([t.Resize((48, 48)), *last])(image).numpy(), "net")
