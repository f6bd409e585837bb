"""The image towers of open_clip's models as networks under study.

Only what describes the tower is taken from a configuration, and only its weights from the file: the
text tower sees no images, and nothing that would run code is passed on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.loading.checkpoints import (
    NEXT_STEP,
    Checkpoint,
    downloading,
    is_cached_by_hub,
    is_offline,
    missing_model,
    read_checkpoint,
    short_reason,
)
from csp_engine.networks.loading.fitting import fit_weights
from csp_engine.networks.loading.libraries import Loaded, nearest
from csp_engine.networks.loading.preprocessing import pixel_recipe
from csp_engine.networks.loading.settings import is_plain, refuse_code

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def from_open_clip(
    rest: str, weights: Path | None, n_classes: int | None, weights_key: str | None
) -> Loaded:
    """``open_clip/ARCHITECTURE/TAG`` and ``open_clip/FOLDER``.

    Raises:
        InputError: there is no such model or folder, or its settings or weights cannot be used.
        MissingModelError: weights would have to be downloaded and cannot be.
    """
    if n_classes is not None:
        raise InputError(f"open_clip/{rest} is not a classifier; leave n_classes out.")
    folder = Path(rest).expanduser()
    if folder.is_dir():
        config = _config(folder)
        settings, pixels = config.get("model_cfg"), config.get("preprocess_cfg")
        if not isinstance(settings, Mapping) or not isinstance(pixels, Mapping):
            raise InputError(f"{folder / CONFIG} lacks model_cfg or preprocess_cfg; restore it.")
        held = next((folder / n for n in WEIGHTS if (folder / n).is_file()), None)
        if held is None and weights is None:
            raise MissingModelError(f"{folder} holds no weights; put {' or '.join(WEIGHTS)} there.")
        file = weights or held
    else:
        settings, pixels, file = _tagged(rest, weights)
    assert file is not None
    network = _tower(settings, rest)
    tensors = read_checkpoint(Path(file), weights_key)
    visual = {k[7:]: v for k, v in tensors.items() if k.startswith("visual.")}
    notices = fit_weights(network, Checkpoint(visual or tensors), Path(file).name)
    recipe, why = _recipe(pixels, network)
    return Loaded(network, recipe, why_no_recipe=why, notices=notices)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({short_reason(error)}); restore it.") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} is not a JSON object; restore it.")
    refuse_code(config, str(path))
    return config


def _tagged(rest: str, weights: Path | None) -> tuple[Any, Mapping[str, Any], Path]:
    """Settings, pixels and the file of published weights, downloaded if that is allowed."""
    import open_clip

    architecture, _, tag = rest.partition("/")
    if architecture not in open_clip.list_models():
        raise InputError(
            f"open_clip has no model {architecture!r}, nor is {rest!r} a folder; "
            f"{nearest(architecture, open_clip.list_models())}."
        )
    if not open_clip.is_pretrained_cfg(architecture, tag):
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise InputError(
            f"open_clip/{architecture} has no weights {tag!r}; it has {', '.join(tags) or 'none'}."
        )
    pixels = open_clip.get_pretrained_cfg(architecture, tag)
    settings = dict(open_clip.get_model_config(architecture) or {})
    if pixels.get("quick_gelu"):
        settings["quick_gelu"] = True  # as the weights were trained; open_clip only warns
    if weights is not None:
        return settings, pixels, weights
    what = f"The weights of open_clip/{rest}"
    repository, _, name = str(pixels.get("hf_hub", "")).rpartition("/")
    names = [f"{Path(name).stem}.safetensors", name] if name else list(WEIGHTS)
    if is_offline() and not (repository and is_cached_by_hub(repository, names)):
        raise missing_model(what, "and downloads are switched off", NEXT_STEP)
    with downloading(what):
        return settings, pixels, Path(open_clip.download_pretrained(pixels))


def _tower(settings: Any, rest: str) -> nn.Module:
    """The image tower that a model's settings describe, with random weights."""
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    told = dict(settings)
    vision = told.get("vision_cfg")
    known = {field.name for field in fields(CLIPVisionCfg)}
    if not isinstance(vision, Mapping) or not is_plain(dict(vision)):
        raise InputError(f"The settings of open_clip/{rest} describe no image tower.")
    strange = sorted(set(vision) - known)
    if strange:
        raise InputError(
            f"The settings of open_clip/{rest} have {strange[0]!r} for the image tower, which is "
            "not known here."
        )
    name = vision.get("timm_model_name")
    if name is not None and not re.fullmatch(r"[\w.]+", str(name)):
        raise InputError(f"open_clip/{rest} names the timm model {name!r}, which does not exist.")
    taken: dict[str, Any] = {**vision, "timm_model_pretrained": False}
    try:
        return _build_vision_tower(
            int(told["embed_dim"]),
            CLIPVisionCfg(**taken),
            quick_gelu=bool(told.get("quick_gelu", False)),
        )
    except Exception as error:  # whatever a library raises on settings that do not fit
        raise InputError(
            f"open_clip cannot build the image tower of {rest} ({short_reason(error)}); check its "
            "settings."
        ) from error


def _recipe(pixels: Mapping[str, Any], network: Any) -> tuple[dict[str, Any] | None, str]:
    """The recipe of a model's preprocessing, or why there is none."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    size = pixels.get("size") or getattr(network, "image_size", None)
    sides = [size, size] if isinstance(size, int) else [int(s) for s in (size or ())]
    mean, std = pixels.get("mean"), pixels.get("std")
    if mean is None or std is None or len(sides) != 2:
        return None, "The model states no preprocessing"
    is_clip = list(mean) == list(OPENAI_DATASET_MEAN) and list(std) == list(OPENAI_DATASET_STD)
    filter_ = pixels.get("interpolation", "bicubic" if is_clip else None)
    mode = pixels.get("resize_mode", "shortest" if is_clip else None)
    if filter_ is None or mode not in ("shortest", "squash") or sides[0] != sides[1]:
        return None, f"Resizing by {mode!r} with {filter_!r} has no recipe"
    base = {"interpolation": filter_, "mean": list(mean), "std": list(std)}
    if mode == "squash":
        return pixel_recipe({**base, "resize": sides, "crop": None}), ""
    return pixel_recipe({**base, "resize": sides[0], "crop": sides[0]}), ""
