"""Labels of real neurons from real CLIP vectors: MobileNetV2 on 125 photographs, LVIS names.

Needs the shared test material (CSP_SHARED_DATA). Prints a table of neurons with the best label of
each method, the most reliable first and some at random, and writes a contact sheet of their
exemplars and contrast images, so that a person can judge. docs/real_labels.md is that judgement.

    python -m studies real_labels [--out FOLDER]
"""

from __future__ import annotations

import argparse
import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from csp_engine.bundle import Bundle
from csp_engine.encoders import load_encoder
from csp_engine.networks.layers import select_layers
from csp_engine.networks.models import load_model
from csp_engine.pipeline import BuildRequest, Target, build
from csp_engine.pipeline.recipe import Recipe
from csp_engine.probe.listing import read_probe_set
from csp_engine.words.vocabularies import read_vocabulary

ROOT = Path(__file__).resolve().parents[1]
LAYER = "features.18@mean"
METHODS = ("csp", "semanticlens", "clip_dissect")


def build_bundle(shared: Path, out: Path) -> Bundle:
    """MobileNetV2's last convolution on the Unsplash photographs, with stored CLIP vectors."""
    vectors = shared / "clip_vectors"
    stored = out / "encoder"
    stored.mkdir(parents=True, exist_ok=True)
    names = {
        "image_vectors": str(vectors / "unsplash125_image.npy"),
        "image_names": [f"image_{i}.jpg" for i in range(125)],
        "text_vectors": str(vectors / "text_lvis1203.npy"),
        "text_names": str(vectors / "text_lvis1203.txt"),
    }
    (stored / "encoder.json").write_text(json.dumps(names))
    weights = next((shared / "models" / "mobilenet_v2_imagenet").glob("*.safetensors"))
    model = load_model("torchvision/mobilenet_v2", weights=weights, name="mobilenet_v2")
    request = BuildRequest(
        out=out / "unsplash.csp",
        probe=read_probe_set(shared / "images" / "unsplash125"),
        targets=(Target(model, tuple(select_layers(model, [LAYER]))),),
        encoder=load_encoder(f"precomputed/{stored}"),
        vocabulary=read_vocabulary([str(vectors / "text_lvis1203.txt")]),
        recipe=Recipe(templates=("{}",), n_exemplars=10, n_score=10, n_null=500),
        n_influence_images=0,
    )
    return build(request)


def best(bundle: Bundle, unit: int, method: str) -> str:
    """The best label, with a question mark where it does not beat random image sets."""
    scores = bundle.scores("mobilenet_v2", LAYER, method)
    if not scores.count_u[unit]:
        return "none"
    text = bundle.labels()["text"][int(scores.label_uk[unit, 0])]
    return f"{text}{'' if scores.reliable_u[unit] else '?'}"


def contact_sheet(bundle: Bundle, units: list[int], n_shown: int = 8) -> Image.Image:
    """A row of exemplars a unit, the first contrast image of each below it."""
    side = 110
    exemplars = bundle.exemplars("mobilenet_v2", LAYER)
    contrast = bundle.contrast("mobilenet_v2", LAYER)
    sheet = Image.new("RGB", (90 + n_shown * side, len(units) * (2 * side + 10)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, unit in enumerate(units):
        top = row * (2 * side + 10)
        draw.text((4, top + 4), f"unit {unit}", fill="black")
        for k in range(min(n_shown, int(exemplars.count_u[unit]))):
            pair = [int(exemplars.image_uk[unit, k]), int(contrast.image_ukj[unit, k, 0])]
            for line, image in enumerate(pair):
                with Image.open(io.BytesIO(bundle.thumbnail(image))) as thumb:
                    small = thumb.resize((side - 4, side - 4))
                sheet.paste(small, (90 + k * side, top + line * side))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "bundles" / "real_labels")
    args = parser.parse_args()
    shared = Path(os.environ.get("CSP_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve()
    bundle = build_bundle(shared, args.out)
    scores = bundle.scores("mobilenet_v2", LAYER, "csp")
    order = np.lexsort((-scores.score_uk[:, 0], -scores.best_percentile_u))
    random = np.random.default_rng(0).choice(len(order), 12, replace=False)
    groups = {"most reliable by CSP": order[:12], "at random": np.sort(random)}
    n_reliable = {m: int(bundle.scores("mobilenet_v2", LAYER, m).reliable_u.sum()) for m in METHODS}
    print(f"{len(order)} neurons; reliable: {n_reliable}")
    same = [
        best(bundle, u, "csp").strip("?") == best(bundle, u, "semanticlens").strip("?")
        for u in range(len(order))
    ]
    print(f"CSP and SemanticLens choose the same label for {np.mean(same):.0%} of all neurons")
    for title, units in groups.items():
        print(
            f"\n**{title}**\n\n| unit | CSP | SemanticLens | CLIP-Dissect | clarity | similarity |"
        )
        print("|---|---|---|---|---|---|")
        table = bundle.units("mobilenet_v2", LAYER)
        for unit in map(int, units):
            labels = " | ".join(best(bundle, unit, method) for method in METHODS)
            numbers = f"{table['clarity'][unit]:.2f} | {scores.similarity_u[unit]:.2f}"
            print(f"| {unit} | {labels} | {numbers} |")
        name = title.split()[0]
        contact_sheet(bundle, [int(u) for u in units]).save(args.out / f"{name}.png")
    print(f"\nContact sheets in {args.out}")


if __name__ == "__main__":
    main()
