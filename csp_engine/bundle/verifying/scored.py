"""Whether labels, scores and percentiles of a bundle follow from its exemplars and activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle, read_contrast
from csp_engine.bundle.verifying.sampling import LOSS, Found, is_here, is_same, sampled
from csp_engine.evidence.evidence import NEEDS, ConceptColumns, Evidence, Source
from csp_engine.methods import METHODS, RELIABLE_AT, Method, label_layer
from csp_engine.methods.scoring.random_sets import noise_activations
from csp_engine.words.hierarchy import kinds_of
from csp_engine.words.vocabularies import parents_in

PERCENTILE_LOSS = 0.02
"""How far percentiles may lie apart, which a score that ties with random image sets may cross."""

ALWAYS = frozenset({"exemplars", "contrast"})
"""What every method is given, and can be judged from within a moment."""
FOLLOWED = frozenset({"csp_plus"})
"""Methods that look at more and are judged again all the same."""
N_DRAWS = 40
"""Random image sets that are judged again where a method looks at activations."""


def why_not(bundle: Bundle, model: str, layer: str, name: str) -> str:
    """Why scores of a layer cannot be computed again, as the end of a sentence; else empty."""
    record, method = bundle.stage(kinds.SCORES.name(model, layer, name)), METHODS.get(name)
    if record.params.get("imported"):
        return "they were imported"
    if method is None:
        return "the method is not part of this program"
    if record.params.get("method_version") != method.version:
        return "another version of the method made them"
    if (more := sorted(set(method.needs) - ALWAYS)) and name not in FOLLOWED:
        return f"the method looks at {NEEDS[more[0]]}"
    needed = (kinds.CONTRAST.name(model, layer), "null", "embeddings", "vocabulary")
    if not is_here(bundle, *needed):
        return "this copy leaves out what they were made from"
    activations = kinds.ACTIVATIONS.name(model, layer)
    if "activations" in method.needs and not is_here(bundle, activations):
        return "this copy leaves activations out"
    return ""


def scores(bundle: Bundle, model: str, layer: str, name: str, whole: bool = True) -> Found:
    """The whole way from exemplars to percentiles again, for a sample of units."""
    stage = kinds.SCORES.name(model, layer, name)
    record, method = bundle.stage(stage), METHODS.get(name)
    if method is None or why_not(bundle, model, layer, name):
        return
    is_cheap = set(method.needs) <= ALWAYS
    if not is_cheap and not whole:
        return
    held = bundle.scores(model, layer, name)
    params = {key: value for key, value in record.params.items() if key in method.params}
    evidence = _given(
        bundle,
        method,
        Evidence(
            bundle.exemplars(model, layer), bundle.contrast(model, layer), bundle.image_vectors()
        ),
        lambda units: np.asarray(bundle.activations(model, layer)[units]),
    )
    # A prior over the layer's own labels depends on all of its units.
    is_of_all = params.get("prior") == "layer"
    if is_of_all and evidence.n_units > MOST_FOR_PRIORS:
        return
    rows = np.arange(evidence.n_units) if is_of_all else sampled(evidence.n_units)
    seed = int(bundle.stage("null").params["seed"])
    null = _given(
        bundle,
        method,
        Evidence(bundle.random_sets(), read_contrast(bundle, "null"), evidence.image_nd),
        lambda draws: np.concatenate(
            [noise_activations(bundle.n_images, int(draw), 1, seed) for draw in draws]
        ),
    )
    draws = np.arange(null.n_units) if is_cheap else sampled(null.n_units, N_DRAWS)
    done = label_layer(
        method,
        evidence.block(rows),
        null.block(draws),
        np.asarray(bundle.label_vectors()),
        params,
        n_labels=int(record.params["n_labels"]),
    )
    for field, fresh in (
        *((each, getattr(done.scores, each)) for each in _COMPARED),
        *((each, values) for each, values in done.arrays.items()),
    ):
        kept = np.asarray(bundle.array(stage, field))
        if not field.startswith("null_"):
            kept = kept[rows]
        elif "null_size" in done.arrays and len(kept) % null.n_units == 0:
            # A run of draws for each size; the sampled units may lack some of the layer's sizes.
            size_r = np.asarray(bundle.array(stage, "null_size"))
            is_drawn_r = np.isin(np.arange(len(size_r)) % null.n_units, draws)
            kept = kept[is_drawn_r & np.isin(size_r, done.arrays["null_size"])]
        if kept.shape != fresh.shape:
            yield stage, f"{field} of {stage} has the shape {kept.shape} instead of {fresh.shape}."
        elif not is_same(kept, fresh):
            yield stage, f"{field} of {stage} is not what follows from its exemplars."
    loss = PERCENTILE_LOSS if is_cheap else PERCENTILE_LOSS + 4.5 * 0.5 / np.sqrt(len(draws))
    yield from _labels(stage, held, done.scores, rows, loss)
    fresh_best_u = done.scores.best_percentile_u
    if (np.abs(np.asarray(held.best_percentile_u)[rows] - fresh_best_u) > loss).any():
        yield stage, f"best_percentile_u of {stage} is not what follows from its exemplars."
    stands_out_u = np.asarray(held.best_percentile_u) >= RELIABLE_AT
    reliable_u = np.asarray(held.reliable_u)
    if (reliable_u & ~stands_out_u).any():
        yield stage, f"reliable_u of {stage} contradicts best_percentile_u."
    judged_u = stands_out_u[rows] & (fresh_best_u >= RELIABLE_AT)
    if (reliable_u[rows] != done.scores.reliable_u)[judged_u].any():
        yield stage, f"reliable_u of {stage} is not what follows from its exemplars."


def _given(bundle: Bundle, method: Method, evidence: Evidence, activations: Source) -> Evidence:
    """Evidence with what a method looks at beyond exemplars and contrast images."""
    concepts = tuple(bundle.manifest.inputs.get("probe", {}).get("concepts", ()))
    sources: dict[str, Source] = {
        "activations": activations,
        "texts": lambda _: bundle.labels()["text"].tolist(),
        "columns": lambda _: ConceptColumns(
            concepts,
            bundle.table(kinds.PROBE.name(), "probe")[list(concepts)].to_numpy(np.float32),
        ),
    }
    if kinds_below := kinds_of(bundle.labels()["text"].tolist(), parents_in(bundle.labels())):
        sources["kinds"] = lambda _: kinds_below
    return evidence.asked_by(f"Method {method.name!r}", method.needs_here(sources), sources)


_COMPARED = (
    "count_u", "score_uk", "margin_uk", "vector_ud", "n_exemplar_u", "pool_u", "similarity_u",
    "reuse_u",
)  # fmt: skip
MOST_FOR_PRIORS = 2048


def _labels(stage: str, held: Any, fresh: Any, rows: np.ndarray, loss: float) -> Found:
    """Labels may change places only where their scores are equal but for rounding."""
    for at, unit in enumerate(rows.tolist()):
        count = int(held.count_u[unit])
        kept_k, fresh_k = held.label_uk[unit, :count], fresh.label_uk[at, :count]
        off_k = kept_k != fresh_k
        if not off_k.any():
            same_k = np.abs(held.percentile_uk[unit, :count] - fresh.percentile_uk[at, :count])
            if (same_k > loss).any():
                yield stage, f"Percentiles of unit {unit} of {stage} are not those of its scores."
            if not is_same(held.raw_uk[unit, :count], fresh.raw_uk[at, :count]):
                yield stage, f"Raw scores of unit {unit} of {stage} are not those of its labels."
            continue
        score_k = fresh.score_uk[at, :count]
        gap_k = np.minimum(
            np.abs(np.diff(score_k, prepend=np.inf)), np.abs(np.diff(score_k, append=-np.inf))
        )
        if (gap_k[off_k] > LOSS).any():
            yield stage, f"Labels of unit {unit} of {stage} are not those with its scores."
