"""From one image to the pixels a network was trained on, by a recipe that can be written down.

A recipe is a plain mapping; together with the image it fully determines the array:

- ``resize``: an int (the shorter side, aspect ratio kept), ``[height, width]``, or null;
- ``interpolation``: nearest, bilinear, bicubic, lanczos, box or hamming, as Pillow defines them
  (always with antialiasing); null exactly when ``resize`` is;
- ``crop``: an int or ``[height, width]`` taken from the centre (black borders where the image is
  smaller), or null;
- ``crop_offset``: ``round`` (torchvision) or ``floor`` (transformers) of half the margin;
- ``colour``: ``rgb``, ``bgr`` or ``grey``;
- ``scale``: factor on the 8-bit values, 1/255 unless said otherwise;
- ``mean``, ``std``: one number per channel, applied as ``(scale * value - mean) / std``.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from csp_engine.errors import InputError

logger = logging.getLogger(__name__)

Preprocess = Callable[[Image.Image], np.ndarray]
"""One RGB image to one float32 array (channel, height, width); safe in several threads."""

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
CHANNELS = {"rgb": 3, "bgr": 3, "grey": 1}
KEYS = ("resize", "interpolation", "crop", "crop_offset", "colour", "scale", "mean", "std")
N_AGAIN = 15
"""Runs in which a random flip is noticed nearly for certain."""
REQUIRED = ("resize", "crop", "mean", "std")


def _side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 14


def _pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(_side(v) for v in value)


def _per_channel(key: str, given: Any, n_channels: int) -> list[float]:
    values = given if isinstance(given, list | tuple) else [given] * n_channels
    try:
        values = [float(v) for v in values]
    except (TypeError, ValueError):
        values = []
    if len(values) != n_channels or not np.isfinite(values).all():
        raise InputError(
            f"Preprocessing {key!r} is {given!r}; give {n_channels} "
            f"number{'s' if n_channels > 1 else ''}, one per channel."
        )
    return values


def pixel_recipe(given: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Complete and check a preprocessing recipe.

    Args:
        given: keys of the recipe; what is not given comes from ``base``.
        base: the recipe of the weights, or None where nothing is known: then ``resize``, ``crop``,
            ``mean`` and ``std`` (and ``interpolation``, if images are resized) must be given.

    Returns:
        The canonical recipe, JSON-ready, with every key present.

    Raises:
        InputError: a key is unknown, missing or impossible, or images would end in many sizes.
    """
    unknown = [key for key in given if key not in KEYS]
    if unknown:
        raise InputError(
            f"Preprocessing has no key {unknown[0]!r}; the keys are {', '.join(KEYS)}."
        )
    known = {k: v for k, v in (base or {}).items() if k in KEYS}
    recipe: dict[str, Any] = {"crop_offset": "round", "colour": "rgb", "scale": 1 / 255}
    recipe |= known | dict(given)
    missing = [key for key in REQUIRED if key not in recipe]
    if recipe.get("resize") is not None and recipe.get("interpolation") is None:
        missing.append("interpolation")
    if missing:
        raise InputError(
            f"Preprocessing lacks {', '.join(missing)}; how the network was trained cannot be "
            'guessed; state it with --preprocessing FILE, JSON such as {"resize": 256, "crop": '
            '224, "interpolation": "bilinear", "mean": [0.485, 0.456, 0.406], "std": [0.229, '
            "0.224, 0.225]}."
        )
    resize, crop = recipe["resize"], recipe["crop"]
    if not (resize is None or _side(resize) or _pair(resize)):
        raise InputError(
            f"Preprocessing 'resize' is {resize!r:.80}; use a side, [height, width] or null."
        )
    if not (crop is None or _side(crop) or _pair(crop)):
        raise InputError(
            f"Preprocessing 'crop' is {crop!r:.80}; use a side, [height, width] or null."
        )
    if crop is None and not _pair(resize):
        raise InputError(
            f"Preprocessing with resize {resize!r} and no crop leaves images of different sizes; "
            "add 'crop', or give 'resize' as [height, width]."
        )
    if resize is None:
        recipe["interpolation"] = None
    elif recipe["interpolation"] not in INTERPOLATIONS:
        raise InputError(
            f"Interpolation {recipe['interpolation']!r} does not exist; "
            f"choose one of {', '.join(INTERPOLATIONS)}."
        )
    if recipe["colour"] not in CHANNELS:
        raise InputError(
            f"Colour {recipe['colour']!r} does not exist; choose one of {', '.join(CHANNELS)}."
        )
    if recipe["crop_offset"] not in ("round", "floor"):
        raise InputError(
            f"Preprocessing 'crop_offset' is {recipe['crop_offset']!r}; use 'round' or 'floor'."
        )
    for key in ("mean", "std"):
        recipe[key] = _per_channel(key, recipe[key], CHANNELS[recipe["colour"]])
    if min(abs(v) for v in recipe["std"]) == 0:
        raise InputError("Preprocessing 'std' holds a 0, which nothing can be divided by.")
    try:
        recipe["scale"] = float(recipe["scale"])
    except (TypeError, ValueError):
        raise InputError(f"Preprocessing 'scale' is {recipe['scale']!r}; use a number.") from None
    _require_one_scale(recipe)
    recipe["resize"] = list(resize) if _pair(resize) else resize
    recipe["crop"] = [crop, crop] if _side(crop) else (list(crop) if crop is not None else None)
    return {key: recipe[key] for key in KEYS}


