"""Encoders of the open_clip library: by tag, from its hub format, from a local folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from csp_engine.encoders.approved import FILES_OF_TOKENIZERS, approved_folder
from csp_engine.encoders.base import (
    TOKENIZER_FILES,
    LookupPixels,
    NetworkEncoder,
    NotCachedError,
    first_line,
    freeze,
    hub_folder,
    hub_is_reachable,
    nearest,
    network_sha256,
    no_network,
    plain,
    read_json,
    require_files,
    require_part,
)
from csp_engine.encoders.open_clip_settings import open_clip_model, preprocess_types
from csp_engine.encoders.open_clip_texts import (
    describe_tokenizer,
    folder_tokenizer,
    shipped_tokenizer,
    text_rows_by_length,
)
from csp_engine.encoders.transformers_settings import network_config
from csp_engine.errors import InputError, MissingModelError

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def open_clip_source(rest: str, offline: bool) -> tuple[str, Any]:
    """Where an open_clip encoder comes from: ("folder", path) or ("tag", (arch, tag, weights))."""
    import open_clip

    if rest.startswith("hf-hub:"):
        repo = rest.removeprefix("hf-hub:")
        return "folder", hub_folder(
            repo,
            lambda folder: any((folder / name).is_file() for name in OPEN_CLIP_WEIGHTS),
            OPEN_CLIP_CONFIG,
            offline,
        )
    architecture, slash, tag = rest.partition("/")
    if slash and open_clip.is_pretrained_cfg(architecture, tag):
        weights = _open_clip_tag_weights(architecture, tag, offline)
        _fetch_text_parts(architecture, offline)
        return "tag", (architecture, tag, weights)
    folder = Path(rest).expanduser()
    if folder.is_dir():
        _open_clip_folder_weights(folder)
        return "folder", folder
    if Path(tag).expanduser().is_file():
        raise InputError(
            f"{tag} holds weights alone, and an encoder also needs its preprocessing: put it into "
            f"a folder as {OPEN_CLIP_WEIGHTS[0]} beside an {OPEN_CLIP_CONFIG} with model_cfg and "
            f"preprocess_cfg, and use open_clip/FOLDER."
        )
    if architecture in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise InputError(
            f"open_clip's {architecture} has no weights tagged {tag!r}; "
            f"it has {', '.join(tags) or 'none, so a local folder is needed'}."
        )
    raise InputError(
        f"{rest!r} is neither a folder nor an open_clip ARCHITECTURE/TAG; near it: "
        f"{nearest(architecture, [a for a, _ in open_clip.list_pretrained()])}."
    )


def _open_clip_folder_weights(folder: Path) -> Path:
    if not (folder / OPEN_CLIP_CONFIG).is_file():
        raise MissingModelError(
            f"{folder} has no {OPEN_CLIP_CONFIG}; it must give model_cfg and preprocess_cfg, "
            f"otherwise the right preprocessing is anyone's guess."
        )
    found = next((folder / n for n in OPEN_CLIP_WEIGHTS if (folder / n).is_file()), None)
    if found is None:
        raise MissingModelError(
            f"{folder} holds no weights; put {' or '.join(OPEN_CLIP_WEIGHTS)} there."
        )
    return found


def _open_clip_tag_weights(architecture: str, tag: str, offline: bool) -> Path:
    """The cached weight file of a tag, downloaded first if need be and allowed."""
    import open_clip
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cfg = open_clip.get_pretrained_cfg(architecture, tag)
    repo, _, name = cfg.get("hf_hub", "").rpartition("/")
    if not repo:
        raise MissingModelError(
            f"open_clip's {architecture}/{tag} is not on the model hub; give a local folder, "
            f"open_clip/FOLDER."
        )
    names = [f"{Path(name).stem}.safetensors", name] if name else list(OPEN_CLIP_WEIGHTS)
    for candidate in names:
        cached = try_to_load_from_cache(repo, candidate)
        if isinstance(cached, str):
            return Path(cached)
    if offline:
        raise NotCachedError(repo, "downloads are off (HF_HUB_OFFLINE)")
    if not hub_is_reachable():
        raise NotCachedError(repo, "the model hub cannot be reached")
    failure: Exception | None = None
    for candidate in names:
        try:
            return Path(hf_hub_download(repo, candidate, etag_timeout=10))
        except Exception as error:
            failure = error
    raise NotCachedError(repo, f"its download failed ({type(failure).__name__})") from failure


def _fetch_text_parts(architecture: str, offline: bool) -> None:
    """Have the tokenizer and the text network's settings in the cache, where they come apart."""
    import open_clip

    text_cfg = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {})
    tokenizer, network = text_cfg.get("hf_tokenizer_name"), text_cfg.get("hf_model_name")
    if tokenizer:
        hub_folder(
            tokenizer,
            lambda folder: any((folder / name).is_file() for name in TOKENIZER_FILES),
            "tokenizer_config.json",
            offline,
            weights=(),
        )
    if network:
        hub_folder(network, lambda folder: True, "config.json", offline, weights=())


