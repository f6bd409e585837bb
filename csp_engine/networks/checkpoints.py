"""Weights from files and from the network: read safely, fitted exactly, refused in one sentence."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import nn

from csp_engine.errors import InputError, MissingModelError

logger = logging.getLogger(__name__)

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt")


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a safetensors or PyTorch checkpoint without running code from it.

    A dictionary nested under ``state_dict``, ``model_state_dict``, ``model``, ``net`` or
    ``network`` is unwrapped.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds pickled objects.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"The weights file {path} does not exist; give a .safetensors or .pt file."
        )
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise InputError(
            f"{path.name} is not a weights file; use one of {', '.join(CHECKPOINT_SUFFIXES)}."
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{path.name} cannot be read as safetensors ({short_reason(error)}); copy it again."
            ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged or pickled files
        if "weights_only" in str(error).lower() or "unsupported global" in str(error).lower():
            raise InputError(
                f"{path.name} holds pickled Python objects, which could run code when loaded; "
                "save its state_dict() alone, best as .safetensors, and give that file."
            ) from None
        raise InputError(
            f"{path.name} cannot be read as a PyTorch checkpoint ({short_reason(error)}); "
            "copy it again."
        ) from None
    for key in ("state_dict", "model_state_dict", "model", "net", "network"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path.name} holds a {type(content).__name__}, not a state_dict; save state_dict()."
        )
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise InputError(f"{path.name} holds no tensors; save the network's state_dict() in it.")
    return tensors


def fit_weights(network: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Put a checkpoint into a network, or say exactly why it does not fit.

    The prefixes ``module.``, ``_orig_mod.`` and ``model.`` are taken off when every key has one and
    no key of the network does. Missing ``num_batches_tracked`` counters are ignored: they do
    nothing in evaluation. ``source`` is how the error calls the checkpoint.

    Raises:
        InputError: keys are missing, unexpected or of another shape.
    """
    wanted = network.state_dict()
    tensors = dict(tensors)
    for prefix in ("module.", "_orig_mod.", "model."):
        if all(k.startswith(prefix) for k in tensors) and not any(
            k.startswith(prefix) for k in wanted
        ):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    missing = [k for k in wanted if k not in tensors and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in tensors if k not in wanted]
    mismatched = [k for k in wanted if k in tensors and tensors[k].shape != wanted[k].shape]
    if not (missing or unexpected or mismatched):
        network.load_state_dict(tensors, strict=False)
        return

    def some(keys: Sequence[str]) -> str:
        return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")

    def sizes(key: str) -> str:
        there, here = ("x".join(map(str, t[key].shape)) or "a number" for t in (tensors, wanted))
        return f"{key} is {there} instead of {here}"

    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({some(missing)})")
    if unexpected:
        parts.append(f"{len(unexpected)} unexpected ({some(unexpected)})")
    if mismatched:
        parts.append(f"{len(mismatched)} of another shape ({some([sizes(k) for k in mismatched])})")
    hint = "check that the architecture is the one these weights were trained with"
    last = list(wanted)[-1]
    if mismatched and not missing and not unexpected and set(mismatched) <= set(list(wanted)[-2:]):
        hint = f"give n_classes={tensors[last].shape[0]} if only the number of classes differs"
    raise InputError(f"{source} does not fit {type(network).__name__}: {', '.join(parts)}; {hint}.")


def is_offline() -> bool:
    """Whether the user forbade downloads (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)."""
    values = (os.environ.get(key, "") for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value.strip().lower() in {"1", "true", "yes", "on"} for value in values)


def short_reason(error: BaseException) -> str:
    """What an error says, on one line and cut to fit into a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text[:117]}…" if len(text) > 120 else text or type(error).__name__


def missing_model(what: str, reason: str, next_step: str) -> MissingModelError:
    """The error for weights or files that are not here."""
    return MissingModelError(f"{what} are not on this machine ({reason}); {next_step}.")


NEXT_STEP = "run once with a network, or give a local file with the weights option"


@contextmanager
def downloading(what: str, next_step: str = NEXT_STEP) -> Generator[None]:
    """Turn whatever a failed download raises into one sentence, and do not wait for ever."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        yield
    except (InputError, MissingModelError):
        raise
    except Exception as error:  # urllib, httpx, huggingface_hub and torch.hub each raise their own
        logger.debug("download failed", exc_info=True)
        reason = f"the download failed: {short_reason(error)}"
        raise missing_model(what, reason, next_step) from error
    finally:
        socket.setdefaulttimeout(patience)


def is_cached_by_hub(repository: str, files: Sequence[str]) -> bool:
    """Whether the local Hugging Face cache holds any of the files."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = repository.partition("@")
    return any(
        isinstance(try_to_load_from_cache(repository, f, revision=revision or None), str)
        for f in files
    )


def is_cached_by_torch(url: str) -> bool:
    """Whether torch.hub has already downloaded this address."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name).is_file()
