"""Target models for real dermoscopy, as ``--model python:studies.dermoscopy_models:NAME``.

Each is a function that returns a network with its preprocessing and the names of its outputs: the
shape to copy for a classifier of your own that no library builds by name. Two of them read the
folder in ``CSP_SHARED_DATA`` (default ``../shared/data``), one what ``studies.train_melanoma``
wrote.
"""

from __future__ import annotations

import os
from pathlib import Path

import timm
import torchvision
from safetensors.torch import load_file
from torch import nn

from csp_engine.errors import MissingModelError
from csp_engine.networks.models import TargetModel, target_model
from studies.surrogate import IMAGENET_MEAN, IMAGENET_STD, ROOT, shared_folder

MELANOMA_CLASSES = ("benign", "melanoma")

# The photographs are square: resized whole, because dark corners and rulers lie at the edge.
WHOLE_IMAGE = {
    "resize": [224, 224],
    "interpolation": "bilinear",
    "crop": None,
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
}


def melanoma_weights() -> Path:
    """Where the trained classifier is; ``CSP_MELANOMA_WEIGHTS`` names another place."""
    default = ROOT / "bundles" / "real_dermoscopy" / "melanoma.safetensors"
    return Path(os.environ.get("CSP_MELANOMA_WEIGHTS", default))


def skin_isic9() -> TargetModel:
    """Somebody's classifier of nine skin lesions: MobileNetV2-0.35 with a head of two layers."""
    folder = shared_folder() / "models" / "skin_isic9_teachable"
    network = timm.create_model("mobilenetv2_035", pad_type="same", num_classes=9)
    network.classifier = nn.Sequential(nn.Linear(1280, 100), nn.ReLU(), nn.Linear(100, 9))
    network.load_state_dict(_weights(next(iter(folder.glob("*.safetensors")), folder)))
    lines = (folder / "labels.txt").read_text("utf-8").splitlines()
    recipe = {
        "resize": 224, "interpolation": "bilinear", "crop": 224, "mean": [0.5] * 3, "std": [0.5] * 3
    }  # fmt: skip
    names = [line.partition(" ")[2] for line in lines]
    return target_model(network, recipe, name="skin_isic9", class_names=names)


def imagenet() -> TargetModel:
    """MobileNetV2 as trained on ImageNet, never on skin: what is there before fine-tuning."""
    folder = shared_folder() / "models" / "mobilenet_v2_imagenet"
    network = torchvision.models.mobilenet_v2()
    network.load_state_dict(_weights(next(iter(folder.glob("*.safetensors")), folder)))
    return target_model(network, WHOLE_IMAGE, name="imagenet")


def melanoma() -> TargetModel:
    """The same network with its last blocks fine-tuned to tell melanoma from benign lesions."""
    network = torchvision.models.mobilenet_v2(num_classes=len(MELANOMA_CLASSES))
    network.load_state_dict(_weights(melanoma_weights()))
    return target_model(network, WHOLE_IMAGE, name="melanoma", class_names=MELANOMA_CLASSES)


def _weights(path: Path) -> dict:
    if not path.is_file():
        raise MissingModelError(
            f"There are no weights at {path}; set CSP_SHARED_DATA to the folder of models, or run "
            "python -m studies train_melanoma first."
        )
    return load_file(path)
