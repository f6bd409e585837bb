"""What a whole build costs beyond the forward passes and the decoding that it cannot avoid.

Bare cost: target and encoder forward passes over tensors that are already in memory, the encoder's
text tower over the vocabulary's prompts, and one decode of each image. Build: ``pipeline.build`` of
the same images, same threads, same batch size. The two alternate in one process; medians count.

    python -m benchmarks.build [--images N] [--repeats R]
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from csp_engine.encoders import load_encoder
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import load_model
from csp_engine.pipeline import BuildRequest, Target, build
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.decoding import decode
from csp_engine.probe.listing import read_probe_set
from csp_engine.words.templates import TEMPLATES
from csp_engine.words.vocabularies import read_vocabulary

RESULTS = Path(__file__).parent / "results"
PREPROCESSING = {
    "resize": 256,
    "crop": 224,
    "interpolation": "bilinear",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def resnet50() -> torch.nn.Module:
    """A ResNet-50 with random weights: the same work as a trained one."""
    torch.manual_seed(0)
    return torchvision.models.resnet50()


def mobilenet() -> torch.nn.Module:
    """A MobileNetV2 with random weights: a small network, so overheads show."""
    torch.manual_seed(0)
    return torchvision.models.mobilenet_v2()


def write_photographs(folder: Path, n_images: int) -> None:
    """JPEG files of a photograph's size (500 x 375) and about its bytes (60 to 100 kB)."""
    rng = np.random.default_rng(0)
    for i in range(n_images):
        coarse = rng.integers(0, 255, (24, 32, 3), np.uint8)
        image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
        noise = rng.normal(0, 9, (375, 500, 3))
        pixels = (np.asarray(image, np.float32) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:05d}.jpg", quality=88)


def write_encoder(folder: Path) -> None:
    """A ViT-B/32 of open_clip with random weights, as a local folder."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32", pretrained=None)
    config = {
        "model_cfg": open_clip.get_model_config("ViT-B-32"),
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "size": 224,
            "mode": "RGB",
        },
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    state = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")


def bare_seconds(request: BuildRequest) -> dict[str, float]:
    """Forward passes over decoded tensors, texts included, and one decode of each image."""
    contents = [request.probe.read(row) for row in range(len(request.probe.table))]
    start = time.perf_counter()
    for content in contents:
        image = Image.open(io.BytesIO(content))
        image.convert("RGB").load()
    decoding = time.perf_counter() - start
    model, encoder = request.targets[0].model, request.encoder
    network, size = model.network, request.batch_size
    spent = {"decode": decoding, "network": 0.0, "encoder": 0.0}
    for first in range(0, len(contents), size):
        images = [decode(c) for c in contents[first : first + size]]
        for_target = torch.from_numpy(np.stack([model.preprocess(i) for i in images]))
        for_encoder = np.stack([encoder.preprocess(i) for i in images])
        start = time.perf_counter()
        with torch.inference_mode():
            network(for_target)
        middle = time.perf_counter()
        encoder.embed_images(for_encoder)
        spent["network"] += middle - start
        spent["encoder"] += time.perf_counter() - middle
    prompts = [
        template.format(text)
        for text in request.vocabulary.table["text"]
        for template in request.recipe.templates
    ]
    start = time.perf_counter()
    for first in range(0, len(prompts), 256):
        encoder.embed_texts(prompts[first : first + 256])
    spent["texts"] = time.perf_counter() - start
    return spent


def write_inputs(folder: Path, n_images: int, n_labels: int) -> None:
    """Photographs, an encoder and words, as ``images``, ``encoder`` and ``words.txt``."""
    for part in ("images", "encoder"):
        (folder / part).mkdir()
    write_photographs(folder / "images", n_images)
    write_encoder(folder / "encoder")
    (folder / "words.txt").write_text("\n".join(f"thing {i}" for i in range(n_labels)))


def measure(name: str, factory: str, layers: list[str], args: argparse.Namespace) -> dict:
    """Alternate bare and whole, and report medians and their ratio."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_inputs(folder, args.images, args.labels)
        model = load_model(factory, preprocessing=PREPROCESSING, name=name)
        request = BuildRequest(
            out=folder / "a.csp",
            probe=read_probe_set(folder / "images"),
            targets=(Target(model, tuple(select_layers(model, layers))),),
            encoder=load_encoder(f"open_clip/{folder / 'encoder'}"),
            vocabulary=read_vocabulary([str(folder / "words.txt")]),
            recipe=Recipe(templates=TEMPLATES["paper"]),
            batch_size=32,
        )
        rows = []
        bare_seconds(request)  # warm caches and allocators
        for _ in range(args.repeats):
            bare = bare_seconds(request)
            shutil.rmtree(request.out, ignore_errors=True)
            start = time.perf_counter()
            bundle = build(request)
            whole = time.perf_counter() - start
            rows.append({**bare, "bare": sum(bare.values()), "build": whole})
            rows[-1]["ratio"] = whole / rows[-1]["bare"]
        n_neurons = sum(bundle.n_units(name, layer) for layer in bundle.layers(name))
        medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        return {"target": name, "images": args.images, "neurons": n_neurons, **medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    found = [
        measure("resnet50", "python:benchmarks.build:resnet50", ["layer3", "layer4"], args),
        measure("mobilenet_v2", "python:benchmarks.build:mobilenet", ["features.18"], args),
    ]
    columns = list(found[0])
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in found:
        print(
            "| "
            + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values())
            + " |"
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "build.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
