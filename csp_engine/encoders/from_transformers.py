"""CLIP, SigLIP and SigLIP 2 as the transformers library stores them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from csp_engine.encoders.approved import FILES_OF_TOKENIZERS, approved_folder, tokenizer_files
from csp_engine.encoders.base import (
    TEXT_BATCH,
    TOKENIZER_FILES,
    LookupPixels,
    NetworkEncoder,
    first_line,
    freeze,
    hub_folder,
    network_sha256,
    plain,
    read_json,
    require_files,
    require_part,
    tokenizer_sha256,
)
from csp_engine.encoders.transformers_settings import (
    network_config,
    processor_config,
    settings_of,
)
from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.loading.settings import refuse_adapter

TRANSFORMERS_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
NETWORKS = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model"}
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def transformers_folder(rest: str, offline: bool) -> Path:
    """The folder of a model, complete or refused."""
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or rest.startswith((".", "~")):
            raise MissingModelError(f"There is no folder {folder}.")
        folder = hub_folder(rest, lambda f: not _lacks(f), "config.json", offline)
    refuse_adapter(folder)
    lacking = _lacks(folder)
    if lacking:
        raise MissingModelError(
            f"{folder} lacks {'; '.join(lacking)}: all of them are needed, none is guessed."
        )
    return folder


def _lacks(folder: Path) -> list[str]:
    needs = {
        "config.json": ("config.json",),
        f"weights ({TRANSFORMERS_WEIGHTS[0]})": TRANSFORMERS_WEIGHTS,
        f"preprocessing ({PREPROCESSOR_FILES[0]})": PREPROCESSOR_FILES,
        f"a tokenizer ({TOKENIZER_FILES[0]})": TOKENIZER_FILES,
    }
    return [
        what
        for what, names in needs.items()
        if not any((folder / name).is_file() for name in names)
    ]


def load_transformers(
    spec: str,
    rest: str,
    device: str,
    offline: bool,
    expected: Mapping[str, Any] | None = None,
    held: Mapping[str, str] | None = None,
) -> NetworkEncoder:
    """Load by hub name or from a folder; see ``load_encoder``."""
    folder = transformers_folder(rest, offline)
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type not in NETWORKS:
        raise InputError(
            f"{folder / 'config.json'} is a {model_type!r} model; transformers encoders here are "
            f"{', '.join(NETWORKS)} (others: python:module:factory)."
        )
    files = require_files(folder, (*FILES_OF_TOKENIZERS, *PREPROCESSOR_FILES), held, spec)
    with _approved(folder) as approved:
        return _load(spec, rest, folder, approved, device, expected, files)


@contextmanager
def _approved(folder: Path) -> Generator[Path]:
    """A folder that holds what of a model's folder may be passed on, and nothing else."""
    settings, links = tokenizer_files(folder)
    config = read_json(folder / "config.json")
    settings["config.json"] = network_config(
        config, _own_settings(config.get("model_type")), str(folder / "config.json")
    )
    for name in PREPROCESSOR_FILES:
        if (folder / name).is_file():
            settings[name] = _processor(read_json(folder / name), str(folder / name))
    for name in TRANSFORMERS_WEIGHTS:
        if not (folder / name).is_file():
            continue
        links[name] = folder / name
        if name.endswith(".json"):
            del links[name]
            settings[name] = read_json(folder / name)
            for shard in sorted(set(dict(settings[name].get("weight_map", {})).values())):
                if not isinstance(shard, str) or Path(shard).name != shard:
                    raise InputError(
                        f"{folder / name} looks for weights in {str(shard)[:80]!r}; they must lie "
                        "beside it."
                    )
                if (folder / shard).is_file():
                    links[shard] = folder / shard
    with approved_folder(settings, links) as approved:
        yield approved


