"""Whether labels, scores and percentiles of a bundle follow from its exemplars and activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from csp_engine.bundle import kinds
from csp_engine.bundle.reader import Bundle, read_contrast
from csp_engine.bundle.verifying.rounded import may_be_rounding
from csp_engine.bundle.verifying.sampling import LOSS, Found, is_here, is_same, sampled
from csp_engine.evidence.evidence import NEEDS, ConceptColumns, Evidence, Source
from csp_engine.evidence.speaker import Speaker
from csp_engine.methods import METHODS, RELIABLE_AT, Labelled, Method, label_layer
from csp_engine.methods.method import NULL_VECTOR
from csp_engine.methods.scoring.random_sets import noise_activations
from csp_engine.types import LabelScores
from csp_engine.words.hierarchy import kinds_of
from csp_engine.words.vocabularies import parents_in

PERCENTILE_LOSS = 0.02
"""How far percentiles may lie apart, which a score that ties with random image sets may cross."""

ALWAYS = frozenset({"exemplars", "contrast"})
"""What every method is given, and can be judged from within a moment."""
FOLLOWED = ALWAYS | {"activations", "layer", "columns", "texts", "speaker"}
"""What can be given to a method again."""
N_DRAWS = 40
"""Random image sets that are judged again where a method looks at more than ``ALWAYS``."""
MOST_FOR_PRIORS = 2048
_TINY = float(np.finfo(np.float32).tiny)


def why_not(
    bundle: Bundle, model: str, layer: str, name: str, speaker: Speaker | None = None
) -> str:
    """Why scores of a layer cannot be computed again, as the end of a sentence; else empty."""
    record, method = bundle.stage(kinds.SCORES.name(model, layer, name)), METHODS.get(name)
    if record.params.get("imported"):
        return "they were imported"
    if method is None:
        return "the method is not part of this program"
    if record.params.get("method_version") != method.version:
        return "another version of the method made them"
    if more := sorted(set(method.needs) - FOLLOWED):
        return f"the method looks at {NEEDS[more[0]]}"
    needed = (kinds.CONTRAST.name(model, layer), "null", "embeddings", "vocabulary")
    if not is_here(bundle, *needed):
        return "this copy leaves out what they were made from"
    activations = kinds.ACTIVATIONS.name(model, layer)
    if {"activations", "layer"} & set(method.needs) and not is_here(bundle, activations):
        return "this copy leaves activations out"
    if "speaker" in method.needs and speaker is None:
        return "the captioner that the method asked is not here"
    return ""


def scores(
    bundle: Bundle,
    model: str,
    layer: str,
    name: str,
    whole: bool = True,
    speaker: Speaker | None = None,
) -> Found:
    """The whole way from exemplars to percentiles again, for a sample of units."""
    stage = kinds.SCORES.name(model, layer, name)
    record, method = bundle.stage(stage), METHODS.get(name)
    if method is None or record.params.get("imported"):
        return
    yield from _own_files(bundle, stage, method)
    held = bundle.scores(model, layer, name)
    yield from _counted(stage, record.facts, held)
    yield from _by_p(bundle, stage, method, held)
    is_cheap = set(method.needs) <= ALWAYS
    if why_not(bundle, model, layer, name, speaker) or not (is_cheap or whole):
        return
    if (np.asarray(held.reliable_u) & (np.asarray(held.best_percentile_u) < RELIABLE_AT)).any():
        yield stage, f"reliable_u of {stage} contradicts best_percentile_u."
    params = {key: value for key, value in record.params.items() if key in method.params}
    evidence = _evidence(bundle, model, layer, method, speaker)
    # A prior over the layer's own labels depends on all of its units.
    is_of_all = params.get("prior") == "layer"
    if is_of_all and evidence.n_units > MOST_FOR_PRIORS:
        return
    rows = np.arange(evidence.n_units) if is_of_all else sampled(evidence.n_units)
    null = _null_evidence(bundle, evidence, method)
    draws = np.arange(null.n_units) if is_cheap else sampled(null.n_units, N_DRAWS)
    done = label_layer(
        method,
        evidence.block(rows),
        null.block(draws),
        np.asarray(bundle.label_vectors()),
        params,
        n_labels=int(record.params["n_labels"]),
        other_p=_other_p(bundle, stage, method, held, rows),
    )
    if method.has_null and not method.writes:
        yield from _places(stage, held, null.n_units, record.params.get(method.depth))
    is_judged_by_some = method.has_null and len(draws) < null.n_units
    loss = PERCENTILE_LOSS + is_judged_by_some * 4.5 * 0.5 / np.sqrt(len(draws))
    loss = LOSS if method.test else loss
    texts = bundle.method_labels(model, layer, name)["text"].to_numpy(object)
    found = [
        *_arrays(bundle, stage, done, rows, draws, null.n_units),
        *_labels(stage, held, done, texts, rows, loss),
        *_verdicts(stage, held, done.scores, rows, loss),
    ]
    if found and method.coarse and may_be_rounding(bundle, stage, done, rows, method.coarse):
        return
    yield from found


def _own_files(bundle: Bundle, stage: str, method: Method) -> Found:
    """Of optional files, those of the method: labels or weights of others would be shown."""
    is_there = "labels.parquet" in bundle.stage(stage).files
    if is_there != method.writes:
        what = "lacks the labels" if method.writes else "brings labels of its own, not those"
        yield stage, f"Stage {stage} {what} that {method.title} gives."
    if "weight_uk.npy" in bundle.stage(stage).files:
        yield stage, f"Stage {stage} has weights of labels, which {method.title} does not give."


def _counted(stage: str, facts: Mapping[str, Any], held: LabelScores) -> Found:
    """What commands say of a layer without looking at its arrays."""
    counts = {
        "n_units": len(held.count_u),
        "n_reliable": int(np.count_nonzero(held.reliable_u)),
        "n_without_evidence": int(np.count_nonzero(np.asarray(held.count_u) == 0)),
    }
    for name, count in counts.items():
        if facts.get(name, count) != count:
            yield stage, f"{name} of {stage} is {facts[name]}, and its arrays say {count}."


def _by_p(bundle: Bundle, stage: str, method: Method, held: LabelScores) -> Found:
    """Of the whole layer, and exactly, what follows from p-values that are kept beside labels."""
    is_said_u = np.asarray(held.count_u) > 0
    if not method.test or "p" not in method.stores.arrays or not is_said_u.any():
        return
    from scipy.stats import false_discovery_control

    p_m = np.asarray(bundle.array(stage, "p"), np.float64)[is_said_u]
    best_m = np.asarray(held.best_percentile_u)[is_said_u]
    if not np.allclose(best_m, 1 - p_m, rtol=0, atol=1e-6):
        yield stage, f"best_percentile_u of {stage} is not 1 less its p-values."
    is_found_m = false_discovery_control(p_m) <= 1 - RELIABLE_AT
    if (np.asarray(held.reliable_u)[is_said_u] & ~is_found_m).any():
        yield stage, f"reliable_u of {stage} has labels that its p-values do not bear."


def _evidence(
    bundle: Bundle, model: str, layer: str, method: Method, speaker: Speaker | None
) -> Evidence:
    """A layer with what the method looks at."""
    evidence = Evidence(
        bundle.exemplars(model, layer), bundle.contrast(model, layer), bundle.image_vectors()
    )
    sources: dict[str, Source] = {
        "activations": lambda units: np.asarray(bundle.activations(model, layer)[units]),
        "layer": lambda _: np.asanyarray(bundle.activations(model, layer)),
        "texts": lambda _: bundle.labels()["text"].tolist(),
        "speaker": lambda _: speaker,
    }
    if concepts := tuple(bundle.manifest.inputs.get("probe", {}).get("concepts", ())):
        sources["columns"] = lambda _: ConceptColumns(
            concepts,
            bundle.table(kinds.PROBE.name(), "probe")[list(concepts)].to_numpy(np.float32),
        )
    if kinds_below := kinds_of(bundle.labels()["text"].tolist(), parents_in(bundle.labels())):
        sources["kinds"] = lambda _: kinds_below
    stage = kinds.SCORES.name(model, layer, method.name)
    if bundle.stage(stage).params.get("copies") == "once":
        sources["copies"] = lambda _: bundle.first_copies()
    return evidence.asked_by(f"Method {method.name!r}", method.needs_here(sources), sources)


def _null_evidence(bundle: Bundle, evidence: Evidence, method: Method) -> Evidence:
    """Random image sets; their activations are the noise itself, all else is that of the layer."""
    seed = int(bundle.stage("null").params["seed"])
    own: dict[str, Source] = {
        "activations": lambda draws: np.concatenate(
            [noise_activations(bundle.n_images, int(draw), 1, seed) for draw in draws]
        )
    }
    null = Evidence(bundle.random_sets(), read_contrast(bundle, "null"), evidence.image_nd)
    return null.asked_by(f"Method {method.name!r}", method.needs, own)


def _other_p(
    bundle: Bundle, stage: str, method: Method, held: LabelScores, rows: Int[np.ndarray, " b"]
) -> np.ndarray:
    """p-values of the units that are not computed again; false discoveries are of the layer."""
    if not method.test:
        return np.empty(0)
    has_p = "p" in method.stores.arrays
    p_u = bundle.array(stage, "p") if has_p else 1 - np.float64(held.best_percentile_u)
    is_other_u = np.asarray(held.count_u) > 0
    is_other_u[rows] = False
    return np.asarray(p_u)[is_other_u]


_COMPARED = (
    "count_u", "score_uk", "margin_uk", "vector_ud", "n_exemplar_u", "pool_u", "similarity_u",
    "reuse_u",
)  # fmt: skip


def _arrays(
    bundle: Bundle,
    stage: str,
    done: Labelled,
    rows: Int[np.ndarray, " b"],
    draws: Int[np.ndarray, " r"],
    n_draws: int,
) -> Found:
    """All arrays but labels and percentiles, of which some may differ with a good reason."""
    for field, fresh in (
        *((each, getattr(done.scores, each)) for each in _COMPARED),
        *((each, values) for each, values in done.arrays.items()),
    ):
        if field == NULL_VECTOR and f"{field}.npy" not in bundle.stage(stage).files:
            continue  # older bundles have none
        kept = np.asarray(bundle.array(stage, field))
        if not field.startswith("null_"):
            kept = kept[rows]
        elif "null_size" in done.arrays and len(kept) % n_draws == 0:
            # A run of draws for each size; the sampled units may lack some of the layer's sizes.
            size_r = np.asarray(bundle.array(stage, "null_size"))
            is_drawn_r = np.isin(np.arange(len(size_r)) % n_draws, draws)
            kept = kept[is_drawn_r & np.isin(size_r, done.arrays["null_size"])]
        if kept.shape != fresh.shape:
            yield stage, f"{field} of {stage} has the shape {kept.shape} instead of {fresh.shape}."
        elif not is_same(kept, fresh):
            yield stage, f"{field} of {stage} is not what follows from its exemplars."


def _labels(
    stage: str,
    held: LabelScores,
    done: Labelled,
    texts: np.ndarray,
    rows: Int[np.ndarray, " b"],
    loss: float,
) -> Found:
    """Labels may change places only where their scores are equal but for rounding."""
    fresh = done.scores
    own_texts = None if done.texts is None else np.array(done.texts, object)
    for at, unit in enumerate(rows.tolist()):
        count = int(held.count_u[unit])
        kept_k, fresh_k = held.label_uk[unit, :count], fresh.label_uk[at, :count]
        if own_texts is not None and count and fresh.count_u[at] == count:
            # A method that writes numbers its labels as they come; a sample has other numbers.
            kept_k, fresh_k = texts[kept_k], own_texts[fresh_k]
        off_k = kept_k != fresh_k
        if not off_k.any():
            if _is_off(held.percentile_uk[unit, :count], fresh.percentile_uk[at, :count], loss):
                yield stage, f"Percentiles of unit {unit} of {stage} are not those of its scores."
            if not is_same(held.raw_uk[unit, :count], fresh.raw_uk[at, :count]):
                yield stage, f"Raw scores of unit {unit} of {stage} are not those of its labels."
            continue
        score_k = fresh.score_uk[at, :count]
        gap_k, kept_gap_k = _gaps(score_k), _gaps(held.score_uk[unit, :count])
        is_tied_k = (gap_k == 0) & (kept_gap_k == 0)  # such ties have an order of their own
        # One that is of no such score at all can only tie with those that the list leaves out.
        is_strange_k = ~np.isin(kept_k.astype(object), fresh_k.astype(object))
        may_be_cut = count == held.label_uk.shape[1]
        at_end_k = (np.abs(score_k - score_k[-1]) <= LOSS) & may_be_cut
        # Scores may be on a small scale, down to where single precision has few digits.
        near = LOSS * min(1.0, max(float(np.abs(score_k).max()), _TINY))
        is_off = (gap_k[off_k] > near).any() or is_tied_k[off_k & ~at_end_k].any()
        if is_off or (is_strange_k & ~at_end_k).any():
            yield stage, f"Labels of unit {unit} of {stage} are not those with its scores."


def _gaps(score_k: np.ndarray) -> np.ndarray:
    """How far each score lies from the nearer of its neighbours."""
    before, after = np.diff(score_k, prepend=np.inf), np.diff(score_k, append=-np.inf)
    return np.minimum(np.abs(before), np.abs(after))


def _verdicts(
    stage: str, held: LabelScores, fresh: LabelScores, rows: Int[np.ndarray, " b"], loss: float
) -> Found:
    """Percentiles of the best labels, and which of them are reliable."""
    best_u, reliable_u = np.asarray(held.best_percentile_u), np.asarray(held.reliable_u)
    if _is_off(best_u[rows], fresh.best_percentile_u, loss):
        yield stage, f"best_percentile_u of {stage} is not what follows from its exemplars."
    judged_u = (best_u >= RELIABLE_AT)[rows] & (fresh.best_percentile_u >= RELIABLE_AT)
    if (reliable_u[rows] != fresh.reliable_u)[judged_u].any():
        yield stage, f"reliable_u of {stage} is not what follows from its exemplars."


def _places(stage: str, held: LabelScores, n_draws: int, depth: int | None) -> Found:
    """Places among random image sets: a count of draws, larger only for a larger score.

    Of the whole layer, and exactly, whichever sets are judged again: a label's scores of units that
    meet the same sets stand in the order of their percentiles, and so do those of best labels.
    """
    count_u = np.asarray(held.count_u)
    size_u = np.asarray(held.n_exemplar_u) if depth else np.zeros_like(count_u)
    is_said_uk = np.arange(held.label_uk.shape[1]) < count_u[:, None]
    group_uk = np.stack([held.label_uk, np.broadcast_to(size_u[:, None], held.label_uk.shape)])
    best_u = np.asarray(held.best_percentile_u)
    of_best = (np.stack([np.zeros_like(size_u), size_u]), held.score_uk[:, 0], best_u, count_u > 0)
    of_all = (group_uk, held.score_uk, held.percentile_uk, is_said_uk)
    for name, (group, score, percentile, is_said) in (
        ("percentile_uk", of_all),
        ("best_percentile_u", of_best),
    ):
        n_below_m = np.asarray(percentile, np.float64)[is_said] * (n_draws + 1)
        is_count_m = np.abs(n_below_m - np.round(n_below_m)) <= 1e-3
        if not is_count_m.all() or (n_below_m < 0).any() or (n_below_m > n_draws + 1e-3).any():
            yield stage, f"{name} of {stage} cannot be counted from {n_draws} random image sets."
            continue
        score_m, group_gm = np.asarray(score)[is_said], group[:, is_said]
        order_m = np.lexsort((score_m, *group_gm))
        is_same_m = (np.diff(group_gm[:, order_m], axis=1) == 0).all(axis=0)
        rise_m = np.diff(np.round(n_below_m)[order_m])
        is_tie_m = np.diff(score_m[order_m]) == 0
        if (is_same_m & ((rise_m < 0) | (is_tie_m & (rise_m != 0)))).any():
            yield stage, f"{name} of {stage} does not rise with its scores."


def _is_off(kept: np.ndarray, fresh: np.ndarray, loss: float) -> bool:
    """Whether shares lie further apart than that; one that is not known is like no number."""
    return not np.allclose(kept, fresh, rtol=0, atol=loss, equal_nan=True)