def _checked_preprocessing(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The preprocess_cfg of a local folder, refused where open_clip would fill in its defaults.

    open_clip takes CLIP's mean, deviation and resizing where a field is missing, which is wrong
    for SigLIP and others (open_clip issue 1068).
    """
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    where = folder / OPEN_CLIP_CONFIG
    stated = config.get("preprocess_cfg")
    if not isinstance(stated, dict) or "mean" not in stated or "std" not in stated:
        raise InputError(
            f"{where} states no preprocessing; add preprocess_cfg with mean, std, interpolation "
            f"and resize_mode as in training."
        )
    preprocess_types(stated, f"{where} (preprocess_cfg)")
    mean, std = stated["mean"], stated["std"]
    for name, value in (("mean", mean), ("std", std)):
        numbers = value if isinstance(value, list) else [value] * 3
        if len(numbers) != 3 or not all(
            isinstance(v, int | float) and np.isfinite(v) for v in numbers
        ):
            raise InputError(f"{where} has {name} {value!r} in preprocess_cfg; give three numbers.")
        if name == "std" and min(numbers) <= 0:
            raise InputError(f"{where} has std {value!r} in preprocess_cfg; it must be positive.")
    # Files older than these two fields are all CLIP, resized bicubically by the shortest side.
    is_early_clip = np.allclose(mean, OPENAI_DATASET_MEAN) and np.allclose(std, OPENAI_DATASET_STD)
    for name, known, early in (
        ("interpolation", ("bicubic", "bilinear"), "bicubic"),
        ("resize_mode", ("shortest", "longest", "squash"), "shortest"),
    ):
        value = stated.get(name, early if is_early_clip else None)
        if value not in known:
            raise InputError(
                f"{where} has {name} {value!r} in preprocess_cfg; state one of {', '.join(known)}."
            )
        stated = {**stated, name: value}
    return stated


@contextlib.contextmanager
def _without_false_alarm() -> Generator[None]:
    """Keep open_clip from warning of weights it lacks: they are loaded in the next step."""
    root = logging.getLogger()

    def passes(record: logging.LogRecord) -> bool:
        said = record.getMessage()
        return "No pretrained weights loaded" not in said and "no CLIP weights found" not in said

    root.addFilter(passes)
    try:
        yield
    finally:
        root.removeFilter(passes)


class _Unfilled(TorchFunctionMode):
    """Modules are made without the random numbers that their weights begin with.

    For networks all of whose weights are loaded next: drawing 150 million takes longer.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def _open_clip_network(
    model_name: str, weights: Path, called: str = "", **options: Any
) -> tuple[Any, Mapping[str, Any]]:
    """The network with its weights, and the preprocessing open_clip attached to it."""
    import open_clip
    from open_clip.factory import load_checkpoint

    try:
        with no_network(), _without_false_alarm(), _Unfilled():
            network: Any = open_clip.create_model(
                model_name, load_weights=False, pretrained_text=False, **options
            )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"open_clip cannot build the network of {called or model_name!r}: {first_line(error)}."
        ) from error
    try:
        load_checkpoint(network, str(weights), strict=True, weights_only=True)
    except Exception as error:
        raise InputError(
            f"{weights} does not fit the network its config describes: {first_line(error)}"
        ) from error
    return network, network.visual.preprocess_cfg