def _require_one_scale(recipe: Mapping[str, Any]) -> None:
    """Refuse a mean that no pixel has, or a std wider than all of them: of another scale.

    Raises:
        InputError: with what pixels come to.
    """
    low, high = sorted((0.0, 255 * recipe["scale"]))
    margin = 1e-6 * (high - low)
    strange = [v for v in recipe["mean"] if not low - margin <= v <= high + margin]
    wide = [v for v in recipe["std"] if abs(v) > high - low + margin]
    if strange or wide:
        key, value = ("mean", strange[0]) if strange else ("std", wide[0])
        raise InputError(
            f"Preprocessing {key!r} holds {value:g}, where pixels times the scale of "
            f'{recipe["scale"]:g} lie between {low:g} and {high:g}; give "scale": 1 for a mean and '
            "std of pixels from 0 to 255, or divide both by 255."
        )


def require_repeatable(preprocess: Preprocess, name: str) -> None:
    """Refuse what gives other pixels for the same image, as the transforms of training do.

    Raises:
        InputError: as above.
    """
    noise = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    first = np.asarray(preprocess(Image.fromarray(noise)))
    for _ in range(N_AGAIN):
        if not np.array_equal(np.asarray(preprocess(Image.fromarray(noise))), first):
            raise InputError(
                f"The preprocessing of {name} gives other pixels for the same image in another "
                "run, as random crops and flips do; give the transforms of evaluation."
            )


def _resized(image: Image.Image, resize: Any, filter_: Image.Resampling) -> Image.Image:
    if isinstance(resize, int):
        short, long = sorted(image.size)
        if short == resize:
            return image
        other = int(resize * long / short)
        size = (resize, other) if image.width <= image.height else (other, resize)
    else:
        size = (resize[1], resize[0])
    return image if size == image.size else image.resize(size, filter_)


