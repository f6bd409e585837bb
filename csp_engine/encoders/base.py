"""What all encoders share: finding files, hashing, and running a network."""

from __future__ import annotations

import contextlib
import copy
import difflib
import json
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from csp_engine.errors import InputError, MissingModelError, StaleError
from csp_engine.hashing import sha256_file, sha256_unescaped_json
from csp_engine.networks.devices import copied, current
from csp_engine.vectors import normalise_rows

logger = logging.getLogger(__name__)

KINDS = ("open_clip", "transformers", "precomputed", "python")
SPEC_FORMS = (
    "open_clip/ARCHITECTURE/TAG, open_clip/FOLDER, transformers/NAME_OR_FOLDER, "
    "precomputed/FOLDER or python:module:factory"
)
TEXT_BATCH = 256
SMALL_FILES = ("*.json", "*.txt", "*.model")
PARTS = {"weights_sha256": "weights", "names_sha256": "list of names"}
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")
_offline_lock = threading.RLock()


class NotCachedError(MissingModelError):
    """A model known by name that is not in the local cache."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        super().__init__(
            f"{what} is not on this machine and {reason}; fetch it where there is a network with "
            f"'hf download {what}', or give a local folder such as open_clip/FOLDER."
        )


def split_spec(spec: str) -> tuple[str, str]:
    """Kind and the rest of an encoder's name."""
    kind, mark, rest = spec.partition(":" if spec.startswith("python:") else "/")
    if kind not in KINDS or not mark or not rest:
        raise InputError(f"Encoder {spec!r} cannot be understood; write {SPEC_FORMS}.")
    return kind, rest


@contextlib.contextmanager
def no_network() -> Generator[None]:
    """Make the Hugging Face libraries answer from the cache at once instead of retrying."""
    from huggingface_hub import constants

    with _offline_lock:
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


