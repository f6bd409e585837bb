"""Make a bundle from what a NeuroLens run left behind, without running any network again."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from csp_engine.bundle import Bundle, BundleWriter, StageFolder, kinds
from csp_engine.errors import InputError, StaleError
from csp_engine.exchange.neurolens import NeuroLensOutput
from csp_engine.files import given_bytes
from csp_engine.hashing import sha256_json
from csp_engine.pipeline.deriving import derive
from csp_engine.pipeline.recipe import PRESETS, Recipe, changed
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stages.vocabulary import text_params
from csp_engine.probe.decoding import decode
from csp_engine.probe.images import (
    THUMBNAIL_SIDE,
    near_duplicate_groups,
    perceptual_hash,
    thumbnail,
)
from csp_engine.probe.listing import ProbeSet
from csp_engine.types import Encoder, LayerId, Progress, silent
from csp_engine.vectors import normalise_rows
from csp_engine.words.vocabularies import Vocabulary, clean_label

SAME_IMAGE = 0.98
"""Least cosine between a stored image vector and the same image's vector now, for one encoder."""

NEAR_DUPLICATE_BITS = 4


def import_neurolens(
    found: NeuroLensOutput,
    out: Path,
    *,
    layer: str,
    texts_path: Path | None = None,
    text_set: str | None = None,
    probe: ProbeSet | None = None,
    encoder: Encoder | None = None,
    vocabulary: Vocabulary | None = None,
    recipe: Recipe | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Make a bundle from a NeuroLens run without running the target model or the image encoder.

    Activations and image vectors are taken over. Exemplars and contrast images of *all* units are
    then derived from them by the paper's rules, which NeuroLens follows for the units it lists; how
    many of its exemplars and pairs come out the same is kept under ``neurolens`` in the manifest's
    inputs.

    Labels come either from NeuroLens' text vectors and the file of its texts, or from a vocabulary
    and the real encoder. NeuroLens does not identify its encoder, so a given one must reproduce
    stored vectors of some images.

    Args:
        found: from ``read_neurolens``.
        out: the bundle to make.
        layer: what NeuroLens recorded, such as ``layer4@mean``; its files do not say.
        texts_path: one text a line, in the order of NeuroLens' text vectors.
        text_set: which of its text sets that is, if there are several.
        probe: the images, in NeuroLens' order, for thumbnails and metadata; without them the
            bundle shows grey squares.
        encoder: the image-text model behind NeuroLens' vectors; needs ``probe``.
        vocabulary: labels to try, instead of ``texts_path``; needs ``encoder``.
        recipe: by default the paper's, with as many exemplars as NeuroLens kept.
        progress: called with stage, done and total.

    Raises:
        InputError: if the parts do not fit each other.
        StaleError: if the encoder does not reproduce the stored image vectors.
    """
    layer = str(LayerId.parse(layer))
    if (texts_path is None) == (vocabulary is None):
        raise InputError(
            "Labels are needed: give NeuroLens' file of texts (--texts), or a vocabulary together "
            "with the encoder (--vocabulary, --encoder)."
        )
    if vocabulary is not None and encoder is None:
        raise InputError("A vocabulary must be embedded; name NeuroLens' encoder with --encoder.")
    if probe is not None and len(probe.table) != found.n_images:
        raise InputError(
            f"{probe.name} has {len(probe.table)} images and NeuroLens' {found.image_set} has "
            f"{found.n_images}; give the very images it used, in the same order."
        )
    if encoder is not None:
        _require_reproduced(found, probe, encoder)
    templates: Sequence[str] = ()
    if texts_path is not None:
        text_set = _one_text_set(found, text_set)
        templates = tuple(sorted(found.text_paths[text_set]))
    if recipe is None:
        n_kept = found.exemplars.image_uk.shape[1]
        recipe = changed(PRESETS["paper"], {"n_exemplars": n_kept, "n_score": min(30, n_kept)})
    if templates:
        recipe = changed(recipe, {"templates": templates})
    if out.exists():
        raise InputError(f"{out} already exists; choose another output folder.")
    # Made beside its place and moved there when whole: an import is not resumed.
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with BundleWriter(partial) as writer:
        run = Run(writer, recipe, progress)
        _describe(run, found, layer, probe, encoder)
        _write_images(run, found, probe)
        _write_vectors(run, found, layer)
        if texts_path is not None and text_set is not None:
            _write_texts(run, found, texts_path, text_set)
        derive(run, vocabulary, encoder, 0.99)
        run.described["neurolens"] = _agreement(found, run.bundle, layer)
        run.finish()
    partial.rename(out)
    return Bundle.open(out)


def _one_text_set(found: NeuroLensOutput, text_set: str | None) -> str:
    known = list(found.text_paths)
    if text_set is None and len(known) == 1:
        return known[0]
    if text_set not in known:
        raise InputError(
            f"NeuroLens left vectors of the text sets {', '.join(known) or 'none'}; "
            + ("name one with --text-set." if known else "give a vocabulary and the encoder.")
        )
    return text_set


def _require_reproduced(found: NeuroLensOutput, probe: ProbeSet | None, encoder: Encoder) -> None:
    if probe is None:
        raise InputError(
            "Whether an encoder is the one NeuroLens used can only be told from images; "
            "give them with --images."
        )
    rows = np.unique(np.linspace(0, found.n_images - 1, 8).astype(int))
    pixels = np.stack([encoder.preprocess(decode(probe.read(int(row)))) for row in rows])
    stored_nd = normalise_rows(found.image_nd[rows])
    if encoder.dim != stored_nd.shape[1]:
        raise StaleError(
            f"The encoder {encoder.spec} gives {encoder.dim} numbers per image and NeuroLens "
            f"stored {stored_nd.shape[1]}; it is another model."
        )
    cosine_n = np.einsum("nd,nd->n", stored_nd, encoder.embed_images(pixels))
    if cosine_n.min() < SAME_IMAGE:
        worst = int(cosine_n.argmin())
        raise StaleError(
            f"The encoder {encoder.spec} does not reproduce NeuroLens' vector of image "
            f"{probe.table['file'].iloc[rows[worst]]} (cosine {cosine_n[worst]:.3f}); it is "
            "another model, or the images are in another order."
        )


def _describe(
    run: Run, found: NeuroLensOutput, layer: str, probe: ProbeSet | None, encoder: Encoder | None
) -> None:
    vectors_sha256 = hashlib.sha256(found.image_nd.tobytes()).hexdigest()
    origin = {"tool": "NeuroLens", "image_set": found.image_set}
    run.described["encoder"] = {
        "spec": f"neurolens/{found.encoder}" if encoder is None else encoder.spec,
        "fingerprint": vectors_sha256 if encoder is None else encoder.fingerprint,
        "dim": found.image_nd.shape[1],
        "description": origin if encoder is None else encoder.description,
    }
    activations = hashlib.sha256()
    for block in found.activation_blocks():
        activations.update(np.ascontiguousarray(block).tobytes())
    run.described["models"] = {
        found.target: {
            "spec": f"neurolens/{found.target}",
            "fingerprint": sha256_json([found.target, activations.hexdigest()]),
            "preprocessing": {},
            "class_names": None,
            "n_prefix_tokens": 0,
            "layers": [layer],
            "order": 0,
        }
    }
    table = _probe_rows(found) if probe is None else probe.table
    run.described["probe"] = {
        "name": found.image_set if probe is None else probe.name,
        "n_listed": found.n_images,
        "n_images": found.n_images,
        "n_skipped": 0,
        "content_sha256": sha256_json(list(table["sha256"])),
        "metadata_sha256": sha256_json(list(table["file"]))
        if probe is None
        else probe.metadata_sha256,
        "concepts": [] if probe is None else list(probe.concepts),
        "masks": [] if probe is None else list(probe.masks),
    }


def _probe_rows(found: NeuroLensOutput) -> pd.DataFrame:
    """A table for images that are not there: each is known by its vector alone."""
    vectors = [hashlib.sha256(row.tobytes()).hexdigest() for row in found.image_nd]
    files = [f"{found.image_set}/{i:06d}" for i in range(found.n_images)]
    return pd.DataFrame({"file": files, "sha256": vectors}).astype("string")


def _write_images(run: Run, found: NeuroLensOutput, probe: ProbeSet | None) -> None:

    table = _probe_rows(found) if probe is None else probe.table
    sha256 = table["sha256"].to_numpy()
    side, distance = THUMBNAIL_SIDE, NEAR_DUPLICATE_BITS
    params = {"imported": "neurolens", "thumbnail_side": side, "near_duplicate_distance": distance}
    described = run.described["probe"]
    identity = run.key("images", params, inputs={"probe": described["content_sha256"]})
    grey = thumbnail(Image.new("RGB", (side, side), (128, 128, 128)), side)
    sizes = np.full((found.n_images, 2), side, np.int32)
    hashes = np.zeros(found.n_images, np.uint64)
    ends = np.zeros(found.n_images + 1, np.int64)
    with run.writing("images", identity) as folder:
        with (folder.path / "thumbs.bin").open("wb") as thumbs:
            for row in range(found.n_images):
                content = grey
                if probe is not None:
                    try:
                        image = decode(probe.read(row))
                    except (InputError, OSError) as error:
                        raise InputError(
                            f"{table['file'].iloc[row]} cannot be read: {error}; NeuroLens read "
                            "it, so give the very images it used."
                        ) from error
                    content = thumbnail(image, side)
                    sizes[row] = image.size
                    hashes[row] = perceptual_hash(image)
                thumbs.write(content)
                ends[row + 1] = ends[row] + len(content)
                run.progress("images", row + 1, found.n_images)
        first_of = pd.Series(np.arange(found.n_images)).groupby(sha256).transform("min")
        duplicate_of = first_of.to_numpy(np.int32)
        groups = duplicate_of  # without pixels, equal vectors are all that can be told
        if probe is not None:
            groups = near_duplicate_groups(hashes, list(sha256), distance)
        listed = np.arange(found.n_images, dtype=np.int32)
        rows = {
            "sha256": sha256,
            "listed": listed,
            "width": sizes[:, 0],
            "height": sizes[:, 1],
            "perceptual_hash": hashes,
            "duplicate_of": duplicate_of,
            "duplicate_group": groups,
        }
        folder.table("images", pd.DataFrame(rows))
        empty = {"listed": np.zeros(0, np.int32), "reason": pd.array([], "string")}
        folder.table("skipped", pd.DataFrame(empty))
        folder.array("thumb_offset", ends)
        folder.facts.update(
            n_images=found.n_images,
            n_skipped=0,
            n_exact_duplicates=int((duplicate_of != listed).sum()),
            n_near_duplicates=int((groups != listed).sum()),
        )
    identity = run.key("probe", {}, ["images"], {"table": described["metadata_sha256"]})
    with run.writing("probe", identity, {"probe": described}) as folder:
        folder.table("probe", table.reset_index(drop=True))
        skipped = {"file": pd.array([], "string"), "reason": pd.array([], "string")}
        folder.table("skipped", pd.DataFrame(skipped))
        folder.table("classes", _class_rows(table))


def _class_rows(table: pd.DataFrame) -> pd.DataFrame:
    classes = table["class"] if "class" in table else pd.Series(dtype=object)
    counts = classes.value_counts().sort_index()
    names = pd.array([str(name) for name in counts.index], "string")
    return pd.DataFrame({"name": names, "n_images": counts.to_numpy(np.int32)})


def _write_vectors(run: Run, found: NeuroLensOutput, layer: str) -> None:
    encoder = run.described["encoder"]
    inputs = {"encoder": encoder["fingerprint"]}
    identity = run.key("embeddings", {"imported": "neurolens"}, ["images"], inputs)
    with run.writing("embeddings", identity, {"encoder": encoder}) as folder:
        folder.array("image", normalise_rows(found.image_nd))
    stage = kinds.ACTIVATIONS.name(found.target, layer)
    models = run.described["models"]
    inputs = {"model": models[found.target]["fingerprint"]}
    identity = run.key(stage, {"imported": "neurolens"}, ["images"], inputs)
    with run.writing(stage, identity, {"models": models}) as folder:
        _write_activations(folder, found, run)
        folder.facts["n_units"] = found.n_units
    run.layers.append((found.target, layer))


def _write_activations(folder: StageFolder, found: NeuroLensOutput, run: Run) -> None:
    with tempfile.TemporaryDirectory(dir=run.writer.path, prefix=".tmp-") as scratch:
        rows_path = Path(scratch) / "rows"
        n_done = 0
        with rows_path.open("wb") as rows:
            for block in found.activation_blocks():
                rows.write(np.ascontiguousarray(block).tobytes())
                n_done += len(block)
                run.progress("activations", n_done, found.n_images)
        folder.transposed_array("activation", (found.n_units, found.n_images), rows_path)


def _write_texts(run: Run, found: NeuroLensOutput, texts_path: Path, text_set: str) -> None:
    """The vocabulary stage, as ``derive`` would write it, from NeuroLens' own text vectors."""
    try:
        lines = given_bytes(texts_path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{texts_path} cannot be read as UTF-8 text ({error}).") from error
    vector_td = found.text_vectors(text_set)
    if len(lines) != len(vector_td):
        raise InputError(
            f"{texts_path.name} has {len(lines)} lines and NeuroLens stored {len(vector_td)} "
            f"vectors of {text_set}; give the very texts it used, one a line."
        )
    labels = pd.DataFrame({"text": [clean_label(line) for line in lines], "source": text_set})
    kept = (labels["text"] != "") & ~labels["text"].duplicated()
    labels = labels[kept].reset_index(drop=True).astype("string")
    vector_td = vector_td[kept.to_numpy()]
    if run.recipe.renormalise:
        vector_td = normalise_rows(vector_td)
    params = text_params(run.recipe)
    sha256 = Vocabulary(text_set, labels).sha256
    described = {"name": text_set, "n_labels": len(labels), "sha256": sha256, **params}
    encoder = run.described["encoder"]["fingerprint"]
    inputs = {"vocabulary": sha256, "encoder": encoder}
    identity = run.key("vocabulary", params, inputs=inputs)
    with run.writing("vocabulary", identity, {"vocabulary": described}) as folder:
        folder.table("labels", labels)
        folder.array("text", vector_td)
        folder.facts["n_labels"] = len(labels)


def _agreement(found: NeuroLensOutput, bundle: Bundle, layer: str) -> dict[str, Any]:
    """How much of what NeuroLens listed was derived again from its own activations."""
    exemplars = bundle.exemplars(found.target, layer).block(found.unit_m)
    contrast = bundle.contrast(found.target, layer).block(found.unit_m)
    width = min(exemplars.image_uk.shape[1], found.exemplars.image_uk.shape[1])
    n_uk = np.minimum(exemplars.count_u, found.exemplars.count_u)[:, None]
    shown = np.arange(width) < n_uk
    same_image = exemplars.image_uk[:, :width] == found.exemplars.image_uk[:, :width]
    same_partner = contrast.image_ukj[:, :width, 0] == found.contrast.image_ukj[:, :width, 0]
    same_pair = same_image & same_partner & (contrast.n_partner_uk[:, :width] > 0)
    return {
        "encoder": found.encoder,
        "n_units_listed": len(found.unit_m),
        "n_exemplars_listed": int(found.exemplars.count_u.sum()),
        "n_exemplars_equal": int((same_image & shown).sum()),
        "n_pairs_equal": int((same_pair & shown).sum()),
    }