def _cropped(image: Image.Image, crop: list[int], offset: str) -> Image.Image:
    height, width = crop
    if image.width < width or image.height < height:
        left = max(0, (width - image.width) // 2)
        top = max(0, (height - image.height) // 2)
        canvas = Image.new(image.mode, (max(width, image.width), max(height, image.height)))
        canvas.paste(image, (left, top))
        image = canvas
    if image.size == (width, height):
        return image
    margin_x, margin_y = image.width - width, image.height - height
    if offset == "round":  # round half to even, as torchvision's center_crop does
        left, top = round(margin_x / 2), round(margin_y / 2)
    else:
        left, top = margin_x // 2, margin_y // 2
    return image.crop((left, top, left + width, top + height))


def whole_image(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe that shows a network the whole image, squeezed to the size that it expects.

    Raises:
        InputError: the recipe is a library's own, so that its size is not known here.
    """
    if not set(REQUIRED) <= set(recipe):
        raise InputError(
            "--preprocessing whole needs to know the size that the network expects, which its own "
            "transform hides; give a JSON file with resize as [height, width]."
        )
    size = recipe["crop"] if recipe["crop"] is not None else recipe["resize"]
    height, width = (size, size) if isinstance(size, int) else size
    filter_ = recipe["interpolation"] or "bilinear"
    squeezed = {"resize": [height, width], "crop": None, "interpolation": filter_}
    return pixel_recipe(squeezed, recipe)


def kept_recipe(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The recipe in a bundle's record of preprocessing; None where a library's own stands there."""
    is_recipe = record is not None and set(REQUIRED) <= set(record) <= set(KEYS)
    return dict(record) if record is not None and is_recipe else None


def share_cut(recipe: Mapping[str, Any], width: int, height: int) -> float:
    """What share of an image's area a recipe cuts away before the network sees it; 0 if unknown."""
    if not set(REQUIRED) <= set(recipe) or recipe["crop"] is None:
        return 0.0
    resize, crop = recipe["resize"], recipe["crop"]
    if isinstance(resize, int):
        scale = resize / min(width, height)
        width_after, height_after = width * scale, height * scale
    else:
        height_after, width_after = resize or (height, width)
    crop_height, crop_width = (crop, crop) if isinstance(crop, int) else crop
    seen = min(1.0, crop_height / height_after) * min(1.0, crop_width / width_after)
    return 1.0 - seen


def pixel_pipeline(recipe: Mapping[str, Any]) -> Preprocess:
    """The function that a recipe from ``pixel_recipe`` describes.

    For Pillow images it equals torchvision's Resize, CenterCrop, ToTensor and Normalize bit for
    bit: the 256 possible values of each channel are computed once, in the same float32 steps.
    """
    resize, crop, offset = recipe["resize"], recipe["crop"], recipe["crop_offset"]
    filter_ = INTERPOLATIONS[recipe["interpolation"]] if resize is not None else None
    mode = "L" if recipe["colour"] == "grey" else "RGB"
    order = [2, 1, 0] if recipe["colour"] == "bgr" else list(range(len(recipe["mean"])))
    value = np.arange(256, dtype=np.float32)
    # Dividing by 255 and multiplying with its inverse differ in the last bit; torchvision divides.
    is_unit = recipe["scale"] == 1 / 255
    value = value / np.float32(255) if is_unit else value * np.float32(recipe["scale"])
    mean_c = np.asarray(recipe["mean"], np.float32)
    std_c = np.asarray(recipe["std"], np.float32)
    table_cv = np.ascontiguousarray((value[None] - mean_c[:, None]) / std_c[:, None])

    def preprocess(image: Image.Image) -> np.ndarray:
        image = image if image.mode == mode else image.convert(mode)
        if filter_ is not None:
            image = _resized(image, resize, filter_)
        if crop is not None:
            image = _cropped(image, crop, offset)
        value_hwc = np.asarray(image).reshape(image.height, image.width, -1)
        pixel_chw = np.empty((len(order), image.height, image.width), np.float32)
        for channel, source in enumerate(order):
            np.take(table_cv[channel], value_hwc[..., source], out=pixel_chw[channel], mode="clip")
        return pixel_chw

    return preprocess


def timm_recipe(config: Mapping[str, Any]) -> tuple[dict[str, Any] | None, Preprocess | None]:
    """Our recipe of a timm data config, or timm's own transform where ours cannot say it."""
    from timm.data import create_transform

    channels, height, width = config["input_size"]
    scaled = [math.floor(side / config["crop_pct"]) for side in (height, width)]
    mode = config.get("crop_mode") or "center"
    is_plain = mode in ("center", "squash") and config["interpolation"] in INTERPOLATIONS
    if is_plain and channels == 3 and (mode == "squash" or scaled[0] == scaled[1]):
        given = {
            "resize": scaled if mode == "squash" else scaled[0],
            "interpolation": config["interpolation"],
            "crop": [height, width],
            "mean": list(config["mean"]),
            "std": list(config["std"]),
        }
        return pixel_recipe(given), None
    transform = create_transform(**config, is_training=False)

    def preprocess(image: Image.Image) -> np.ndarray:
        return np.ascontiguousarray(transform(image.convert("RGB")).numpy(), np.float32)

    return None, preprocess


def transformers_recipe(processor: Any) -> tuple[dict[str, Any], Preprocess | None]:
    """Our recipe of an image processor, kept only if both give the same pixels; else its own."""

    def own(image: Image.Image) -> np.ndarray:
        pixels = processor(images=image.convert("RGB"), return_tensors="np")["pixel_values"]
        return np.ascontiguousarray(np.asarray(pixels)[0], np.float32)

    settings = processor.to_dict()
    filters = {int(v): k for k, v in INTERPOLATIONS.items()}

    def sides(size: Any) -> Any:
        size = size if isinstance(size, Mapping) else {"shortest_edge": size}
        if size.get("height"):
            return [int(size["height"]), int(size["width"])]
        return int(size["shortest_edge"])

    given: dict[str, Any] = {"crop_offset": "floor"}
    try:
        given["resize"] = sides(settings["size"]) if settings.get("do_resize") else None
        given["crop"] = sides(settings["crop_size"]) if settings.get("do_center_crop") else None
        short = given["resize"]
        if isinstance(short, int) and given["crop"] is None and settings.get("crop_pct"):
            # ConvNeXt's rule: below 384 enlarge by 1/crop_pct and crop, from 384 on squash.
            given["crop"] = short if short < 384 else None
            given["resize"] = int(short / settings["crop_pct"]) if short < 384 else [short, short]
        if given["resize"] is not None:
            given["interpolation"] = filters[int(settings["resample"])]
        if not settings.get("do_rescale"):
            given["scale"] = 1.0
        elif abs(settings["rescale_factor"] * 255 - 1) > 1e-9:
            given["scale"] = float(settings["rescale_factor"])
        normal = settings.get("do_normalize")
        given["mean"] = list(settings["image_mean"]) if normal else [0.0] * 3
        given["std"] = list(settings["image_std"]) if normal else [1.0] * 3
        recipe = pixel_recipe(given)
        ours = pixel_pipeline(recipe)
        rng = np.random.default_rng(0)
        for size in ((333, 250), (251, 410), (61, 40)):
            noise = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
            if not np.allclose(ours(noise), own(noise), atol=1e-5):
                raise ValueError(f"pixels differ for an image of {size}")
        return recipe, None
    except (KeyError, TypeError, ValueError, InputError) as reason:
        logger.debug("%s is used as it is: %s", type(processor).__name__, reason)
    return {"transformers": json.loads(json.dumps(settings, sort_keys=True, default=str))}, own
