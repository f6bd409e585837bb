"""Files of sparse autoencoders: where the tensors lie and what is said about them.

Libraries save a safetensors or PyTorch file with a ``cfg.json`` or ``config.json`` beside it (some
write YAML), or (saev) one line of JSON before the PyTorch bytes. Read is what lies there, and
nothing is run.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from csp_engine.errors import InputError
from csp_engine.networks.autoencoders.settings import beside, from_metadata, joined, strict_json
from csp_engine.networks.loading.checkpoints import load_tensors

WEIGHT_FILES = (
    "sae_weights.safetensors",
    "sae.safetensors",
    "model.safetensors",
    "sae.pt",
    "ae.pt",
    "weights.pt",
)
"""What the libraries call the file of weights in a folder, the usual first."""
SETTINGS_FILES = (
    *("cfg.json", "config.json"),
    *("cfg.yaml", "cfg.yml", "config.yaml", "config.yml"),
)
MOST_HEADER = 100_000_000
"""Bytes of a safetensors header; its library allows no more."""
TORCH_SUFFIXES = (".pt", ".pth", ".th", ".bin", ".ckpt")


@dataclass(frozen=True)
class SaeFile:
    """The tensors of an autoencoder, the settings that lie with them and its name.

    ``header`` is the line before the bytes of a saev file.
    """

    file: str
    name: str
    tensors: dict[str, torch.Tensor]
    settings: dict[str, Any]
    header: dict[str, Any] | None = None


FLAGS = frozenset(
    {"apply_b_dec_to_input", "rescale_acts_by_decoder_norm", "is_transcoder", "transcode", "signed",
     "normalize_decoder"}
)  # fmt: skip
"""Settings that are true or false and change codes."""


def read_sae_file(path: Path) -> SaeFile:
    """Read the file, or the folder, of an autoencoder.

    Raises:
        InputError: nothing is there, or it is damaged or holds pickled objects.
    """
    path = Path(path)
    name = path.stem
    if path.is_dir():
        name = path.name
        held = next((path / file for file in WEIGHT_FILES if (path / file).is_file()), None)
        if held is None:
            raise InputError(
                f"The folder {path} holds no autoencoder; give its file, or a folder with "
                f"{' or '.join(WEIGHT_FILES[:2])}."
            )
        path = held
    if not path.is_file():
        raise InputError(f"The autoencoder {path} does not exist; give a .safetensors file.")
    header = None
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        tensors, metadata = _safetensors(path)
        content: Mapping[Any, Any] = {}
    elif path.suffix in TORCH_SUFFIXES:
        header, content = _torch(path)
        tensors = {}
    else:
        raise InputError(
            f"{path.name} is not a file of an autoencoder; use .safetensors or "
            f"{', '.join(TORCH_SUFFIXES)}."
        )
    settings = beside(path, SETTINGS_FILES)
    if content:
        inner = next(
            (content[k] for k in ("state_dict", "model") if isinstance(content.get(k), Mapping)),
            content,
        )
        tensors = {str(k): v for k, v in inner.items() if isinstance(v, torch.Tensor)}
        told = {**content, **(inner if inner is not content else {})}
        stated = {
            str(key): value
            for key, value in told.items()
            if value is not inner and not isinstance(value, torch.Tensor)
        }
        settings = joined(settings, stated, path.name)
    settings = joined(settings, from_metadata(metadata, path.name), path.name)
    if not tensors:
        raise InputError(f"{path.name} holds no tensors; save the autoencoder's state_dict in it.")
    prefixes = {key.partition(".")[0] for key in tensors}
    if len(prefixes) == 1 and prefixes <= {"module", "_orig_mod", "sae", "autoencoder"}:
        tensors = {key.partition(".")[2]: value for key, value in tensors.items()}
    settings = {key: _flag(key, value, path.name) for key, value in settings.items()}
    return SaeFile(path.name, name, tensors, settings, header)


def _flag(key: str, value: Any, file: str) -> Any:
    """A setting, flags as True or False: metadata hold text, and Python writes it with capitals."""
    if key not in FLAGS or value is None:
        return value
    words = {"true": True, "1": True, "false": False, "0": False, "none": None, "null": None}
    text = str(value).strip().casefold()
    if text not in words:
        raise InputError(f"{file} has {key}={str(value)[:40]!r}; use true or false.")
    return words[text]


def _safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as raw:
            size = int.from_bytes(raw.read(8), "little")
            head = raw.read(min(size, MOST_HEADER))
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path.name} cannot be read as safetensors ({error}); save the autoencoder again."
        ) from None
    # The library keeps the last of two alike.
    strict_json(head.decode("utf-8", "replace"), f"The header of {path.name}")
    return tensors, metadata


def _torch(path: Path) -> tuple[dict[str, Any] | None, Mapping[Any, Any]]:
    """The line before the bytes, if there is one, and what the bytes hold."""
    header = None
    content = path.read_bytes()
    if content[:1] == b"{":
        line, _, content = content.partition(b"\n")
        header = strict_json(line.decode("utf-8", "replace"), f"The first line of {path.name}")
    loaded = load_tensors(io.BytesIO(content), path.name)
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path.name} holds a {type(loaded).__name__}, not a state_dict.")
    return header, loaded
