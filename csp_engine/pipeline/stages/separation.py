"""The stage that asks whether the encoder's texts separate these images: ``separation``."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from csp_engine.bundle import Bundle, kinds
from csp_engine.evaluation import separation
from csp_engine.evaluation.lean import lean
from csp_engine.pipeline.given import concept_columns
from csp_engine.pipeline.run import Run
from csp_engine.pipeline.stage import Made, Of, Stage
from csp_engine.words.templates import embed_labels
from csp_engine.words.vocabularies import clean_label

N_IMAGES, N_TEXTS, N_NAMES = 4000, 500, 200
"""Most images, labels and names that are looked at."""
N_LEAN_IMAGES, N_LEAN_TEXTS = 1000, 100
"""Most images and labels that are looked at again for each shuffled draw."""


def _places(run: Run) -> list[Of]:
    """Names of columns need the encoder; a bundle that is labelled without it keeps what it has."""
    return [()] if run.encoder is not None else []


def as_text(name: str) -> str:
    """The name of a column or class as words: "dark_corner" is "dark corner"."""
    return clean_label(re.sub(r"^n\d{8}(?=[_ -])", "", name).replace("_", " "))


def named_columns(bundle: Bundle) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Name and kind (``column`` or ``class``) of what images are said to show, and ``(n, c)``.

    Names without a letter are no texts; of many classes the most frequent are looked at.
    """
    columns, probe = concept_columns(bundle), bundle.table(kinds.PROBE.name(), "probe")
    found = [(name, "column") for name in columns.names]
    values = list(columns.value_nc.T)
    if "class" in probe:
        of = probe["class"]
        is_known = of.notna().to_numpy(bool)
        for name in of.value_counts().index[:N_NAMES]:
            shows = (of == name).to_numpy(np.float32, na_value=0)
            values.append(np.where(is_known, shows, np.nan).astype(np.float32))
            found.append((str(name), "class"))
    kept: dict[str, int] = {}
    for at, (name, _) in enumerate(found):
        if re.search(r"[^\W\d_]", as_text(name)):
            kept.setdefault(as_text(name).casefold(), at)
    chosen = list(kept.values())[:N_NAMES]
    whole = np.stack(values, axis=1) if values else np.zeros((len(probe), 0), np.float32)
    return [found[at] for at in chosen], whole[:, chosen]


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
    rng = np.random.default_rng(0)
    n_images = bundle.n_images
    rows = np.sort(rng.choice(n_images, min(N_IMAGES, n_images), replace=False))
    image_nd = np.asarray(bundle.image_vectors()[rows])
    labels = bundle.labels()["text"].tolist()
    drawn = np.sort(rng.choice(len(labels), min(N_TEXTS, len(labels)), replace=False))
    label_td = np.asarray(bundle.label_vectors())[drawn]
    leaning = lean(
        image_nd[rng.permutation(len(rows))[:N_LEAN_IMAGES]],
        label_td[rng.permutation(len(drawn))[:N_LEAN_TEXTS]],
    )
    whole, value_nc = named_columns(bundle)
    chosen, name_cd = _name_vectors(run, [as_text(name) for name, _ in whole])
    whole, value_nc = [whole[at] for at in chosen], value_nc[rows][:, chosen]
    texts = [as_text(name) for name, _ in whole] + [labels[at] for at in drawn]
    folded = np.array([text.casefold() for text in texts], object)
    named = separation.naming(
        image_nd,
        np.concatenate([name_cd, label_td]),
        value_nc,
        folded[:, None] != folded[None, : len(whole)],
    )
    names = pd.DataFrame(
        {
            "name": [name for name, _ in whole],
            "kind": [kind for _, kind in whole],
            "auroc": named.auroc_c,
            "shuffled": named.shuffled_c,
        }
    )
    facts: dict[str, Any] = {
        "is_separated": separation.is_separated(leaning, named),
        "n_named": int(np.isfinite(named.auroc_c).sum()),
        "lean": _known(leaning.mean),
        "lean_p": _known(leaning.p),
        "n_images": leaning.n_images,
        "n_texts": leaning.n_texts,
        "auroc": _known(named.mean),
        "shuffled": _known(named.shuffled),
        "auroc_p": _known(named.p),
    }
    kinds_of = {"name": "string", "kind": "string", "auroc": "float32", "shuffled": "float32"}
    return Made(tables={"names": names.astype(kinds_of)}, facts=facts)


def _known(value: float) -> float | None:
    """A number as JSON has it."""
    return round(value, 4) if np.isfinite(value) else None


STAGE = Stage(
    kind=kinds.SEPARATION,
    params=lambda run: {"n_images": N_IMAGES, "n_texts": N_TEXTS},
    needs=lambda run: [kinds.EMBEDDINGS.name(), kinds.PROBE.name(), kinds.VOCABULARY.name()],
    places=_places,
    make=_make,
)
