"""Stages from texts to labels: the vocabulary's vectors, scores, audit columns, search index."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.audits.measuring import measure_units
from csp_engine.audits.registered import AUDITS
from csp_engine.audits.statistic import Statistic
from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import InputError, StaleError
from csp_engine.hashing import sha256_json
from csp_engine.methods import METHODS, label_layer
from csp_engine.pipeline.recipe import Recipe
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stages.candidates import (
    candidate_stages,
    described_encoder,
    has_captioner,
    pooled_candidates,
)
from csp_engine.pipeline.stages.given import (
    layer_evidence,
    null_evidence,
    require_given,
    stages_for,
    what_lacks,
)
from csp_engine.search import build_index, projection
from csp_engine.types import Encoder, LabelScores
from csp_engine.words.templates import embed_labels, empty_vector
from csp_engine.words.vocabularies import Vocabulary, label_table, with_candidates

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """Labels before candidates join them, and the hash they are known by."""

    vocabulary: Vocabulary
    sha256: str


def words_of(run: Run, vocabulary: Vocabulary | None) -> Words:
    """The labels of this build: those given, else those of the bundle.

    Raises:
        InputError: if there are neither.
    """
    if vocabulary is not None:
        return Words(vocabulary, vocabulary.sha256)
    stages = run.writer.manifest.stages
    for stage, table in (("words", "words"), ("vocabulary", "labels")):
        if stage in stages:
            name = run.writer.manifest.inputs["vocabulary"]["name"]
            held = run.bundle.table(stage, table)
            stored = label_table(held["text"].tolist(), held["source"].tolist())
            return Words(Vocabulary(name, stored), stages[stage].inputs["vocabulary"])
    raise InputError("This bundle has no vocabulary yet; name one with --vocabulary.")


def require_texts(run: Run, words: Words, encoder: Encoder | None) -> None:
    """Register the vocabulary, and refuse at once what ``embed_vocabulary`` could not do later.

    Raises:
        InputError: if texts must be embedded and no encoder is given.
        StaleError: if the encoder is not the one the bundle was built with.
    """
    _vocabulary_identity(run, words)
    if run.is_fresh("vocabulary"):
        return
    described = described_encoder(run)
    if encoder is None:
        raise InputError(
            "New texts must be embedded, which needs the encoder "
            f"{described['spec']}; name it with --encoder."
        )
    if encoder.fingerprint != described["fingerprint"]:
        raise StaleError(
            f"The encoder {encoder.spec} is not the one this bundle was built with "
            f"({described['spec']}, fingerprint {described['fingerprint'][:12]}); "
            "vectors of two encoders cannot be mixed."
        )


def _vocabulary_identity(run: Run, words: Words) -> dict[str, Any]:
    needs = candidate_stages(run)
    if needs:
        _words_identity(run, words)
        needs = ["words", *needs]
    return run.key(
        "vocabulary",
        text_params(run.recipe),
        needs,
        {"vocabulary": words.sha256, "encoder": described_encoder(run)["fingerprint"]},
    )


def _words_identity(run: Run, words: Words) -> dict[str, Any]:
    return run.key("words", {}, inputs={"vocabulary": words.sha256})


def keep_words(run: Run, words: Words) -> None:
    """Store the labels that candidates will join.

    They outlive the vocabulary, which leaves the bundle as soon as one layer has new candidates.
    """
    if not has_captioner(run):
        return
    identity = _words_identity(run, words)
    if run.is_fresh("words"):
        return
    held = run.writer.manifest.inputs.get("vocabulary", {})
    described = {"vocabulary": {**held, "name": words.vocabulary.name}}
    with run.writing("words", identity, described) as folder:
        folder.table("words", words.vocabulary.table)


def embed_vocabulary(run: Run, words: Words, encoder: Encoder | None) -> None:
    """Embed labels and candidates, unless the bundle holds their vectors already."""
    recipe, vocabulary = run.recipe, words.vocabulary
    identity = _vocabulary_identity(run, words)
    if run.is_fresh("vocabulary"):
        held = run.writer.manifest.inputs["vocabulary"]
        run.described["vocabulary"] = {**held, "name": vocabulary.name}
        return
    assert encoder is not None, "require_texts came first"
    whole, n_new = with_candidates(vocabulary, pooled_candidates(run))
    run.described["vocabulary"] = {
        "name": vocabulary.name,
        "n_labels": len(whole),
        "sha256": words.sha256,
        **({"n_candidates": n_new} if has_captioner(run) else {}),
        **text_params(recipe),
    }
    vectors = embed_labels(
        encoder.embed_texts,
        list(whole.table["text"]),
        recipe.text_recipe(),
        progress=lambda _, done, total: run.progress("labels", done, total),
    )
    with run.writing("vocabulary", identity, {"vocabulary": run.described["vocabulary"]}) as folder:
        folder.table("labels", whole.table)
        folder.array("text", vectors)
        empty_d = empty_vector(encoder.embed_texts, recipe.text_recipe())
        if empty_d is not None:
            folder.array("empty", empty_d)
        folder.facts["n_labels"] = len(whole)


def text_params(recipe: Recipe) -> dict[str, Any]:
    """The parameters that a vocabulary's vectors depend on."""
    return {
        "templates": list(recipe.templates),
        "renormalise": recipe.renormalise,
        "subtract_empty": recipe.subtract_empty,
    }


