"""Put into a finished bundle how well its labels predict its neurons, and which figure to trust."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, BundleWriter, stage_key
from csp_engine.bundle.kinds import (
    EMBEDDINGS,
    FAITHFULNESS,
    NULL,
    PROBE,
    SCORES,
    TRUST,
    VOCABULARY,
)
from csp_engine.errors import InputError
from csp_engine.evaluation.faithfulness.simulation import Simulated, predictions, simulate
from csp_engine.hashing import sha256_array, sha256_json
from csp_engine.methods.depths.joined import parts_of
from csp_engine.pipeline.added.judging import Judged, require_independent
from csp_engine.pipeline.recipe import Recipe
from csp_engine.types import Progress, TextRecipe, silent
from csp_engine.words.templates import embed_labels

DIGITS = 4
"""Decimals that are kept; a correlation is not known better."""

TRUST_COLUMNS = (
    "metric", "auroc", "low", "high", "n_right", "n_wrong",
    "missing_falls", "missing_by", "extra_falls", "extra_by", "is_passed",
)  # fmt: skip


def add_faithfulness(path: Path, judged: Judged, progress: Progress = silent) -> Bundle:
    """Measure the best label of every neuron by every method, and keep the figures beside them.

    A stage that is there already with the same content is kept. It leaves the bundle when the
    labels are made anew.

    Args:
        path: a finished bundle, changed in place.
        judged: images as the judge and the networks see them.
        progress: called with the units done.

    Raises:
        InputError: if the judge chose the labels itself, or activations do not fit the bundle.
        BundleError: if another process is writing the bundle.
    """
    bundle = Bundle.open(path)
    require_independent(bundle, judged.judge)
    asked = _asked(bundle, judged)
    rows, predicted_tn = _predicted(bundle, judged, asked)
    shared = {
        "judge": judged.judge.fingerprint,
        "images": sha256_array(np.ascontiguousarray(judged.image_nd)),
    }
    if judged.group_n is not None:
        shared["groups"] = sha256_array(judged.group_n)
    with BundleWriter(path) as writer:
        hashes = {
            key: sha256_array(np.ascontiguousarray(act_un, np.float32))
            for key, act_un in judged.activations.items()
        }
        for (model, layer, method), (text_u, has_u) in asked.items():
            needed = SCORES.name(model, layer, method)
            stage = FAITHFULNESS.name(model, layer, method)
            identity: dict[str, Any] = {
                "version": FAITHFULNESS.version,
                "params": {"images": judged.images, "is_held_out": judged.is_held_out},
                "needs": {needed: writer.manifest.stages[needed].key},
                "inputs": {**shared, "activations": hashes[model, layer]},
            }
            if writer.is_fresh(stage, stage_key(stage, **identity)):
                continue
            found = simulate(
                judged.activations[model, layer],
                predicted_tn,
                np.array([rows.get(text, 0) for text in text_u]),
                has_u,
                group_n=judged.group_n,
                progress=lambda _, done, total, of=f"{method} of {layer}": progress(
                    f"faithfulness: {of}", done, total
                ),
            )
            with writer.stage(stage, **identity) as folder:
                folder.table("units", _table(found))
                folder.facts.update(
                    n_units=len(has_u),
                    n_labelled=int(has_u.sum()),
                    n_images=len(judged.image_nd),
                    n_groups=len(judged.image_nd)
                    if judged.group_n is None
                    else len(np.unique(judged.group_n)),
                    n_draws=found.n_draws,
                    judge=judged.judge.spec,
                    is_held_out=judged.is_held_out,
                )
    return Bundle.open(path)


def add_trust(path: Path, found: Mapping[str, Any]) -> Bundle:
    """Keep in a bundle which figures tell right labels from wrong ones.

    Args:
        path: a finished bundle, changed in place.
        found: ``views.benchmark.trusting.trusted_metrics`` of it.

    Raises:
        BundleError: if another process is writing the bundle.
    """
    rows = [
        {
            **row,
            **{
                f"{check}_{key}": row[check][part] if key == "by" else row[check][part]["share"]
                for check in ("missing", "extra")
                for key, part in (("falls", "falls"), ("by", "by"))
            },
        }
        for row in found["rows"]
    ]
    table = pd.DataFrame(rows)[list(TRUST_COLUMNS)].astype({"metric": "string"})
    with BundleWriter(path) as writer:
        needs = (EMBEDDINGS, PROBE, VOCABULARY, NULL)
        stage = TRUST.name()
        identity: dict[str, Any] = {
            "version": TRUST.version,
            "params": {},
            "needs": {kind.name(): writer.manifest.stages[kind.name()].key for kind in needs},
            "inputs": {"figures": sha256_json(rows)},
        }
        if not writer.is_fresh(stage, stage_key(stage, **identity)):
            with writer.stage(stage, **identity) as folder:
                folder.table("metrics", table)
                folder.facts.update(
                    n_units=found["n_units"], n_images=found["n_images"], judge=found["judge"]
                )
    return Bundle.open(path)


Asked = dict[tuple[str, str, str], tuple[Sequence[str], np.ndarray]]
"""Model, layer and method → the best label of every unit, and which units have one."""


def _asked(bundle: Bundle, judged: Judged) -> Asked:
    found: Asked = {}
    for (model, layer), act_un in judged.activations.items():
        n_units = bundle.n_units(model, layer)
        if act_un.shape != (n_units, len(judged.image_nd)):
            raise InputError(
                f"Activations of {model}/{layer} have shape {act_un.shape}; the bundle has "
                f"{n_units} units there and {len(judged.image_nd)} images are judged, so "
                f"({n_units}, {len(judged.image_nd)}) is needed."
            )
        for method in bundle.methods(model, layer):
            scores = bundle.scores(model, layer, method)
            has_u = np.asarray(scores.count_u) > 0
            texts = bundle.method_labels(model, layer, method)["text"].tolist()
            first_u = np.asarray(scores.label_uk)[:, 0] if len(texts) else np.zeros(n_units, int)
            text_u = [texts[row] if has else "" for row, has in zip(first_u, has_u, strict=True)]
            found[model, layer, method] = text_u, has_u
    return found


def _predicted(bundle: Bundle, judged: Judged, asked: Asked) -> tuple[dict[str, int], np.ndarray]:
    """What every best label predicts for the images, and the row of each text."""
    said = dict.fromkeys(text for text_u, _ in asked.values() for text in text_u if text)
    recipe = Recipe.from_json(bundle.manifest.recipe)
    embed = judged.judge.embed_texts
    return predicted_by(embed, judged.image_nd, list(said), bundle, recipe.text_recipe())


def predicted_by(
    embed_texts: Callable[[Sequence[str]], np.ndarray],
    image_nd: np.ndarray,
    texts: Sequence[str],
    bundle: Bundle,
    recipe: TextRecipe,
) -> tuple[dict[str, int], np.ndarray]:
    """What texts predict for images by an encoder; joined labels of a bundle by their parts."""
    known = bundle.labels()["text"].tolist()
    held = {known[t]: [known[part] for part in parts] for t, parts in parts_of(known).items()}
    needed = dict.fromkeys([*texts, *(part for text in texts for part in held.get(text, ()))])
    row = {text: at for at, text in enumerate(needed)}
    if not row:
        return {}, np.zeros((1, len(image_nd)), np.float32)
    text_td = embed_labels(embed_texts, list(row), TextRecipe(recipe.templates))
    parts = {row[text]: [row[part] for part in held[text]] for text in texts if text in held}
    return row, predictions(text_td, image_nd, parts)


def _table(found: Simulated) -> pd.DataFrame:
    columns: dict[str, np.ndarray] = {}
    for name in ("pearson", "auprc"):
        figure_u3 = getattr(found, f"{name}_u3")
        for place, suffix in enumerate(("", "_low", "_high")):
            columns[name + suffix] = np.round(figure_u3[:, place], DIGITS).astype(np.float32)
    return pd.DataFrame({**columns, "n_said": found.n_said_u})
