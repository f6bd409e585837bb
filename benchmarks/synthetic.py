"""Large bundles with random content of the right shapes, for measuring; kept in a temporary folder.

Everything a page reads is there and lies on disk as the engine writes it: packed WebP thumbnails,
every array and table, the index, and an encoder beside the bundle that loads and answers, though
with random weights. Made in seconds, once: a folder that is there is taken as it is.
Run: python -m benchmarks.synthetic
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.bundle import BundleWriter
from csp_engine.search import build_index

FOLDER = Path(tempfile.gettempdir()) / "csp-benchmarks"
VERSION = 6  # raise it when the content changes, so that nobody measures an older one
LAYER = "layer4@mean"
N_PICTURES = 400
N_CLASSES = 1000
N_NULL = 500
N_EXEMPLARS = 30  # a page with "k=48" shows thirty pairs, as of the demo
N_BEST = 20


@dataclass(frozen=True, slots=True)
class Size:
    """How large a synthetic bundle is."""

    n_units: int
    n_images: int
    width: int
    n_labels: int
    has_encoder: bool = False
    n_pictures: int = N_PICTURES


SIZES = {
    "synthetic": Size(2048, 50_000, 512, 10_000, has_encoder=True),
    "published": Size(10_000, 20_000, 512, 10_000, n_pictures=20_000),
    "neurons50k": Size(50_000, 500, 64, 10_000),
    "neurons100k": Size(100_000, 500, 64, 10_000),
    "neurons131k": Size(131_072, 200, 64, 10_000),
    "neurons1m": Size(1_000_000, 200, 64, 10_000),
}


def bundle(name: str, folder: Path = FOLDER) -> Path:
    """The path of a bundle of ``SIZES``, made now if it is not there yet."""
    path = folder / f"v{VERSION}" / f"{name}.csp"
    if not path.exists():
        start = time.perf_counter()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        shutil.rmtree(unfinished, ignore_errors=True)
        write(unfinished, SIZES[name])
        unfinished.rename(path)
        print(f"{path} written in {time.perf_counter() - start:.0f} s", flush=True)
    return path


def write(path: Path, size: Size) -> None:
    """Write a bundle, stage by stage."""
    rng = np.random.default_rng(0)
    n_units, n_images = size.n_units, size.n_images
    vector_ud = unit_rows(rng, n_units, size.width)
    text_td = unit_rows(rng, size.n_labels, size.width)
    encoder = {"spec": "synthetic", "fingerprint": "0" * 64, "dim": size.width}
    if size.has_encoder:
        encoder = write_encoder(path.parent / "encoder", size.width)
    inputs = {
        "models": {
            "net": {"spec": "synthetic", "fingerprint": "0" * 64, "order": 0, "layers": [LAYER]}
        },
        "encoder": encoder,
        "vocabulary": {
            "name": "synthetic",
            "n_labels": size.n_labels,
            "templates": ["{}", "a photo of a {}"],
            "renormalise": True,
            "subtract_empty": False,
            "sha256": "0" * 64,
        },
        "probe": {"name": "synthetic", "n_images": n_images, "content_sha256": "0" * 64},
    }
    with BundleWriter(path) as writer:
        writer.describe(recipe={"methods": ["csp"], "gamma": 1.0}, inputs=inputs)

        def stage(name, params=None):
            return writer.stage(name, version=1, params=params or {}, needs={}, inputs={})

        with stage("images") as f:
            _images(f, rng, n_images, size.n_pictures)
        with stage("probe") as f:
            _probe(f, rng, n_images)
        with stage("embeddings") as f:
            f.array("image", unit_rows(rng, n_images, size.width))
        with stage(f"activations:net/{LAYER}") as f:
            _activations(f, rng, n_units, n_images)
        with stage(f"neurons:net/{LAYER}") as f:
            _neurons(f, rng, n_units, n_images)
        with stage(f"audit:net/{LAYER}", {"n_score": 30}) as f:
            _audit(f, rng, n_units)
        with stage(f"contrast:net/{LAYER}") as f:
            _contrast(f, rng, n_units, n_images)
        with stage(f"influence:net/{LAYER}") as f:
            names = pd.array([f"class{i:04d}" for i in range(100)], "string")
            f.table("outputs", pd.DataFrame({"name": names}))
            f.array("gradient_activation", rng.normal(size=(100, n_units)).astype(np.float32))
            f.array("n_image", np.full(100, 5, np.int32))
            f.facts.update(is_predicted_class=False, n_images=500)
        with stage("vocabulary") as f:
            texts = pd.array([f"word {i}" for i in range(size.n_labels)], "string")
            f.table("labels", pd.DataFrame({"text": texts, "source": "synthetic"}))
            f.array("text", text_td)
        with stage("null", {"n_draws": N_NULL}) as f:
            f.array("exemplar_count", np.full(N_NULL, N_EXEMPLARS, np.int32))
        with stage(f"scores:net/{LAYER}/csp", {"gamma": 1.0, "n_score": 30}) as f:
            _scores(f, rng, vector_ud, size)
        rows = pd.DataFrame({"model": "net", "layer": LAYER, "unit": np.arange(n_units)})
        rows["unit"] = rows["unit"].astype(np.int32)
        with stage("index:csp") as f:
            build_index(vector_ud).write(f.path / "index.faiss")
            f.table("rows", rows)
        with stage("projection:csp") as f:
            centre = rng.normal(size=(40, 2)) * 8
            xy = centre[rng.integers(0, 40, n_units)] + rng.normal(size=(n_units, 2))
            f.array("xy", xy.astype(np.float32))
            f.table("rows", rows)
            f.facts.update(kind="umap", n_distinct=n_units, neighbour_recall=0.4)


def unit_rows(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    rows = rng.standard_normal((n, width), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_encoder(folder: Path, width: int) -> dict:
    """A small image-text network with random weights; what the manifest says of it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    from csp_engine.encoders import load_encoder

    folder.mkdir(parents=True, exist_ok=True)
    vision = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 6}
    shape = {"embed_dim": width, "vision_cfg": vision, "text_cfg": text}
    looks = {"size": [64, 64], "mode": "RGB", "mean": [0.5] * 3, "std": [0.25] * 3}
    looks |= {"interpolation": "bilinear", "resize_mode": "squash"}
    config = {"model_cfg": shape, "preprocess_cfg": looks}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.CLIP(**shape)
    state = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    loaded = load_encoder(f"open_clip/{folder}")
    return {
        "spec": f"open_clip/./{folder.name}",
        "fingerprint": loaded.fingerprint,
        "dim": width,
        "description": loaded.description,
    }


