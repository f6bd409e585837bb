"""Do labels say how neurons act on photographs that did not choose them? Four methods, compared.

A label is chosen on one half of the photographs; on the other half, its simulation (the similarity
of every image with the label) is correlated with the activation. Both ways round, and the mean.
MobileNetV2's last convolution on 125 photographs with real CLIP vectors, and SqueezeNet's classes
on 1,000 photographs with an encoder fitted to CLIP's space; words of LVIS and COCO, a plain list.
The encoder that chose the label judges it, so figures compare methods and are no faithfulness.
Needs the shared test material (CSP_SHARED_DATA). Only figures are written.

    python -m studies simulated_labels [--out FOLDER]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from csp_engine.networks.activations import ActivationRecorder
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import load_model
from csp_engine.probe.decoding import decode
from csp_engine.vectors import normalise_rows
from studies.open_words import N_RESAMPLES, Words, lvis_words, photographs, said
from studies.real_dermoscopy import ROOT, rounded
from studies.surrogate import shared_folder

RESULT = Path(__file__).parent / "results" / "simulated_labels.json"
LAYER = "features.18@mean"
METHODS_TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "CSP+": ("csp_plus", {"kinds": False}),
    "CSP": ("csp", {}),
    "SemanticLens": ("semanticlens", {}),
    "CLIP-Dissect": ("clip_dissect", {}),
}
N_SPLITS = 2


def unsplash(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """CLIP vectors of the photographs, and what every channel does on them."""
    weights = next((shared / "models" / "mobilenet_v2_imagenet").glob("*.safetensors"))
    model = load_model("torchvision/mobilenet_v2", weights=weights, name="mobilenet_v2")
    files = [shared / "images" / "unsplash125" / f"image_{i}.jpg" for i in range(125)]
    with ActivationRecorder(model, select_layers(model, [LAYER])) as recorder:
        parts = [
            recorder(np.stack([model.preprocess(decode(file.read_bytes())) for file in block]))
            for block in (files[first : first + 25] for first in range(0, 125, 25))
        ]
    vectors = np.load(shared / "clip_vectors" / "unsplash125_image.npy").astype(np.float32)
    activation_nu = np.concatenate([part[LAYER] for part in parts])
    return normalise_rows(vectors), np.ascontiguousarray(activation_nu.T, np.float32)


def simulated(
    image_nd: np.ndarray, activation_un: np.ndarray, words: Words, n_exemplars: int
) -> dict[str, np.ndarray]:
    """For each method and unit the mean held-out correlation of label and activation."""
    n_images = len(image_nd)
    total: dict[str, np.ndarray] = {}
    for seed in range(N_SPLITS):
        half_n = np.random.default_rng(seed).permutation(n_images) % 2
        for half in (0, 1):
            own, other = half_n == half, half_n != half
            told = said(
                np.ascontiguousarray(image_nd[own]),
                words,
                np.ascontiguousarray(activation_un[:, own]),
                METHODS_TRIED,
                n_exemplars=n_exemplars,
            )
            column_nt = standard((image_nd[other] @ words.vector_td.T).T)
            activation_uo = standard(activation_un[:, other])
            for name, best_u in told.items():
                r_u = (activation_uo * column_nt[best_u]).sum(axis=1)
                total[name] = total.get(name, 0) + r_u / (2 * N_SPLITS)
    return total


def standard(value_un: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1; zero where constant."""
    value_un = value_un - value_un.mean(axis=1, keepdims=True)
    length_u = np.linalg.norm(value_un, axis=1, keepdims=True)
    return value_un / np.where(length_u > 1e-9, length_u, np.inf)


def drawn(value_u: np.ndarray) -> dict[str, float]:
    """A mean with its 95 % interval from drawing neurons."""
    rng = np.random.default_rng(0)
    mean_r = [value_u[rng.integers(len(value_u), size=len(value_u))].mean()
              for _ in range(N_RESAMPLES)]  # fmt: skip
    low, high = np.percentile(mean_r, [2.5, 97.5])
    return {"mean": float(value_u.mean()), "low": float(low), "high": float(high)}


def figures(total: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Each method's mean, and how far the first one is ahead of it."""
    leader = total["CSP+"]
    return {
        "n_units": len(leader),
        "r": {name: drawn(r_u) for name, r_u in total.items()},
        "ahead": {name: drawn(leader - r_u) for name, r_u in total.items() if name != "CSP+"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "open_words")
    args = parser.parse_args()
    shared = shared_folder()
    centred = lvis_words(shared, args.wordnet)
    plain = lvis_words(shared, args.wordnet, is_centred=False)
    seen = photographs(shared, args.out)
    result = {
        "mobilenet_v2 features.18, Unsplash, CLIP": figures(
            simulated(*unsplash(shared), plain, 10)
        ),
        "squeezenet1_1 classes, ImageNet, stand-in": figures(
            simulated(seen["image"], np.ascontiguousarray(seen["squeezenet1_1"].T), centred, 30)
        ),
    }
    RESULT.write_text(json.dumps(rounded(result), indent=1) + "\n")
    for name, found in result.items():
        print(f"\n**{name}**, {found['n_units']} neurons\n\n| method | r | CSP+ ahead by |")
        print("|---|---|---|")
        for method, r in found["r"].items():
            ahead = found["ahead"].get(method)
            print(f"| {method} | {shown(r)} | {shown(ahead) if ahead else ''} |")


def shown(figure: Mapping[str, float]) -> str:
    return "{mean:.3f} ({low:.3f} to {high:.3f})".format(**figure)


if __name__ == "__main__":
    main()
