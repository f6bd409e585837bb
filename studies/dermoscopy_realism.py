"""How real the simulated photographs are: detectors that learnt from them alone, on real ones.

For each artefact a detector is fitted on simulated photographs and tested on the labelled ones of
ISIC 2017 (needs the shared test material, CSP_SHARED_DATA). No real photograph or label enters a
fit, a choice or a scaling; every rule is a constant of this file. Three detectors side by side:

- ``mobilenet``: logistic regression on a real MobileNetV2 (ImageNet weights, never trained here):
  mean, maximum and deviation over positions of seven of its blocks;
- ``encoder``: logistic regression on the demo encoder's image tower, trained from scratch on
  simulated photographs only: its embedding, and mean and maximum of its last two stages;
- ``zero-shot``: cosine between the demo encoder's image and text vectors, mean over wordings.

    python -m studies dermoscopy_realism [--encoder FOLDER] [--pictures FOLDER] [--out FOLDER]
        [--sheet FILE]

``--out`` gets contact sheets of simulated photographs beside real ones, for a person to judge; real
photographs never go into the repository. ``--sheet`` writes the sheet of simulated photographs
alone that the documentation shows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from csp_engine.demo.shipping.parts import FULL
from csp_engine.demo.simulator.captions import HELD_OUT, WORDINGS
from csp_engine.demo.simulator.cases import CLINICAL, concept_table, draw_cases
from csp_engine.demo.simulator.render import VERSION, render
from csp_engine.demo.training.encoder import SIDE, zero_shot_auroc
from csp_engine.demo.training.pictures import pictures
from csp_engine.stats.intervals import auroc_interval

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "studies" / "results" / "dermoscopy_realism.json"
WORK = ROOT / "bundles" / "dermoscopy_realism"

CONCEPT = {
    "patches": "colour patch",
    "dark_corner": "dark corners",
    "ruler": "ruler",
    "hair": "hair",
    "ink": "ink marks",
    "gel_bubble": "gel bubbles",
    "gel_border": "gel border",
}
"""Column of the real labels → concept of the simulator."""

BARS = {"patches": 0.90, "dark_corner": 0.85, "ruler": 0.80, "hair": 0.75, "ink": 0.70}
"""What a detector should reach; gel is only reported."""

N_LESSONS, LESSON_SEED = FULL.n_words, 1
"""The photographs that the encoder learns from: scenario "words" of the demo with seed 0."""

N_FITTED = 4000
"""The encoder's detectors learn from the first so many of them."""

N_MOBILENET, MOBILENET_SEED, MOBILENET_SIDE = 3000, 8, 224
"""MobileNetV2 gets photographs of its own, in the size that it was trained with: at the encoder's
160 pixels, thin hairs and the ticks of rulers are gone."""

TAPS = (2, 4, 7, 11, 14, 17, 18)
"""Blocks of MobileNetV2 whose activations are pooled."""

CLIP_AT = 6.0
"""Features are scaled by the simulated ones' mean and deviation, and cut off here: a real
photograph may lie where no simulated one does."""

STRENGTHS = (1e-5, 1e-4, 1e-3)
"""Inverse L2 penalties (scikit-learn's C). Of those whose area on the last fifth of the simulated
photographs is within one standard error of the best, the strongest penalty is taken."""

Features = Callable[[np.ndarray], np.ndarray]


