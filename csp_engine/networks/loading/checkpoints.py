"""Weights from files and from the network: read safely, refused in one sentence."""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import socket
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch

from csp_engine.errors import InputError, MissingModelError
from csp_engine.networks.loading.fitting import fit_weights

__all__ = [
    "CHECKPOINT_SUFFIXES",
    "NEXT_STEP",
    "Checkpoint",
    "downloading",
    "fit_weights",
    "is_cached_by_hub",
    "is_cached_by_torch",
    "is_offline",
    "load_tensors",
    "missing_model",
    "read_checkpoint",
    "read_tensor_file",
    "short_reason",
]

logger = logging.getLogger(__name__)

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt")


STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
"""Where trainers put the weights, the plain ones first."""
AVERAGED_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "averaged")
TRAINING_KEYS = re.compile(
    r"(optimi[sz]er|optim|lr_scheduler|scheduler|scaler|amp|callbacks|loops|criterion)(s|_\w+)?"
)
"""What else trainers save; none of it is a network."""


class Checkpoint(dict[str, torch.Tensor]):
    """The tensors of a file; ``notices`` say what else it holds that would fit."""

    notices: list[str]

    def __init__(self, tensors: Mapping[str, torch.Tensor], notices: Sequence[str] = ()) -> None:
        super().__init__(tensors)
        self.notices = list(notices)


def read_checkpoint(path: Path, key: str | None = None) -> Checkpoint:
    """Read the tensors of a safetensors or PyTorch checkpoint without running code from it.

    Dictionaries nested under the names that trainers use are unwrapped; where there are plain and
    averaged weights, the plain ones are taken.

    Args:
        path: the file.
        key: what to take of it: the name of an entry, dots for nested ones, or a prefix of names.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds pickled objects, or
            has no such entry.
    """
    path = Path(path)
    content = read_tensor_file(path)
    notices: list[str] = []
    if key is not None:
        content = _entry(content, key, path.name)
    for _ in range(4):
        inner = _inner(content, path.name, notices) if isinstance(content, Mapping) else None
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path.name} holds a {type(content).__name__}, not a state_dict; save state_dict()."
        )
    tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise InputError(f"{path.name} holds no tensors; save the network's state_dict() in it.")
    return Checkpoint(tensors, notices)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(v, torch.Tensor) or _holds_tensors(v) for v in value.values()
    )


def _inner(content: Mapping[Any, Any], name: str, notices: list[str]) -> Any:
    """The nested dictionary that holds the weights, or None where the tensors lie here."""
    held = [str(k) for k, v in content.items() if _holds_tensors(v)]
    for known in (STATE_KEYS, AVERAGED_KEYS):
        for key in known:
            if key in held:
                averaged = [k for k in AVERAGED_KEYS if k in held and k != key]
                if averaged:
                    notices.append(
                        f"{name} also holds averaged weights; --weights-key {averaged[0]} takes "
                        "those."
                    )
                return content[key]
    if any(isinstance(v, torch.Tensor) for v in content.values()):
        return None
    others = [k for k in held if not TRAINING_KEYS.fullmatch(k)]
    if len(others) > 1:
        raise InputError(
            f"{name} holds several sets of tensors ({', '.join(others[:6])}); choose one with "
            "--weights-key NAME."
        )
    return next((v for k, v in content.items() if str(k) in others), None)


def _entry(content: Any, key: str, name: str) -> Any:
    """What a file holds under a key, dots for nested ones, or with a prefix of its names."""
    at, left = content, key
    while left and isinstance(at, Mapping):
        if left in at:
            at, left = at[left], ""
            break
        step = next((str(k) for k in at if left.startswith(f"{k}.")), None)
        if step is None:
            break
        at, left = at[step], left[len(step) + 1 :]
    if not left and isinstance(at, Mapping):
        return at
    if isinstance(at, Mapping):
        wrapped = next((at[k] for k in STATE_KEYS if _holds_tensors(at.get(k))), at)
        under = {
            str(k)[len(left) + 1 :]: v for k, v in wrapped.items() if str(k).startswith(f"{left}.")
        }
        if under:
            return under
    known = [str(k) for k in content] if isinstance(content, Mapping) else []
    prefixes = list(dict.fromkeys(k.split(".")[0] for k in known))
    raise InputError(
        f"{name} has nothing under {key!r}; it has {', '.join(prefixes[:8]) or 'no names'}."
    )


def read_tensor_file(path: Path) -> Any:
    """What a safetensors or PyTorch file holds, tensors and plain values only.

    Raises:
        InputError: the file is missing, damaged, of another kind, or holds pickled objects.
    """
    if not path.is_file():
        raise InputError(
            f"The weights file {path} does not exist; give a .safetensors or .pt file."
        )
    if path.suffix not in CHECKPOINT_SUFFIXES and not path.name.endswith(".pth.tar"):
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
    return load_tensors(path, path.name)


_PLAIN: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")},
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
]
"""What trainers save beside weights and what holds nothing but values: options and numbers."""


def load_tensors(source: Path | io.BytesIO, name: str) -> Any:
    """What a PyTorch file holds, without running code from it."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_PLAIN):
            warnings.simplefilter("ignore")  # of archives that are refused below
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged or pickled files
        text = str(error).lower()
        if "torchscript" in text:
            raise InputError(
                f"{name} is a TorchScript archive; save its weights alone with "
                "torch.save(torch.jit.load(FILE).state_dict(), NEW_FILE) and give that file."
            ) from None
        if "weights_only" in text or "unsupported global" in text:
            raise InputError(
                f"{name} holds pickled Python objects, which could run code when loaded; "
                "save its state_dict() alone, best as .safetensors, and give that file."
            ) from None
        raise InputError(
            f"{name} cannot be read as a PyTorch checkpoint ({short_reason(error)}); copy it again."
        ) from None


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


NEXT_STEP = "run once with a network connection, or give a local file with --weights FILE"


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
