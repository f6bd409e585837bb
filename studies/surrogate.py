"""A stand-in for CLIP ViT-B/32, fitted elsewhere: not CLIP, but in its space and free to use here.

``python:studies.surrogate:encoder`` reads the folder ``surrogate_clip_vitb32`` and MobileNetV2
from ``CSP_SHARED_DATA`` (default ``../shared/data``). Images go through MobileNetV2 features and a
linear map, texts through hashed words and character pieces and a linear map. Vectors are centred
(mean image, mean text) and brought back to unit length: that is how the two sides compare best, and
what ``description`` says; a text of stop words alone becomes a zero row. ``raw_images``
and ``raw_texts`` give them in CLIP's space.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torchvision.transforms import v2

from csp_engine.errors import MissingModelError
from csp_engine.vectors import normalise_rows

ROOT = Path(__file__).resolve().parents[1]
STOP = "a an the of in on at and is are to with his her its their it by from for as be this that"
STOP_WORDS = frozenset(STOP.split())
N_BUCKETS = 8192
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def shared_folder() -> Path:
    """Where the shared models and images are."""
    return Path(os.environ.get("CSP_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve()


def word_features(text: str) -> tuple[list[str], list[str]]:
    """The word features and the character features of a text."""
    words = [w for w in re.findall(r"[a-z0-9]+", text.lower()) if w not in STOP_WORDS]
    padded = [f" {word} " for word in words]
    pieces = [
        f"c:{word[i : i + n]}"
        for word in padded
        for n in (3, 4, 5)
        for i in range(len(word) - n + 1)
    ]
    return [f"w:{word}" for word in words], pieces


def hashed(text: str) -> np.ndarray:
    """One text to 8,192 buckets: two blocks of unit length, added."""
    total = np.zeros(N_BUCKETS, np.float64)
    for features in word_features(text):
        block = np.zeros(N_BUCKETS, np.float64)
        for feature, count in Counter(features).items():
            block[zlib.crc32(feature.encode()) % N_BUCKETS] += 1 + math.log(count)
        length = np.linalg.norm(block)
        if length:
            total += block / length
    return total


class SurrogateEncoder:
    """See the module."""

    needs_pixels = True
    dim = 512

    def __init__(self, folder: Path) -> None:
        adapters = folder / "surrogate_clip_vitb32"
        weights = sorted((folder / "models" / "mobilenet_v2_imagenet").glob("*.safetensors"))
        if not (adapters / "image_adapter.safetensors").is_file() or len(weights) != 1:
            raise MissingModelError(
                f"There is no surrogate encoder in {folder}; set CSP_SHARED_DATA to the folder "
                f"with surrogate_clip_vitb32 and models/mobilenet_v2_imagenet."
            )
        self._image = load_file(adapters / "image_adapter.safetensors")
        self._text = load_file(adapters / "text_adapter.safetensors")
        network = torchvision.models.mobilenet_v2()
        network.load_state_dict(load_file(weights[0]))
        self._features = network.features.eval().requires_grad_(False)
        self._transform = v2.Compose(
            [
                v2.Resize(224),
                v2.CenterCrop(224),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )
        self._transform.transforms.append(v2.Normalize(IMAGENET_MEAN, IMAGENET_STD))
        self.spec = "python:studies.surrogate:encoder"
        self.description: dict[str, Any] = {
            "kind": "surrogate of CLIP ViT-B/32, fitted, not CLIP itself",
            "weights_sha256": [
                hashlib.sha256(path.read_bytes()).hexdigest()
                for path in (
                    adapters / "image_adapter.safetensors",
                    adapters / "text_adapter.safetensors",
                    weights[0],
                )
            ],
            "preprocessing": "Resize 224 bilinear, CenterCrop 224, ImageNet mean and deviation",
            "output": "mean image or mean text subtracted, then unit length",
            "dim": self.dim,
        }
        self.fingerprint = hashlib.sha256(
            json.dumps(self.description, sort_keys=True).encode()
        ).hexdigest()

    def preprocess(self, image: Any) -> np.ndarray:
        """One Pillow image to one float32 array."""
        return self._transform(image.convert("RGB")).numpy()

    def raw_images(self, pixels: np.ndarray) -> np.ndarray:
        """A batch of preprocessed images to unit rows in CLIP's space."""
        return self._of_pooled(self.pooled(pixels))

    def pooled(self, pixels: np.ndarray) -> np.ndarray:
        """A batch of preprocessed images to the mean features of ImageNet's MobileNetV2."""
        with torch.inference_mode():
            return self._features(torch.from_numpy(pixels)).mean(dim=(2, 3)).numpy()

    def _of_pooled(self, pooled: np.ndarray) -> np.ndarray:
        part = self._image
        features = torch.from_numpy(pooled)
        residual = ((features - part["feat_mean"]) / part["feat_scale"]) @ part["proj"]
        return _placed(residual.numpy(), part["image_mean"], part["image_residual_norm"])

    def raw_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to unit rows in CLIP's space."""
        part = self._text
        x = np.stack([hashed(text) for text in texts]) if texts else np.zeros((0, N_BUCKETS))
        x = normalise_rows(x * part["idf"].numpy()) * np.float32(math.sqrt(2))
        residual = x @ part["hash_proj"].float().numpy()
        return _placed(residual, part["text_mean"], part["text_residual_norm"])

    def embed_images(self, pixels: np.ndarray) -> np.ndarray:
        """A batch of preprocessed images to centred unit rows."""
        return self.of_pooled(self.pooled(pixels))

    def of_pooled(self, pooled: np.ndarray) -> np.ndarray:
        """Mean features to centred unit rows, as ``embed_images`` has them."""
        return normalise_rows(self._of_pooled(pooled) - self._image["image_mean"].numpy())

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts to centred unit rows."""
        return normalise_rows(self.raw_texts(texts) - self._text["text_mean"].numpy())


def _placed(residual: np.ndarray, mean: torch.Tensor, length: torch.Tensor) -> np.ndarray:
    return normalise_rows(mean.numpy() + float(length) * normalise_rows(residual))


def encoder() -> SurrogateEncoder:
    """The encoder in the shared folder."""
    return SurrogateEncoder(shared_folder())