def mobilenet(shared: Path) -> Features:
    """Pooled activations of the real MobileNetV2."""
    import torch
    import torchvision
    from safetensors.torch import load_file

    network = torchvision.models.mobilenet_v2().eval()
    weights = (shared / "models" / "mobilenet_v2_imagenet").glob("*torchvision.safetensors")
    network.load_state_dict(load_file(next(weights)))
    mean, std = (torch.tensor(v).view(3, 1, 1)
                 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))  # fmt: skip

    @torch.inference_mode()
    def features(image_nhwc: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(np.ascontiguousarray(image_nhwc)).permute(0, 3, 1, 2).float() / 255
        x = ((x - mean) / std).contiguous(memory_format=torch.channels_last)
        pooled = []
        for number, block in enumerate(network.features):
            x = block(x)
            if number in TAPS:
                pooled += [x.mean((2, 3)), x.amax((2, 3)), x.std((2, 3))]
        return torch.cat(pooled, 1).numpy()

    return features


def image_tower(encoder: Any) -> Features:
    """The demo encoder's embedding beside mean and maximum of its last two stages."""
    import torch

    visual = encoder.network.visual
    seen: list[Any] = []
    for stage in (visual.layer3, visual.layer4):
        stage.register_forward_hook(lambda _module, _inputs, output: seen.append(output))

    def features(image_nhwc: np.ndarray) -> np.ndarray:
        seen.clear()
        pixels = np.stack([encoder.preprocess(Image.fromarray(image)) for image in image_nhwc])
        parts = [torch.from_numpy(encoder.embed_images(pixels))]
        parts += [pool for x in seen for pool in (x.mean((2, 3)), x.amax((2, 3)))]
        return torch.cat([p.float() for p in parts], 1).numpy()

    return features


def in_blocks(features: Features, image_nhwc: np.ndarray, name: str, size: int = 50) -> np.ndarray:
    parts = []
    for i in range(0, len(image_nhwc), size):
        parts.append(features(image_nhwc[i : i + size]))
        if i % 500 == 0:
            print(f"  {name}: {i} of {len(image_nhwc)}", flush=True)
    return np.concatenate(parts)


def kept(features: Features, image_nhwc: np.ndarray, name: str) -> np.ndarray:
    """Features of pictures, made once; found again by the pixels they were made from."""
    key = hashlib.sha256(np.ascontiguousarray(image_nhwc).tobytes()).hexdigest()[:12]
    path = WORK / f"{name}-{key}.npy"
    if not path.exists():
        array = in_blocks(features, image_nhwc, name)
        temporary = path.with_name(f".tmp-{path.name}")
        np.save(temporary, array.astype(np.float16))
        temporary.rename(path)
    return np.load(path).astype(np.float32)


def figure(auroc: float, shown: np.ndarray) -> dict[str, float]:
    """An area with its interval and counts."""
    n_positive, n_negative = int(shown.sum()), int((~shown).sum())
    low, high = auroc_interval(np.array(auroc), n_positive, n_negative)
    return {
        "auroc": round(float(auroc), 4), "low": round(float(low), 4), "high": round(float(high), 4),
        "n_positive": n_positive, "n_negative": n_negative,
    }  # fmt: skip


def detect(
    simulated_nf: np.ndarray, concepts: pd.DataFrame, real_nf: np.ndarray, labels: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """Fit on simulated features, test on real ones: a figure for each artefact."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    mean, deviation = simulated_nf.mean(0), simulated_nf.std(0) + 1e-6
    simulated_nf, real_nf = (
        np.clip((x - mean) / deviation, -CLIP_AT, CLIP_AT) for x in (simulated_nf, real_nf)
    )
    n_fit = len(simulated_nf) * 4 // 5
    found = {}
    for column, concept in CONCEPT.items():
        shown = concepts[concept].to_numpy(bool)
        held = []
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=300, tol=1e-3)
            model.fit(simulated_nf[:n_fit], shown[:n_fit])
            score = model.decision_function(simulated_nf[n_fit:])
            held.append((roc_auc_score(shown[n_fit:], score), strength, model))
        best = max(area for area, _, _ in held)
        low, high = auroc_interval(
            np.array(best), int(shown[n_fit:].sum()), int((~shown[n_fit:]).sum()), 0.6827
        )
        within = float(high - low) / 2
        area, strength, model = next(h for h in held if h[0] >= best - within)
        known = labels[column].notna().to_numpy()
        truth = labels[column][known].to_numpy() > 0
        score = model.decision_function(real_nf[known])
        found[column] = figure(roc_auc_score(truth, score), truth) | {
            "simulated_auroc": round(float(area), 4),
            "strength": strength,
        }
        print(f"  {column}: {found[column]}", flush=True)
    return found


def zero_shot(
    encoder: Any, real_nd: np.ndarray, labels: pd.DataFrame, wordings: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, float]]:
    """The mean area over a concept's wordings; its interval is that of one wording's area."""
    names = {**CONCEPT, "melanoma": "melanoma"}
    truth = labels.rename(columns=names)[list(names.values())]
    areas = zero_shot_auroc(encoder, real_nd, truth, wordings)
    return {
        column: figure(areas[name], truth[name].dropna().to_numpy() > 0)
        for column, name in names.items()
    }


# --- sheets to look at ---------------------------------------------------------------------------

COLUMNS = {"patches": "patch", "dark_corner": "dark_corners", "gel_bubble": "gel_bubbles"}


def beside_real(shared: Path, labels: pd.DataFrame, out: Path, n: int = 7) -> None:
    """For each artefact a row of real photographs that show it above a row of simulated ones."""
    folder = shared / "images" / "isic2017"
    rng = np.random.default_rng(0)
    cases = draw_cases("words", 600, 77)
    concepts = concept_table(cases)
    kinds: dict[str, tuple[pd.Series, pd.Series]] = {
        column: (labels[column] == 1, concepts[concept]) for column, concept in CONCEPT.items()
    }
    kinds["melanoma"] = (labels["melanoma"] == 1, concepts["melanoma"])
    kinds["no artefact"] = (
        (labels[list(CONCEPT)] == 0).all(axis=1),
        ~concepts[[*CONCEPT.values(), "reddish skin"]].any(axis=1),
    )
    for name, (is_real, is_simulated) in kinds.items():
        sheet = Image.new("RGB", (n * 200, 2 * 200 + 34), "white")
        draw = ImageDraw.Draw(sheet)
        draw.text((4, 2), f"{name}: real (ISIC 2017)", fill="black")
        draw.text((4, 220), f"{name}: simulated", fill="black")
        for i, row in enumerate(rng.choice(np.flatnonzero(is_real), n, replace=False)):
            with Image.open(folder / f"{labels['image'].iloc[row]}.jpg") as photograph:
                sheet.paste(photograph.convert("RGB").resize((198, 198)), (i * 200, 16))
        for i, row in enumerate(rng.choice(np.flatnonzero(is_simulated), n, replace=False)):
            picture = render(cases.iloc[row].to_dict()).image()
            sheet.paste(picture.resize((198, 198)), (i * 200, 234))
        sheet.save(out / f"{name.replace(' ', '_')}.jpg", quality=88)
    print(f"Contact sheets in {out}")


PLAIN: dict[str, Any] = {
    "seed": 29, "diagnosis": "naevus", "skin_tone": 2, "size": 0.46, "asymmetry": 0.15,
    "irregularity": 0.15, "n_colours": 2, "pigment": 0.85, **dict.fromkeys(CLINICAL, 0),
    "red_skin": 0, "ruler": "", "patch": "", "ink": "", "hair": "", "hair_thickness": "thin",
    "hair_shade": "dark", "gel_bubbles": 0, "gel_border": 0, "dark_corners": 0,
}  # fmt: skip

SHOWN: dict[str, dict[str, Any]] = {
    "nothing switched on": {},
    "melanoma": {"diagnosis": "melanoma", "asymmetry": 0.8, "irregularity": 0.8, "n_colours": 5},
    "seborrhoeic keratosis": {"diagnosis": "seborrhoeic keratosis"},
    "skin type 1": {"skin_tone": 1},
    "skin type 4": {"skin_tone": 4},
    "skin type 6": {"skin_tone": 6},
    "small": {"size": 0.2},
    "large": {"size": 0.75},
    "asymmetric": {"asymmetry": 1.0},
    "irregular border": {"irregularity": 1.0},
    "six colours": {"n_colours": 6},
    "dark pigment": {"pigment": 1.4},
    **{name.replace("_", " "): {name: 1} for name in (*CLINICAL, "red_skin")},
    "ruler: rod": {"ruler": "rod"},
    "ruler: edge": {"ruler": "edge"},
    "ruler: strip": {"ruler": "strip"},
    "blue patch": {"patch": "blue"},
    "two patches": {"patch": "orange/grey+green"},
    "purple ink": {"ink": "purple"},
    "black ink": {"ink": "black"},
    "hair: sparse, thin": {"hair": "sparse"},
    "hair: dense, thick": {"hair": "dense", "hair_thickness": "thick"},
    "hair: dense, light": {"hair": "dense", "hair_shade": "light"},
    "gel bubbles": {"gel_bubbles": 1},
    "gel border": {"gel_border": 1},
    "dark corners": {"dark_corners": 1},
}
"""Caption → what differs from ``PLAIN``; seed, and so shape and noise, stay the same."""


def simulated_sheet(path: Path, side: int = 128, n_columns: int = 7) -> None:
    """One lesion with each control switched on alone; no real photograph in it."""
    n_rows = -(-len(SHOWN) // n_columns)
    sheet = Image.new("RGB", (n_columns * (side + 4), n_rows * (side + 18)), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (caption, difference) in enumerate(SHOWN.items()):
        x, y = i % n_columns * (side + 4) + 2, i // n_columns * (side + 18)
        picture = render({**PLAIN, **difference}).image()
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, y + 15))
        draw.text((x, y + 2), caption, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=82)
    print(f"{path}: {path.stat().st_size // 1000} kB")


# --- all of it -----------------------------------------------------------------------------------


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The figures as a table of Markdown."""
    lines = [f"| artefact | n with / without | {' | '.join(results)} | bar |"]
    lines.append("|---" * (len(results) + 3) + "|")
    for column in CONCEPT:
        cells = [
            f"{r[column]['auroc']:.3f} ({r[column]['low']:.3f}–{r[column]['high']:.3f})"
            for r in results.values()
        ]
        one = next(iter(results.values()))[column]
        bar = f"{BARS[column]:.2f}" if column in BARS else ""
        counts = f"{one['n_positive']} / {one['n_negative']}"
        lines.append(f"| {column} | {counts} | {' | '.join(cells)} | {bar} |")
    return "\n".join(lines)


PICTURES_HELP = "folder where a demo build keeps its pictures, to save rendering them"


def show_progress(stage: str, done: int, n: int) -> None:
    print(f"  {stage}: {done} of {n}", flush=True)


def photographs(folder: Path, labels: pd.DataFrame, side: int) -> np.ndarray:
    """The real photographs, pressed into a square as they came to us."""
    return np.stack(
        [
            np.asarray(
                Image.open(folder / f"{name}.jpg")
                .convert("RGB")
                .resize((side, side), Image.Resampling.BILINEAR)
            )
            for name in labels["image"]
        ]
    )


def main() -> None:
    from csp_engine.encoders import load_encoder

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, default=ROOT / "assets" / "demo" / "encoder")
    parser.add_argument("--pictures", type=Path, default=WORK / "pictures", help=PICTURES_HELP)
    parser.add_argument("--out", type=Path, help="folder for contact sheets beside real ones")
    parser.add_argument("--sheet", type=Path, help="file for the sheet of simulated ones alone")
    args = parser.parse_args()
    if args.sheet:
        simulated_sheet(args.sheet)
        return
    shared = Path(os.environ.get("CSP_SHARED_DATA", ROOT.parent / "shared" / "data")).resolve()
    real = shared / "images" / "isic2017"
    if not (real / "labels.csv").is_file():
        sys.exit(f"The real photographs are not at {real}; set CSP_SHARED_DATA.")
    labels = pd.read_csv(real / "labels.csv")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        beside_real(shared, labels, args.out)

    WORK.mkdir(parents=True, exist_ok=True)
    results = {}
    features = mobilenet(shared)
    own = pictures(
        args.pictures, "words", N_MOBILENET, MOBILENET_SEED, MOBILENET_SIDE, show_progress
    )
    real_nf = kept(features, photographs(real, labels, MOBILENET_SIDE), "mobilenet-real")
    simulated_nf = kept(features, own.image_nhwc, "mobilenet-simulated")
    results["mobilenet"] = detect(simulated_nf, concept_table(own.cases), real_nf, labels)
    del own

    lessons = pictures(args.pictures, "words", N_LESSONS, LESSON_SEED, SIDE, show_progress)
    simulated_nhwc = lessons.image_nhwc[:N_FITTED].copy()
    concepts = concept_table(lessons.cases.head(N_FITTED))
    del lessons
    real_nhwc = photographs(real, labels, SIDE)
    fingerprint = None
    if args.encoder.is_dir():
        encoder: Any = load_encoder(f"open_clip/{args.encoder.resolve()}")
        fingerprint = encoder.fingerprint
        tower = image_tower(encoder)
        real_nf = in_blocks(tower, real_nhwc, "encoder, real")
        simulated_nf = in_blocks(tower, simulated_nhwc, "encoder, simulated")
        results["encoder"] = detect(simulated_nf, concepts, real_nf, labels)
        real_nd = real_nf[:, : encoder.dim]
        results["zero-shot"] = zero_shot(encoder, real_nd, labels, WORDINGS)
        results["zero-shot, held-out wordings"] = zero_shot(encoder, real_nd, labels, HELD_OUT)
    else:
        print(f"No encoder at {args.encoder}: its detector and its words are left out.")
    print(f"\n{table(results)}")
    reached = {
        name: {column: figures[column]["auroc"] >= bar for column, bar in BARS.items()}
        for name, figures in results.items()
    }
    record = {
        "render_version": VERSION, "n_simulated": N_FITTED, "side": SIDE,
        "mobilenet_n_simulated": N_MOBILENET, "mobilenet_side": MOBILENET_SIDE, "taps": list(TAPS),
        "n_real": len(labels), "encoder": fingerprint, "bars": BARS, "reached": reached,
        "results": results,
    }  # fmt: skip
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{RESULT}")


if __name__ == "__main__":
    main()
