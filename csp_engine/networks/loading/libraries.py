"""Networks of torchvision, timm and transformers, with the pixels that their weights expect."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.loading.checkpoints import (
    NEXT_STEP,
    Checkpoint,
    downloading,
    is_cached_by_hub,
    is_cached_by_torch,
    is_offline,
    missing_model,
    read_checkpoint,
    short_reason,
)
from csp_engine.networks.loading.fitting import fit_weights
from csp_engine.networks.loading.heads import n_outputs_in, take_head
from csp_engine.networks.loading.preprocessing import (
    Preprocess,
    pixel_recipe,
    timm_recipe,
    transformers_recipe,
)
from csp_engine.networks.loading.settings import is_plain, refuse_adapter, refuse_code

logger = logging.getLogger(__name__)
REPOSITORY = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}(@[\w./-]+)?", re.ASCII)
"""What the hub calls a model, and perhaps a revision of it."""


@dataclass
class Loaded:
    """What a spec gave, before overrides: ``preprocess`` only where no recipe can say it."""

    network: nn.Module
    recipe: dict[str, Any] | None
    class_names: tuple[str, ...] | None = None
    preprocess: Preprocess | None = None
    why_no_recipe: str = ""
    notices: list[str] = field(default_factory=list)


def _fitted(
    build: Callable[[int | None], nn.Module],
    tensors: Checkpoint,
    source: str,
    n_classes: int | None,
) -> tuple[nn.Module, list[str]]:
    """An architecture with a checkpoint in it, its number of outputs as the weights have it."""
    network = build(n_classes)
    notices = list(tensors.notices)
    if n_classes is None:
        found = n_outputs_in(network, tensors)
        if found is not None:
            network = build(found)
            notices.append(f"{source} has {found} outputs.")
    notices += take_head(network, tensors)
    return network, notices + fit_weights(network, tensors, source)


def nearest(name: str, known: Sequence[str]) -> str:
    """The names most like one that does not exist, in words."""
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"the nearest names are {', '.join(near)}" if near else "see the library's list of names"


def from_torchvision(
    rest: str, weights: Path | None, n_classes: int | None, weights_key: str | None
) -> Loaded:
    """``torchvision/NAME[:WEIGHTS]``."""
    from torchvision.models import get_model, get_model_weights, list_models
    from torchvision.transforms._presets import ImageClassification

    name, _, chosen = rest.partition(":")
    if name not in list_models():
        raise InputError(f"torchvision has no model {name!r}; {nearest(name, list_models())}.")
    known = get_model_weights(name)
    if not chosen:
        wanted = "IMAGENET1K_V1" if weights else "DEFAULT"
        entry = known.__members__.get(wanted)
    elif chosen in known.__members__:
        entry = known[chosen]
    else:
        raise InputError(
            f"torchvision/{name} has no weights {chosen!r}; it has {', '.join(known.__members__)}."
        )
    recipe, why = None, f"torchvision/{name} has no image-classification preprocessing"
    preset = entry.transforms() if entry is not None else None
    if isinstance(preset, ImageClassification):
        size = preset.resize_size
        recipe = pixel_recipe(
            {
                "resize": int(size[0]) if len(size) == 1 else [int(s) for s in size],
                "interpolation": preset.interpolation.value.replace("nearest-exact", "nearest"),
                "crop": int(preset.crop_size[0]),
                "mean": [float(v) for v in preset.mean],
                "std": [float(v) for v in preset.std],
            }
        )
    if weights is not None:
        options: dict[str, Any] = {}
        if name in ("inception_v3", "googlenet"):
            # Their published weights expect this re-normalisation; it belongs to the preprocessing.
            options |= {"transform_input": True, "init_weights": False}

        def build(n: int | None) -> nn.Module:
            sized = {} if n is None else {"num_classes": n}
            return get_model(name, weights=None, **options, **sized)

        tensors = read_checkpoint(weights, weights_key)
        if name.startswith("densenet"):  # published files use names from before torch 0.4
            old = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$")
            renamed = {old.sub(r"\1\2", k): v for k, v in tensors.items()}
            tensors = Checkpoint(renamed, tensors.notices)
        network, notices = _fitted(build, tensors, Path(weights).name, n_classes)
        return Loaded(network, recipe, why_no_recipe=why, notices=notices)
    _no_other_head(n_classes)
    if entry is None:
        raise InputError(f"torchvision/{name} has no published weights; give a weights file.")
    what = f"The weights {entry.name} of torchvision/{name}"
    if is_offline() and not is_cached_by_torch(entry.url):
        raise missing_model(what, "and downloads are switched off", NEXT_STEP)
    with downloading(what):
        network = get_model(name, weights=entry, progress=False)
    return Loaded(network, recipe, tuple(entry.meta.get("categories", ())) or None, None, why)


def _no_other_head(n_classes: int | None) -> None:
    if n_classes is not None:
        raise InputError(
            f"n_classes={n_classes} needs a weights file trained for it; published weights keep "
            "their own classes."
        )


def _require_known_to_timm(rest: str, weights: Path | None) -> None:
    import timm

    architecture, _, tag = rest.partition(".")
    if not timm.is_model(architecture):
        raise InputError(
            f"timm has no model {architecture!r}; {nearest(architecture, timm.list_models())}."
        )
    known = timm.list_pretrained(f"{architecture}.*") + timm.list_pretrained(architecture)
    if tag and rest not in known:
        raise InputError(
            f"timm/{architecture} has no weights {tag!r}; it has "
            f"{', '.join(k.partition('.')[2] for k in known) or 'none'}."
        )
    if not known and weights is None:
        raise InputError(f"timm/{rest} has no published weights; give a weights file.")


def from_timm(
    rest: str, weights: Path | None, n_classes: int | None, weights_key: str | None
) -> Loaded:
    """``timm/NAME[.TAG]`` and ``hf-hub:ORG/NAME``."""
    import timm
    from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config

    is_hub = rest.startswith("hf-hub:")
    if not is_hub:
        _require_known_to_timm(rest, weights)
    what = f"The weights of {rest if is_hub else f'timm/{rest}'}"
    repository = rest.removeprefix("hf-hub:")
    if is_hub and not REPOSITORY.fullmatch(repository):
        raise InputError(f"{rest!r:.120} names no repository; write hf-hub:ORG/NAME.")
    create: Any = timm.create_model
    if is_offline():
        files, source = ["config.json"] if is_hub else [], repository
        url = ""
        if not is_hub and weights is None:
            entry: Any = timm.get_pretrained_cfg(rest)
            url, source = entry.url or "", entry.hf_hub_id or ""
            files = [entry.hf_hub_filename or "model.safetensors", "pytorch_model.bin"]
        if files and not (
            (source and is_cached_by_hub(source, files)) or (url and is_cached_by_torch(url))
        ):
            raise missing_model(what, "and downloads are switched off", NEXT_STEP)
    if is_hub:
        with downloading(f"The settings of {rest}"):
            settings = timm.models.load_model_config_from_hf(repository)
        refuse_code(list(settings), f"config.json of {repository}")
        if not is_plain(settings[2] or {}):
            raise InputError(f"config.json of {repository} has model_args that no network takes.")
    notices: list[str] = []
    network: Any
    if weights is not None:

        def build(n: int | None) -> nn.Module:
            sized = {} if n is None else {"num_classes": n}
            with downloading(f"The settings of {rest}"):
                return create(rest, pretrained=False, **sized)

        tensors = read_checkpoint(weights, weights_key)
        fitted, notices = _fitted(build, tensors, Path(weights).name, n_classes)
        network = fitted
    else:
        _no_other_head(n_classes)
        with downloading(what):
            network = create(rest, pretrained=True)
    config = resolve_data_config({}, model=network)
    recipe, preprocess = timm_recipe(config)
    names: tuple[str, ...] | None = None
    if weights is None:
        labels = getattr(network, "pretrained_cfg", {}).get("label_names")
        subset = infer_imagenet_subset(network)
        if labels:
            names = tuple(map(str, labels))
        elif subset:
            info, count = ImageNetInfo(subset), cast("int", network.num_classes)
            names = tuple(info.index_to_description(i) for i in range(count))
    loaded = Loaded(network, recipe, names, preprocess, notices=notices)
    if recipe is None:
        loaded.recipe = {"timm": json.loads(json.dumps(config))}
    return loaded


def _own_folder(rest: str) -> Path | None:
    """The folder that a spec names, checked, or None where it names a repository."""
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        if rest.startswith((".", "/", "~")):
            raise InputError(f"The folder {rest} does not exist; give one with a config.json.")
        return None
    refuse_adapter(folder)
    if not (folder / "config.json").is_file():
        raise InputError(f"The folder {rest} has no config.json; save_pretrained() writes one.")
    for path in (folder / "config.json", folder / "preprocessor_config.json"):
        if path.is_file():
            refuse_code(_stated(path), str(path))
    return folder


def from_transformers(
    rest: str, weights: Path | None, n_classes: int | None, weights_key: str | None, own: bool
) -> Loaded:
    """``transformers/NAME_OR_FOLDER``; ``own`` says that its pixels are stated elsewhere."""
    import transformers

    folder = _own_folder(rest)
    source = rest if folder is None else str(folder)
    # False, not None: asked nothing, transformers asks whoever sits at the standard input.
    offline: dict[str, Any] = {
        "local_files_only": folder is not None or is_offline(),
        "trust_remote_code": False,
    }
    what = f"The files of transformers/{rest}"
    next_step = "run once with a network, or give a folder written by save_pretrained()"

    try:
        with downloading(what, next_step):
            config = transformers.AutoConfig.from_pretrained(source, **offline)
    except MissingModelError as error:
        if folder is not None:
            raise InputError(
                f"transformers cannot use {rest}: {short_reason(error.__cause__ or error)}."
            ) from error
        raise
    refuse_code(config.to_dict(), f"config.json of transformers/{rest}")
    if n_classes is not None:
        if weights is None:
            _no_other_head(n_classes)
        config.num_labels = n_classes
    stated = " ".join(getattr(config, "architectures", None) or ())
    is_classifier = "ForImageClassification" in stated
    auto = transformers.AutoModelForImageClassification if is_classifier else transformers.AutoModel
    network: Any
    notices: list[str] = []
    try:
        if weights is not None:

            def build(n: int | None) -> nn.Module:
                if n is not None:
                    config.num_labels = n
                return auto.from_config(config)

            tensors = read_checkpoint(weights, weights_key)
            network, notices = _fitted(build, tensors, Path(weights).name, n_classes)
        else:
            with downloading(what, next_step):
                network = _whole(auto, source, {"config": config, **offline})
    except MissingModelError as error:
        if folder is not None:
            raise InputError(
                f"The weights in {rest} cannot be read ({short_reason(error.__cause__ or error)}); "
                "copy the folder again."
            ) from error
        raise
    if not is_classifier and hasattr(network, "vision_model"):
        network = network.vision_model  # CLIP and SigLIP: the text tower sees no images
    network = network.float()
    assert isinstance(network, nn.Module)
    names = _names_of_outputs(config) if is_classifier else None
    loaded = Loaded(network, None, names, notices=notices)
    if own:
        return loaded
    try:
        processor = _image_processor(source, offline)
    except Exception as error:  # OSError, ValueError or KeyError, by what is missing
        loaded.why_no_recipe = f"transformers/{rest} has no image processor ({short_reason(error)})"
        return loaded
    loaded.recipe, loaded.preprocess = transformers_recipe(processor)
    return loaded


def _names_of_outputs(config: Any) -> tuple[str, ...] | None:
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    is_named = not all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return labels if is_named else None


def _image_processor(source: str, options: dict[str, Any]) -> Any:
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(source, backend="pil", **options)
    except ImportError:
        return AutoImageProcessor.from_pretrained(source, **options)


def _stated(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {short_reason(error)}.") from None


def _whole(auto: Any, source: str, options: dict[str, Any]) -> nn.Module:
    """Load weights and refuse a network of which a part would stay random."""
    options = {**options, "dtype": torch.float32, "output_loading_info": True}
    network, report = auto.from_pretrained(source, **options)
    missing = sorted(report["missing_keys"])
    if missing and all("pooler" in key for key in missing):
        network, report = auto.from_pretrained(source, add_pooling_layer=False, **options)
        missing = sorted(report["missing_keys"])
    mismatched = sorted(map(str, report.get("mismatched_keys", ())))
    if missing or mismatched:
        raise InputError(
            f"The weights of {source} do not fit {type(network).__name__}: {len(missing)} missing, "
            f"{len(mismatched)} of another shape ({', '.join((missing + mismatched)[:3])}); "
            "check 'architectures' in its config.json."
        )
    return network