def _images(f, rng, n_images: int, n_pictures: int) -> None:
    """Thumbnails of 160 pixels, some kilobytes each, from so many different pictures."""
    pictures = []
    for _ in range(n_pictures):
        coarse = rng.integers(0, 255, (10, 10, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((160, 160), Image.Resampling.BICUBIC)
        noise = rng.normal(0, 7, (160, 160, 1))
        pixels = (np.asarray(image, np.float32) + noise).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "WEBP", quality=75)
        pictures.append(buffer.getvalue())
    chosen_n = rng.integers(0, n_pictures, n_images)
    with (f.path / "thumbs.bin").open("wb") as out:
        for at in chosen_n:
            out.write(pictures[at])
    sizes = np.array([len(picture) for picture in pictures], np.int64)[chosen_n]
    f.array("thumb_offset", np.concatenate([[0], np.cumsum(sizes)]))
    numbers = np.arange(n_images, dtype=np.int32)
    known = {
        "listed": numbers,
        "width": np.full(n_images, 500, np.int32),
        "height": np.int32(375),
        "sha256": "0" * 64,
    }
    f.table("images", pd.DataFrame({**known, "duplicate_of": numbers, "duplicate_group": numbers}))
    f.table("skipped", pd.DataFrame({"file": [], "reason": []}).astype("string"))
    f.facts["n_images"] = n_images


def _probe(f, rng, n_images: int) -> None:
    """File names, a thousand classes and a dozen flags."""
    kinds = rng.integers(0, N_CLASSES, n_images)
    names = np.array([f"class{i:04d}" for i in range(N_CLASSES)])
    files = [f"class{kind:04d}/image{i:06d}.jpg" for i, kind in enumerate(kinds)]
    rows = pd.DataFrame({"file": files, "class": pd.array(names[kinds], "string")})
    rows["sha256"] = pd.array([f"{i:064x}" for i in range(n_images)], "string")
    for flag in range(12):
        rows[f"property {flag}"] = (rng.random(n_images) < 0.1).astype(np.float32)
    f.table("probe", rows)
    f.table("skipped", pd.DataFrame({"file": [], "reason": []}).astype("string"))
    counts = np.bincount(kinds, minlength=N_CLASSES).astype(np.int32)
    f.table("classes", pd.DataFrame({"name": pd.array(names, "string"), "n_images": counts}))


def _activations(f, rng, n_units: int, n_images: int) -> None:
    """Random activations: the page of a neuron reads its row."""
    shape = (n_units, n_images)
    block_un = rng.random((min(n_units, 256), n_images), dtype=np.float32)
    out_un = np.lib.format.open_memmap(f.path / "activation.npy", "w+", np.float32, shape)
    for first in range(0, n_units, len(block_un)):
        out_un[first : first + len(block_un)] = block_un[: n_units - first]


def _neurons(f, rng, n_units: int, n_images: int) -> None:
    uk = (n_units, N_EXEMPLARS)
    flags = ["is_dead", "is_dense", "is_constant", "never_positive"]
    columns = {"mean": 0.1, "std": 1.0, "min": 0.0, "max": 9.0}
    columns = {name: np.full(n_units, value, np.float32) for name, value in columns.items()}
    columns["density"] = rng.random(n_units, dtype=np.float32)
    columns["n_exemplars"] = np.full(n_units, N_EXEMPLARS, np.int32)
    f.table("units", pd.DataFrame({**columns, **dict.fromkeys(flags, False)}))
    f.array("exemplar_image", rng.integers(0, n_images, uk, dtype=np.int32))
    f.array("exemplar_activation", -np.sort(-rng.random(uk, dtype=np.float32)))
    f.array("exemplar_count", np.full(n_units, N_EXEMPLARS, np.int32))
    histogram_ub = rng.multinomial(n_images, np.full(32, 1 / 32), size=n_units)
    f.array("histogram", histogram_ub.astype(np.int32))
    levels = [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0]
    f.array("quantile", np.sort(rng.random((n_units, len(levels)), dtype=np.float32)))
    for name in ("stratified", "random"):
        f.array(f"{name}_image", rng.integers(0, n_images, (n_units, 30), dtype=np.int32))
        f.array(f"{name}_activation", rng.random((n_units, 30), dtype=np.float32))
    f.array("stratum", np.repeat(np.arange(10, dtype=np.int32), 3))
    counts = {"unit": np.repeat(np.arange(n_units, dtype=np.int32), 10)}
    counts |= {"class": np.tile(np.arange(10, dtype=np.int32), n_units), "count": np.int32(10)}
    f.table("class_counts", pd.DataFrame(counts))
    f.facts.update(n_units=n_units, n_images=n_images, quantile_levels=levels)


def _audit(f, rng, n_units: int) -> None:
    numbers = ("clarity", "polysemanticity", "silhouette", "redundancy")
    rows = pd.DataFrame({name: rng.random(n_units, dtype=np.float32) for name in numbers})
    for name, value in (("cluster_0", 17), ("cluster_1", 13), ("nearest_unit", 1)):
        rows[name] = np.full(n_units, value, np.int32)
    f.table("units", rows)
    f.array("image_group", rng.integers(0, 2, (n_units, 30), dtype=np.int8))


def _contrast(f, rng, n_units: int, n_images: int) -> None:
    ukj = (n_units, N_EXEMPLARS, 2)
    f.array("contrast_image", rng.integers(0, n_images, ukj, dtype=np.int32))
    f.array("contrast_similarity", rng.random(ukj, dtype=np.float32))
    f.array("contrast_activation", np.zeros(ukj, np.float32))
    f.array("n_partner", np.full(ukj[:2], 2, np.int32))
    f.array("pool", np.full(n_units, n_images // 2, np.int32))
    f.array("threshold", np.full(n_units, 0.1, np.float32))


def _scores(f, rng, vector_ud: np.ndarray, size: Size) -> None:
    n_units, width = vector_ud.shape
    best = (n_units, N_BEST)
    f.array("label_uk", rng.integers(0, size.n_labels, best, dtype=np.int32))
    f.array("score_uk", -np.sort(-rng.random(best, dtype=np.float32)))
    for name in ("raw_uk", "margin_uk", "percentile_uk"):
        f.array(name, rng.random(best, dtype=np.float32))
    f.array("count_u", np.full(n_units, N_BEST, np.int32))
    f.array("best_percentile_u", np.full(n_units, 0.99, np.float32))
    f.array("reliable_u", rng.random(n_units) < 0.5)
    f.array("vector_ud", vector_ud)
    f.array("anchor", unit_rows(rng, n_units, width))
    f.array("projection", unit_rows(rng, n_units, width) * np.float32(0.6))
    f.array("n_exemplar_u", np.full(n_units, 30, np.int32))
    f.array("similarity_u", np.full(n_units, 0.5, np.float32))
    f.array("pool_u", np.full(n_units, size.n_images // 2, np.int32))
    f.array("reuse_u", np.zeros(n_units, np.float32))
    f.array("null_anchor", unit_rows(rng, N_NULL, width))
    f.array("null_projection", unit_rows(rng, N_NULL, width) * np.float32(0.6))
    f.array("null_size", np.full(N_NULL, 30, np.int32))
    f.facts.update(n_units=n_units, n_reliable=n_units // 2, n_without_evidence=0)


if __name__ == "__main__":
    for each in SIZES:
        print(bundle(each))
