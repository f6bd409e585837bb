"""All labels and their vectors, and the labels before candidates join them."""

from __future__ import annotations

from typing import Any

from csp_engine.bundle import Bundle, kinds
from csp_engine.errors import InputError, StaleError
from csp_engine.hashing import sha256_json
from csp_engine.pipeline.recipe import Recipe
from csp_engine.pipeline.run import Run, Words
from csp_engine.pipeline.stage import Made, Of, Stage
from csp_engine.pipeline.stages.candidates import (
    candidate_stages,
    described_encoder,
    has_captioner,
    pooled_candidates,
    unanswered,
)
from csp_engine.words.templates import embed_labels, empty_vector
from csp_engine.words.vocabularies import Vocabulary, label_table, parents_in, with_candidates


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
            stored = label_table(held["text"].tolist(), held["source"].tolist(), parents_in(held))
            return Words(Vocabulary(name, stored), stages[stage].inputs["vocabulary"])
    raise InputError("This bundle has no vocabulary yet; name one with --vocabulary.")


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


def _words_places(run: Run) -> list[Of]:
    """The words are kept apart where candidates join them.

    They outlive the vocabulary, which leaves the bundle as soon as one layer has new candidates.
    """
    return [()] if has_captioner(run) else []


def _make_words(run: Run) -> Made:
    held, vocabulary = run.writer.manifest.inputs.get("vocabulary", {}), run.words.vocabulary
    return Made(
        tables={"words": vocabulary.table},
        describe={"vocabulary": {**held, "name": vocabulary.name}},
    )


def _needs(run: Run) -> list[str]:
    stages = candidate_stages(run)
    return [kinds.WORDS.name(), *stages] if stages else []


def _inputs(run: Run) -> dict[str, str]:
    return {
        "vocabulary": run.words.sha256,
        "encoder": described_encoder(run)["fingerprint"],
    }


def _require_texts(run: Run) -> None:
    """Refuse at once what could not be embedded later.

    Raises:
        InputError: if texts must be embedded and no encoder is given.
        StaleError: if the encoder is not the one the bundle was built with.
    """
    if run.is_fresh(kinds.VOCABULARY.name()) and not unanswered(run):
        return
    described, encoder = described_encoder(run), run.encoder
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


def _describe_held(run: Run) -> None:
    held = run.writer.manifest.inputs["vocabulary"]
    run.described["vocabulary"] = {**held, "name": run.words.vocabulary.name}


def _make(run: Run) -> Made:
    recipe, encoder = run.recipe, run.encoder
    assert encoder is not None, "_require_texts came first"
    whole, n_new = with_candidates(run.words.vocabulary, pooled_candidates(run))
    run.described["vocabulary"] = {
        "name": run.words.vocabulary.name,
        "n_labels": len(whole),
        "sha256": run.words.sha256,
        **({"n_candidates": n_new} if has_captioner(run) else {}),
        **text_params(recipe),
    }
    vectors = embed_labels(
        encoder.embed_texts,
        list(whole.table["text"]),
        recipe.text_recipe(),
        progress=lambda _, done, total: run.progress("labels", done, total),
    )
    empty_d = empty_vector(encoder.embed_texts, recipe.text_recipe())
    return Made(
        tables={"labels": whole.table},
        arrays={"text": vectors, **({} if empty_d is None else {"empty": empty_d})},
        facts={"n_labels": len(whole)},
        describe={"vocabulary": run.described["vocabulary"]},
    )


WORDS = Stage(
    kind=kinds.WORDS,
    params=lambda run: {},
    needs=lambda run: [],
    inputs=lambda run: {"vocabulary": run.words.sha256},
    places=_words_places,
    make=_make_words,
)
VOCABULARY = Stage(
    kind=kinds.VOCABULARY,
    params=lambda run: text_params(run.recipe),
    needs=_needs,
    inputs=_inputs,
    make=_make,
    require=_require_texts,
    when_held=_describe_held,
)