def _folder_network(folder: Path, model_cfg: dict[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """The network of a folder, built from its approved settings alone."""
    text_cfg = model_cfg["text_cfg"]
    with approved_folder(_text_network(text_cfg)) as text_folder:
        if text_cfg.get("hf_model_name"):
            text_cfg = {**text_cfg, "hf_model_name": str(text_folder)}
        config = {"model_cfg": {**model_cfg, "text_cfg": text_cfg}, "preprocess_cfg": {}}
        with approved_folder({OPEN_CLIP_CONFIG: config}) as approved:
            return _open_clip_network(
                f"local-dir:{approved}", _open_clip_folder_weights(folder), called=str(folder)
            )


def _text_network(text_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a text network of transformers, by its name in the local cache."""
    name = text_cfg.get("hf_model_name")
    if not name:
        return {}
    from open_clip.hf_configs import arch_dict
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    path = hub_folder(name, lambda folder: True, "config.json", offline=True) / "config.json"
    config = read_json(path)
    kind = config.get("model_type")
    if kind not in arch_dict or kind not in CONFIG_MAPPING:
        raise InputError(f"{path} is a {kind!r}, which open_clip cannot use as a text network.")
    return {path.name: network_config(config, None, str(path))}


def load_open_clip(
    spec: str,
    rest: str,
    device: str,
    offline: bool,
    expected: Mapping[str, Any] | None = None,
    held: Mapping[str, str] | None = None,
) -> NetworkEncoder:
    """Load by tag, hub name or folder; see ``load_encoder``."""
    import open_clip
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    kind, source = open_clip_source(rest, offline)
    folder, files = Path(), None
    if kind == "folder":
        folder = source
        names = (OPEN_CLIP_CONFIG, *FILES_OF_TOKENIZERS)
        files = require_files(folder, names, held, spec)
        config = read_json(folder / OPEN_CLIP_CONFIG)
        if not isinstance(config.get("model_cfg"), dict):
            raise InputError(f"{folder / OPEN_CLIP_CONFIG} has no model_cfg.")
        stated = _checked_preprocessing(folder, config)
        model_cfg = open_clip_model(config["model_cfg"], str(folder / OPEN_CLIP_CONFIG))
        name, origin = "", f"folder {folder.name}"
        require_part(expected, spec, "architecture", _architecture(model_cfg))
        network, attached = _folder_network(folder, model_cfg)
        if "size" in stated and not np.array_equal(
            np.broadcast_to(stated["size"], 2), np.broadcast_to(attached["size"], 2)
        ):
            raise InputError(
                f"{folder / OPEN_CLIP_CONFIG} prepares images of size {stated['size']}, but its "
                f"network takes {attached['size']}; make preprocess_cfg agree with model_cfg."
            )
        stated = {**stated, "size": attached["size"]}
    else:
        architecture, tag, weights = source
        stated = dict(open_clip.get_pretrained_cfg(architecture, tag))
        model_cfg, name, origin = open_clip.get_model_config(architecture), architecture, rest
        # open_clip only warns where the tag was trained with the other activation function.
        quick = bool(stated.get("quick_gelu")) or bool(model_cfg.get("quick_gelu"))
        model_cfg = {**model_cfg, "quick_gelu": quick}
        network, attached = _open_clip_network(architecture, weights, force_quick_gelu=quick)
        stated["size"] = attached["size"]
    weights_sha256 = network_sha256(network)
    require_part(expected, spec, "weights_sha256", weights_sha256)
    network = freeze(network, device)
    cfg = PreprocessCfg(**merge_preprocess_dict(PreprocessCfg(), stated))
    *geometry, to_tensor, scale = image_transform_v2(cfg, is_train=False).transforms

    def shape(image: Image.Image) -> np.ndarray:
        for step in geometry:
            image = step(image)
        return np.asarray(image)

    pixels = LookupPixels(shape, lambda image: scale(to_tensor(image)).numpy())
    require_part(expected, spec, "preprocessing", plain(vars(cfg)))
    tokenizer = shipped_tokenizer(name) if name else folder_tokenizer(folder, model_cfg)
    dim = int(model_cfg["embed_dim"])
    description = {
        "kind": "open_clip",
        "source": origin,
        "architecture": _architecture(model_cfg),
        "weights_sha256": weights_sha256,
        "preprocessing": plain(vars(cfg)),
        "tokenizer": describe_tokenizer(tokenizer),
        "dim": dim,
        "libraries": {"open_clip": open_clip.__version__},
    }

    def text_rows(texts: Sequence[str]) -> Iterator[tuple[list[int], torch.Tensor]]:
        token_tl = tokenizer(texts).to(device) if texts else torch.zeros((0, 1), dtype=torch.long)
        yield from text_rows_by_length(network, token_tl)

    def image_rows(network: Any, batch: torch.Tensor) -> torch.Tensor:
        return network.encode_image(batch)

    return NetworkEncoder(spec, description, network, pixels, image_rows, text_rows, device, files)


def _architecture(model_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a model_cfg that decide the vectors, defaults left out."""
    training_only = ("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale")
    kept = {k: v for k, v in model_cfg.items() if k not in training_only}
    kept["quick_gelu"] = bool(kept.get("quick_gelu", False))
    for tower in ("vision_cfg", "text_cfg"):
        kept[tower] = {
            k: v
            for k, v in dict(kept[tower]).items()
            if k not in ("timm_model_pretrained", "hf_model_pretrained", "hf_tokenizer_name")
        }
    return plain(kept)