def is_vocabulary_held(bundle: Bundle, recipe: Recipe, vocabulary: Vocabulary | None) -> bool:
    """Whether the bundle already has the vectors of these labels, made by this recipe."""
    if not bundle.has("vocabulary"):
        return False
    held = bundle.stage("vocabulary")
    same_words = vocabulary is None or vocabulary.sha256 == held.inputs["vocabulary"]
    is_current = held.version == kinds.VOCABULARY.version
    return (
        same_words and is_current and sha256_json(held.params) == sha256_json(text_params(recipe))
    )


def require_methods(run: Run) -> None:
    """Refuse at once methods that need what this bundle cannot give.

    Scores that are already there need nothing any more.
    """
    for name in run.recipe.methods:
        needs = METHODS[name].needs
        for model, layer in run.layers:
            stage, _ = _scores_identity(run, model, layer, name)
            if not run.is_fresh(stage):
                others = ",".join(m for m in run.recipe.methods if m != name) or "METHOD"
                instead = f"leave the method out (--set methods={others})"
                require_given(run, f"Method {name!r}", needs, model, layer, instead)


def _scores_identity(run: Run, model: str, layer: str, method: str) -> tuple[str, dict[str, Any]]:
    """Name and identity of the scores of a method, which are registered by this."""
    stage = kinds.SCORES.name(model, layer, method)
    params = {
        "method": method,
        "method_version": METHODS[method].version,
        "n_labels": run.recipe.n_labels,
        **run.recipe.method_params(method),
    }
    needs = [kinds.NEURONS.name(model, layer), kinds.CONTRAST.name(model, layer)]
    needs += ["embeddings", "vocabulary", "null"]
    more = [s for s in stages_for(METHODS[method].needs, model, layer) if s in run.keys]
    return stage, run.key(stage, params, [*needs, *more])


def score_layer(run: Run, model: str, layer: str, method: str) -> None:
    """Score every label on every unit of a layer by one method."""
    stage, identity = _scores_identity(run, model, layer, method)
    if run.is_fresh(stage):
        return
    needs = METHODS[method].needs
    done = label_layer(
        METHODS[method],
        layer_evidence(run, model, layer, f"Method {method!r}", needs),
        null_evidence(run, f"Method {method!r}", needs),
        np.asarray(run.bundle.label_vectors()),
        run.recipe.method_params(method),
        n_labels=run.recipe.n_labels,
        progress=lambda _, done, total: run.progress(f"{method} of {layer}", done, total),
    )
    scores = done.scores
    with run.writing(stage, identity) as folder:
        for name in LabelScores.__dataclass_fields__:
            folder.array(name, getattr(scores, name))
        for name, values in done.arrays.items():
            folder.array(name, values)
        if done.texts is not None:
            own = pd.DataFrame({"text": list(done.texts), "source": method})
            folder.table("labels", own.astype("string"))
        folder.facts.update(
            n_units=len(scores.count_u),
            n_reliable=int(scores.reliable_u.sum()),
            n_without_evidence=int((scores.count_u == 0).sum()),
        )