def hub_is_reachable() -> bool:
    """One short request: the hub client itself would retry for half a minute without a network."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=3)
    except Exception as error:
        logger.info("the hub cannot be reached: %s", error)
        return False
    return True


def hub_folder(
    repo: str,
    is_complete: Callable[[Path], bool],
    first_file: str,
    offline: bool,
    weights: Sequence[str] = ("*.safetensors", "*.bin"),
) -> Path:
    """The cached folder of a hub repository, downloaded first if need be and allowed.

    Args:
        repo: its name, ``organisation/name``.
        is_complete: whether a folder has all that is needed.
        first_file: a file that every such repository has, by which the cache is searched.
        offline: do not download.
        weights: patterns of weight files, tried one after the other until all is there.
    """
    from huggingface_hub import snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(repo, first_file)
    except HFValidationError as error:
        raise InputError(
            f"{repo!r} is neither a folder here nor a name such as openai/clip-vit-base-patch32."
        ) from error
    if isinstance(cached, str) and is_complete(Path(cached).parent):
        return Path(cached).parent
    if offline:
        raise NotCachedError(repo, "downloads are off (HF_HUB_OFFLINE)")
    if not hub_is_reachable():
        raise NotCachedError(repo, "the model hub cannot be reached")
    folder = Path()
    for pattern in weights or ("*.json",):
        try:
            found = snapshot_download(repo, allow_patterns=[*SMALL_FILES, pattern], etag_timeout=10)
        except Exception as error:
            raise NotCachedError(repo, f"its download failed ({type(error).__name__})") from error
        folder = Path(found)
        if is_complete(folder):
            break
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object from a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {first_line(error)}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(content).__name__}.")
    return content


def plain(value: Any) -> Any:
    """The same value as JSON would give it back: tuples become lists, other things text."""
    return json.loads(json.dumps(value, sort_keys=True, default=str))


def fingerprint(description: Mapping[str, Any]) -> str:
    """Sha256 over what decides the vectors: all of a description but where it came from."""
    return sha256_unescaped_json(
        {k: v for k, v in description.items() if k not in ("source", "libraries")}
    )


def require_files(
    folder: Path, names: Sequence[str], held: Mapping[str, str] | None, spec: str
) -> dict[str, str]:
    """The sha256 of small files of a folder, before a library is shown any of them.

    Weights are not among them: the same tensors may lie in files of several formats, so they are
    compared as tensors, by ``weights_sha256``.

    Args:
        folder: of the encoder.
        names: the files that will be read; those that are not there are left out.
        held: what they must be, or None where any will do.
        spec: what is being loaded.

    Raises:
        StaleError: if they are others.
    """
    found = {name: sha256_file(folder / name) for name in names if (folder / name).is_file()}
    if held is None or dict(held) == found:
        return found
    other = sorted(name for name in {*held, *found} if held.get(name) != found.get(name))
    raise StaleError(
        f"Encoder {spec} did not make this bundle: its {other[0]} differs; load the one that "
        "did, or build the bundle again."
    )


def require_part(expected: Mapping[str, Any] | None, spec: str, part: str, found: Any) -> None:
    """Stop loading as soon as one part is not that of the encoder that is wanted.

    Args:
        expected: the description of the wanted encoder, or None where any will do.
        spec: what is being loaded.
        part: the entry of the description.
        found: what it is here.

    Raises:
        StaleError: if it differs; nothing of the later parts has been read then.
    """
    if expected is None or part not in expected or plain(expected[part]) == plain(found):
        return
    name = PARTS.get(part, part)
    raise StaleError(
        f"Encoder {spec} did not make this bundle: its {name} differs; load the one that did, "
        "or build the bundle again."
    )


def network_sha256(network: torch.nn.Module) -> str:
    """Sha256 over all parameters and buffers."""
    from csp_engine.networks.models import state_sha256

    return state_sha256(network)


def nearest(wanted: str, known: Sequence[str], n: int = 3) -> str:
    """The known names most like the wanted one, for an error message."""
    return ", ".join(difflib.get_close_matches(wanted, known, n, cutoff=0.3)) or ", ".join(
        known[:n]
    )


class NetworkEncoder:
    """An encoder that runs a network; made by ``load_encoder``.

    ``files`` are the sha256 of the configuration and tables of tokens in its folder, or None where
    it came from no folder.
    """

    needs_pixels = True

    def __init__(
        self,
        spec: str,
        description: dict[str, Any],
        network: torch.nn.Module,
        preprocess: Callable[[Image.Image], np.ndarray],
        image_rows: Callable[[Any, torch.Tensor], torch.Tensor],
        text_rows: Callable[[Sequence[str]], Iterator[tuple[list[int], torch.Tensor]]],
        device: str,
        files: Mapping[str, str] | None = None,
    ) -> None:
        self.spec = spec
        self.files = None if files is None else dict(files)
        self.dim = int(description["dim"])
        self.description = description
        self.fingerprint = fingerprint(description)
        self.network = network
        self._preprocess = preprocess
        self._image_rows = image_rows
        self._text_rows = text_rows
        self._device = device

    def on(self, device: str) -> NetworkEncoder:
        """A copy that embeds images on another device; texts stay with the first.

        Raises:
            InputError: the network cannot be copied.
        """
        twin = copy.copy(self)
        twin.network = copied(self.network, device, f"Encoder {self.spec}")
        twin._device = device
        return twin

    def preprocess(self, image: Any) -> np.ndarray:
        """One RGB Pillow image to one float32 array; safe to call from several threads."""
        return self._preprocess(image if image.mode == "RGB" else image.convert("RGB"))

    def embed_images(
        self, pixels: Float32[np.ndarray, "n channel height width"]
    ) -> Float32[np.ndarray, "n d"]:
        """A batch of preprocessed images to unit rows."""
        with torch.inference_mode(), current(self._device):
            rows = self._image_rows(self.network, torch.from_numpy(pixels).to(self._device))
        return normalise_rows(rows.float().cpu().numpy())

    @property
    def device(self) -> torch.device:
        """Where images are embedded."""
        return torch.device(self._device)

    def rows_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Rows of preprocessed images before they get unit length; gradients flow to the pixels."""
        with current(self._device):
            return self._image_rows(self.network, pixels)

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "t d"]:
        """Texts, exactly as given, to unit rows."""
        row_td = np.zeros((len(texts), self.dim), np.float32)
        with torch.inference_mode():
            for ids, rows in self._text_rows(list(texts)):
                row_td[ids] = rows.float().cpu().numpy()
        return normalise_rows(row_td)


def freeze(network: torch.nn.Module, device: str) -> Any:
    """The network ready to be used: no dropout, no gradients, on its device."""
    return network.eval().requires_grad_(False).to(device)


class LookupPixels:
    """Resize and crop as the library does, then scale each 8-bit value through a table.

    ``tail`` is the library's own scaling, run once on all 256 values, so results are bit-equal to
    it while each image costs one table lookup instead of three passes in floating point.
    """

    def __init__(
        self,
        shape: Callable[[Image.Image], np.ndarray],
        tail: Callable[[Image.Image], np.ndarray],
    ) -> None:
        ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
        self._table = np.ascontiguousarray(tail(Image.fromarray(ramp))[:, 0, :], dtype=np.float32)
        self._shape = shape

    def __call__(self, image: Image.Image) -> np.ndarray:
        """One RGB image to float32 (channel, height, width)."""
        image_hwc = self._shape(image)
        pixels = np.empty((3, *image_hwc.shape[:2]), np.float32)
        for channel in range(3):
            np.take(
                self._table[channel], image_hwc[:, :, channel], out=pixels[channel], mode="clip"
            )
        return pixels


def first_line(error: Exception) -> str:
    """The start of a library's error message, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300].rstrip(".") or type(error).__name__


def tokenizer_sha256(tokenizer: Any) -> str:
    """Sha256 over vocabulary, merges and normalisation of a Hugging Face tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        whole = json.loads(backend.to_str())
        # These two are left behind by the last call; they are no part of the tokenizer.
        whole.pop("padding", None)
        whole.pop("truncation", None)
        return sha256_unescaped_json(whole)
    return sha256_unescaped_json([sorted(tokenizer.get_vocab().items()), type(tokenizer).__name__])