def _own_settings(model_type: Any) -> frozenset[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if model_type not in NETWORKS:  # the file has changed since it was looked at
        return frozenset()
    whole = CONFIG_MAPPING[model_type]
    return settings_of(whole, *whole.sub_configs.values())


def _processor(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Image processors stand alone in their file, or in one with the tokenizer's settings."""
    inner = config.get("image_processor")
    if isinstance(inner, dict):
        return {"image_processor": processor_config(inner, where)}
    return processor_config(config, where)


def _load(
    spec: str,
    rest: str,
    folder: Path,
    approved: Path,
    device: str,
    expected: Mapping[str, Any] | None,
    files: Mapping[str, str],
) -> NetworkEncoder:
    import transformers

    config = read_json(approved / "config.json")
    model_type = config["model_type"]
    try:
        network: Any
        network, loaded = getattr(transformers, NETWORKS[model_type]).from_pretrained(
            approved, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # safetensors, huggingface_hub and torch each raise their own
        raise InputError(f"{folder} cannot be loaded: {first_line(error)}.") from error
    absent = sorted(str(k) for k in (*loaded["missing_keys"], *loaded["mismatched_keys"]))
    if absent:
        raise InputError(
            f"The weights in {folder} leave {len(absent)} tensors of the network unset or "
            f"misshapen, such as {absent[0]}; use weights that belong to its config.json."
        )
    require_part(expected, spec, "architecture", _transformers_architecture(network.config))
    weights_sha256 = network_sha256(network)
    require_part(expected, spec, "weights_sha256", weights_sha256)
    network = freeze(network, device)
    try:
        # Pillow's resampling, not torchvision's: what the models were trained and measured with.
        processor = transformers.AutoImageProcessor.from_pretrained(
            approved, local_files_only=True, backend="pil"
        )
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            approved, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # each of the two raises half a dozen types
        raise MissingModelError(
            f"{folder} has unusable preprocessing or tokenizer files: {first_line(error)}."
        ) from error
    is_flexible = model_type == "siglip2"
    pixels = _patch_pixels(processor) if is_flexible else _square_pixels(processor)
    side = network.config.vision_config.image_size if not is_flexible else None
    height, width = pixels(Image.new("RGB", (64, 48))).shape[1:]
    if side is not None and (height, width) != (side, side):
        raise InputError(
            f"The preprocessing in {folder} makes images of {width}×{height} pixels, but the "
            f"network takes {side}×{side}; correct {PREPROCESSOR_FILES[0]}."
        )
    text_config = network.config.text_config
    length = int(text_config.max_position_embeddings)
    # SigLIP 2 was trained on lower-cased text; its fixed-size checkpoints come with a plain Gemma
    # tokenizer that keeps case.
    is_lowered = is_flexible or "gemma" in type(tokenizer).__name__.lower()
    padding = True if model_type == "clip" else "max_length"
    dim = (
        int(config.get("projection_dim") or network.config.projection_dim)
        if (model_type == "clip")
        else int(getattr(text_config, "projection_size", None) or text_config.hidden_size)
    )
    description = {
        "kind": "transformers",
        "source": rest if not Path(rest).expanduser().is_dir() else f"folder {folder.name}",
        "architecture": _transformers_architecture(network.config),
        "weights_sha256": weights_sha256,
        "preprocessing": {
            **{k: v for k, v in plain(processor.to_dict()).items() if not k.startswith("_")},
            "backend": "pil",
        },
        "tokenizer": {
            "class": type(tokenizer).__name__,
            "vocabulary_sha256": tokenizer_sha256(tokenizer),
            "context_length": length,
            "padding": str(padding),
            "is_lowered": is_lowered,
        },
        "dim": dim,
        "libraries": {"transformers": transformers.__version__},
    }

    def image_rows(network: Any, batch: torch.Tensor) -> torch.Tensor:
        if not is_flexible:
            return _pooled(network.get_image_features(pixel_values=batch))
        shape_n2 = batch[:, 0, 0, :2].long()
        patches = batch[:, 0, 1:, :]
        place = torch.arange(patches.shape[1], device=batch.device)
        mask = (place[None, :] < shape_n2.prod(-1, keepdim=True)).int()
        return _pooled(
            network.get_image_features(
                pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shape_n2
            )
        )

    def text_rows(texts: Sequence[str]) -> Iterator[tuple[list[int], torch.Tensor]]:
        order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), i))
        for start in range(0, len(order), TEXT_BATCH):
            ids = order[start : start + TEXT_BATCH]
            tokens = tokenizer(
                [texts[i].lower() if is_lowered else texts[i] for i in ids],
                padding=padding,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            # SigLIP attends to its padding: an attention mask would change every vector.
            names = ("input_ids", "attention_mask") if model_type == "clip" else ("input_ids",)
            yield (
                ids,
                _pooled(
                    network.get_text_features(**{name: tokens[name].to(device) for name in names})
                ),
            )

    return NetworkEncoder(spec, description, network, pixels, image_rows, text_rows, device, files)


def _pooled(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _transformers_architecture(config: Any) -> dict[str, Any]:
    """The whole configuration without the notes that loading and saving leave in it."""
    notes = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if k not in notes}
        return value

    return clean(plain(config.to_dict()))


def _square_pixels(processor: Any) -> Callable[[Image.Image], np.ndarray]:
    def run(image: Image.Image, **options: Any) -> np.ndarray:
        return np.asarray(
            processor(images=image, return_tensors="np", **options)["pixel_values"][0]
        )

    def shape(image: Image.Image) -> np.ndarray:
        plain = run(image, do_rescale=False, do_normalize=False)
        return plain.astype(np.uint8).transpose(1, 2, 0)

    return LookupPixels(
        shape,
        lambda image: run(image, do_resize=False, do_center_crop=False).astype(np.float32),
    )


def _patch_pixels(processor: Any) -> Callable[[Image.Image], np.ndarray]:
    """SigLIP 2 with flexible aspect: patches in one plane, its first row tells their grid."""

    def run(image: Image.Image) -> np.ndarray:
        made = processor(images=image, return_tensors="np")
        patches = np.asarray(made["pixel_values"][0], np.float32)
        head = np.zeros((1, patches.shape[1]), np.float32)
        head[0, :2] = made["spatial_shapes"][0]
        return np.concatenate([head, patches])[None]

    return run