def audit_layer(run: Run, model: str, layer: str) -> None:
    """The statistics that share the stage ``audit``, then each other one in a stage of its own."""
    together = [statistic for statistic in AUDITS.values() if statistic.is_together]
    _measure(run, model, layer, kinds.AUDIT.name(model, layer), together, {})
    for statistic in AUDITS.values():
        if statistic.is_together:
            continue
        lacking = what_lacks(run, statistic.needs, model, layer)
        if lacking:
            log.warning("%s of %s/%s is left out: %s", statistic.title, model, layer, lacking)
            continue
        stage = kinds.STATISTIC.name(model, layer, statistic.name)
        own = {"statistic": statistic.name, "statistic_version": statistic.version}
        _measure(run, model, layer, stage, [statistic], own)


def _measure(
    run: Run,
    model: str,
    layer: str,
    stage: str,
    statistics: list[Statistic],
    params: dict[str, Any],
) -> None:
    needs = tuple(dict.fromkeys(need for each in statistics for need in each.needs))
    params = {"n_score": run.recipe.n_score, **params}
    made_from = [kinds.NEURONS.name(model, layer), "embeddings", *stages_for(needs, model, layer)]
    identity = run.key(stage, params, made_from)
    if run.is_fresh(stage):
        return
    columns, arrays = measure_units(
        statistics,
        layer_evidence(run, model, layer, f"Statistic {statistics[0].name!r}", needs),
        run.recipe.n_score,
        progress=lambda _, done, total: run.progress(f"audit of {layer}", done, total),
    )
    with run.writing(stage, identity) as folder:
        folder.table("units", pd.DataFrame(columns))
        for name, values in arrays.items():
            folder.array(name, values)


def index_method(run: Run, method: str) -> None:
    """The search index over the concept vectors of one method, all layers."""
    stage = kinds.INDEX.name(method)
    names = [kinds.SCORES.name(model, layer, method) for model, layer in run.layers]
    identity = run.key(stage, {"kind": "auto"}, names)
    if run.is_fresh(stage):
        return
    rows, vector_ud = concept_rows(run, method)
    built = build_index(vector_ud)
    with run.writing(stage, identity) as folder:
        built.write(folder.path / "index.faiss")
        folder.table("rows", rows)
        folder.facts.update(built.facts())


def map_method(run: Run, method: str) -> None:
    """The flat map of the concept vectors of one method, all layers."""
    stage = kinds.PROJECTION.name(method)
    names = [kinds.SCORES.name(model, layer, method) for model, layer in run.layers]
    settings = {"n_neighbors": 15, "min_dist": 0.1, "seed": run.recipe.seed}
    params = {"metric": "cosine", "fewest_for_umap": projection.FEWEST_FOR_UMAP, **settings}
    identity = run.key(stage, params, names)
    if run.is_fresh(stage):
        return
    rows, vector_ud = concept_rows(run, method)
    run.progress("map", 0, len(rows))
    laid = projection.lay_out(vector_ud, **settings)
    run.progress("map", len(rows), len(rows))
    with run.writing(stage, identity) as folder:
        folder.array("xy", laid.xy_u2)
        folder.table("rows", rows)
        folder.facts.update(kind=laid.kind, n_distinct=laid.n_distinct)
        if np.isfinite(laid.neighbour_recall):
            folder.facts["neighbour_recall"] = laid.neighbour_recall


def concept_rows(run: Run, method: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Model, layer and unit of every neuron of the build, and their concept vectors ``(u, d)``."""
    rows, vectors = [], []
    for model, layer in run.layers:
        vector_ud = run.bundle.scores(model, layer, method).vector_ud
        rows.append(
            pd.DataFrame(
                {
                    "model": pd.array([model] * len(vector_ud), "string"),
                    "layer": pd.array([layer] * len(vector_ud), "string"),
                    "unit": np.arange(len(vector_ud), dtype=np.int32),
                }
            )
        )
        vectors.append(np.asarray(vector_ud))
    return pd.concat(rows, ignore_index=True), np.concatenate(vectors)
