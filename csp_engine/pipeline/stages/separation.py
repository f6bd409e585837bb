"""The stage that asks whether the encoder's texts separate these images: ``separation``."""

from __future__ import annotations

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.evaluation.separating import N_IMAGES, N_TEXTS, named_columns, separating
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Of, Stage
from csp_engine.words.templates import embed_labels


def _places(run: Run) -> list[Of]:
    """Names of columns need the encoder; a bundle that is labelled without it keeps what it has."""
    return [()] if run.encoder is not None else []


def _name_vectors(run: Run, names: list[str]) -> tuple[list[int], np.ndarray]:
    """Which names have a vector, and the vectors: as stored of labels, the encoder's of others."""
    bundle, encoder = run.bundle, run.encoder
    label_td, ids = bundle.label_vectors(), bundle.label_ids
    held = [at for at, name in enumerate(names) if name in ids]
    can_read = encoder is not None and getattr(encoder, "needs_pixels", True)
    new = [at for at, name in enumerate(names) if name not in ids] if can_read else []
    vectors = np.zeros((len(names), label_td.shape[1]), np.float32)
    vectors[held] = np.asarray(label_td)[[ids[names[at]] for at in held]]
    if new:
        assert encoder is not None
        texts = [names[at] for at in new]
        vectors[new] = embed_labels(encoder.embed_texts, texts, run.recipe.text_recipe())
    chosen = sorted([*held, *new])
    return chosen, vectors[chosen]


def _make(run: Run) -> Made:
    bundle = run.bundle
    probe = bundle.table(kinds.PROBE.name(), "probe")
    named = named_columns(probe, bundle.manifest.inputs["probe"]["concepts"])
    chosen, name_cd = _name_vectors(run, named.texts)
    labels = bundle.labels()["text"].tolist()
    found = separating(
        bundle.image_vectors(),
        labels,
        np.asarray(bundle.label_vectors()),
        named.some(chosen),
        name_cd,
    )
    return Made(arrays={"name": name_cd}, tables={"names": found.names}, facts=found.facts)


STAGE = Stage(
    kind=kinds.SEPARATION,
    params=lambda run: {"n_images": N_IMAGES, "n_texts": N_TEXTS},
    needs=lambda run: [kinds.EMBEDDINGS.name(), kinds.PROBE.name(), kinds.VOCABULARY.name()],
    places=_places,
    make=_make,
)
