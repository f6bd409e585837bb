"""Put labels on all units of a layer by one method, with the null beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int

from csp_engine.errors import InputError, StaleError
from csp_engine.evidence.evidence import OF_LAYER, Evidence
from csp_engine.methods.method import (
    NULL_VECTOR,
    LabelPrior,
    Method,
    Params,
    Scored,
    Written,
)
from csp_engine.methods.registered import find_method
from csp_engine.methods.scoring.asking import Elsewhere, Scoring
from csp_engine.methods.scoring.exemplar_means import scored_mask
from csp_engine.methods.scoring.log_mean import LogMean, leave_one_out
from csp_engine.methods.scoring.random_sets import evidence_of_size
from csp_engine.methods.scoring.ranking import NullScores, Ranking, rank_labels, scores_of
from csp_engine.methods.scoring.written import rank_written
from csp_engine.types import LabelScores, Progress, silent
from csp_engine.vectors import directions


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """The labels of a layer by one method.

    ``arrays`` are those that the method stores, and the same of the random image sets. ``texts``
    are the labels that a method wrote itself, in which ``scores.label_uk`` counts; None where it
    counts in the vocabulary.
    """

    scores: LabelScores
    arrays: dict[str, np.ndarray]
    texts: tuple[str, ...] | None = None


def label_units(
    method: Method | str,
    evidence: Evidence,
    null_evidence: Evidence,
    label_td: Float32[np.ndarray, "t d"],
    params: Params,
    *,
    n_labels: int = 20,
    unit_block: int | None = None,
    progress: Progress = silent,
) -> tuple[LabelScores, dict[str, np.ndarray]]:
    """``label_layer`` for methods that score a vocabulary: the scores and the extra arrays.

    For CSP these are ``anchor`` and ``projection`` (u, d), and ``null_anchor``,
    ``null_projection`` (r, d) with ``null_size`` (r), the number of exemplars behind each null row.
    ``rescore`` takes both.
    """
    done = label_layer(
        method,
        evidence,
        null_evidence,
        label_td,
        params,
        n_labels=n_labels,
        unit_block=unit_block,
        progress=progress,
    )
    return done.scores, done.arrays


def label_layer(
    method: Method | str,
    evidence: Evidence,
    null_evidence: Evidence,
    label_td: Float32[np.ndarray, "t d"],
    params: Params,
    *,
    n_labels: int = 20,
    unit_block: int | None = None,
    other_p: Float64[np.ndarray, " v"] | None = None,
    progress: Progress = silent,
    common: dict[Any, Any] | None = None,
    elsewhere: Elsewhere | None = None,
) -> Labelled:
    """The best labels of every unit, by one method.

    The null goes through exactly the same code as the units. Units with fewer exemplars than the
    method wants are compared with random sets of that same, smaller size: a mean of few images
    lies closer to some label by chance than a mean of many.

    Args:
        method: one of ``METHODS``, or its name.
        evidence: the units, with sources of what the method needs beyond exemplars and contrast
            images.
        null_evidence: from ``noise_evidence``, on the same images and by the same rule.
        label_td: label vectors.
        params: what differs from the method's defaults.
        n_labels: labels kept for each unit; all of them where the vocabulary is smaller.
        unit_block: units at a time; the method's own choice if not given. Results do not depend
            on it.
        other_p: p-values of the layer's other units, where these are only some of them.
        progress: called with the units done.
        common: kept from layer to layer, so that what is the same for all is made once. Images,
            label vectors, random image sets and parameters must be the same in all calls.
        elsewhere: has others run the method, where it scores a vocabulary and looks at all images;
            blocks must be those that are asked for.

    Raises:
        InputError: for bad parameters, no labels, or a null without draws.
        StaleError: if labels and images come from encoders of different width.
    """
    method = find_method(method) if isinstance(method, str) else method
    layer = Scoring.of(method, evidence, null_evidence, label_td, params, common)
    _check_inputs(evidence, null_evidence, label_td, n_labels)
    evidence, depth, size_u = layer.evidence, layer.depth, layer.size_u
    step = unit_block or method.unit_block
    if method.writes:
        ranking, arrays, texts = _written(layer, n_labels, step, other_p, progress)
    else:
        ranking, arrays = _scored(layer, n_labels, step, progress, elsewhere)
        texts = None
    similarity_u, reuse_u = pair_statistics(evidence, depth)
    scores = LabelScores(
        **ranking.fields(),
        n_exemplar_u=size_u,
        similarity_u=similarity_u,
        pool_u=np.asarray(evidence.contrast.pool_u, np.int32),
        reuse_u=reuse_u,
    )
    return Labelled(scores, arrays, texts)


def _scored(
    layer: Scoring,
    n_labels: int,
    unit_block: int,
    progress: Progress,
    elsewhere: Elsewhere | None,
) -> tuple[Ranking, dict[str, np.ndarray]]:
    """The best labels of a vocabulary, and the extra arrays."""
    method, evidence, label_td = layer.method, layer.evidence, layer.label_td
    n_scored = int(np.count_nonzero(layer.size_u))
    prior = method.prior(layer.params)
    is_over_layer = prior is not None and prior.over == "layer"
    passes = 2 if is_over_layer else 1
    n_done = 0

    def blocks(rows: Int[np.ndarray, " b"]) -> Iterator[tuple[Int[np.ndarray, " b"], Scored]]:
        nonlocal n_done
        runs = [rows[start : start + unit_block] for start in range(0, len(rows), unit_block)]
        said = (layer.said(evidence.block(block)) for block in runs)
        if elsewhere is not None and runs:
            said = elsewhere(False, unit_block)
        for block, scored in zip(runs, said, strict=True):
            yield block, scored
            n_done += len(block)
            progress(method.name, n_done // passes, n_scored)

    over_layer = LogMean.over(len(label_td))
    if is_over_layer:
        for _, scored in blocks(np.flatnonzero(layer.size_u)):
            over_layer.add(_whole(scored))

    width = evidence.image_nd.shape[1]
    ranking = Ranking.empty(evidence.n_units, min(n_labels, len(label_td)), width)
    extra: dict[str, np.ndarray] = {}
    null_extra: dict[str, list[np.ndarray]] = {}
    for size in _sizes(layer):
        null = _null(layer, size, prior, over_layer, elsewhere)
        for name, array in null.kept(method, size).items():
            null_extra.setdefault(name, []).append(array)
        for name, array in null.extra.items():
            extra.setdefault(name, np.zeros((evidence.n_units, *array.shape[1:]), array.dtype))
        for rows, scored in blocks(layer.rows_of(size)):
            _take_prior(scored, null.prior_t)
            ranks = rank_labels(scored.score_ut, scored.has_label_u, null.scores, n_labels)
            if not np.isfinite(ranks.score_uk).all():
                raise InputError(
                    f"Label method {method.name!r} gives scores that are no finite numbers; give "
                    "units with nothing to go by has_label_u false."
                )
            if scored.may_rely_u is not None:
                ranks.reliable_u[:] &= scored.may_rely_u
            vector_ud = scored.vector_ud
            if vector_ud is None:
                best_ud = directions(label_td[ranks.label_uk[:, 0]])
                vector_ud = np.where(scored.has_label_u[:, None], best_ud, 0).astype(np.float32)
            raw_uk = ranks.score_uk
            if scored.raw_vector_ud is not None:
                raw_uk = scores_of(scored.raw_vector_ud, label_td, ranks)
            ranking.put(rows, ranks, vector_ud=vector_ud, raw_uk=raw_uk)
            for name, array in scored.extra.items():
                extra[name][rows] = array
    return ranking, extra | {name: np.concatenate(rows) for name, rows in null_extra.items()}


@dataclass(frozen=True, slots=True, eq=False)
class _Null:
    """What the random image sets of one size say: scores, what is kept, what a prior takes."""

    scores: NullScores
    extra: Mapping[str, np.ndarray]
    vector_rd: Float32[np.ndarray, "r d"] | None
    prior_t: Float64[np.ndarray, " t"] | None

    def kept(self, method: Method, size: int) -> dict[str, np.ndarray]:
        """What is stored of them."""
        found = {f"null_{name}": array for name, array in self.extra.items()}
        if found:
            found["null_size"] = np.full(self.scores.n_draws, size, np.int32)
        if method.stores.keeps_null_vectors and self.vector_rd is not None:
            found[NULL_VECTOR] = self.vector_rd
        return found


def _null(
    layer: Scoring,
    size: int,
    prior: LabelPrior | None,
    over_layer: LogMean,
    elsewhere: Elsewhere | None,
) -> _Null:
    """The random image sets of a size; of full size made once for all layers.

    That is not so where something of the layer enters it.
    """

    def make() -> _Null:
        scored = _said_by_blocks(layer, evidence_of_size(layer.null_evidence, size), elsewhere)
        prior_t, null_prior_rt = _priors(prior, scored, over_layer)
        _take_prior(scored, null_prior_rt)
        return _Null(NullScores.of(scored.score_ut), scored.extra, scored.vector_ud, prior_t)

    is_of_layer = prior is not None and prior.over == "layer"
    is_of_layer |= not OF_LAYER.isdisjoint(layer.method.needs + layer.method.uses)
    if is_of_layer or size != layer.depth:
        return make()
    return layer.null_evidence.once_for_all("null", make)


def _said_by_blocks(layer: Scoring, evidence: Evidence, elsewhere: Elsewhere | None) -> Scored:
    """All that is used of random image sets, whose activations need not fit into memory at once."""
    step, n_units = layer.method.unit_block, evidence.n_units
    if elsewhere is not None:
        parts = list(elsewhere(True, step))
    elif n_units <= step:
        return layer.said(evidence)
    else:
        runs = [slice(start, start + step) for start in range(0, n_units, step)]
        parts = [layer.said(evidence.block(units)) for units in runs]
    offsets = [part.offset_u for part in parts if part.offset_u is not None]
    vectors = [part.vector_ud for part in parts if part.vector_ud is not None]
    return Scored(
        score_ut=np.concatenate([part.score_ut for part in parts]),
        has_label_u=np.concatenate([part.has_label_u for part in parts]),
        vector_ud=np.concatenate(vectors) if vectors else None,
        offset_u=np.concatenate(offsets) if offsets else None,
        extra={
            name: np.concatenate([part.extra[name] for part in parts]) for name in parts[0].extra
        },
    )


def _written(
    layer: Scoring,
    n_labels: int,
    unit_block: int,
    other_p: Float64[np.ndarray, " v"] | None,
    progress: Progress,
) -> tuple[Ranking, dict[str, np.ndarray], tuple[str, ...]]:
    """Labels that the method writes itself, their extra arrays, and their texts."""
    evidence = layer.evidence
    n_scored = int(np.count_nonzero(layer.size_u))
    parts: list[tuple[np.ndarray, Written, Written | None]] = []
    extra: dict[str, np.ndarray] = {}
    n_done = 0
    for size in _sizes(layer):
        rows = layer.rows_of(size)
        null = None
        if layer.method.has_null and len(rows):
            null = layer.said(evidence_of_size(layer.null_evidence, size))
        for start in range(0, len(rows), unit_block):
            block = rows[start : start + unit_block]
            written: Written = layer.said(evidence.block(block))
            parts.append((block, written, null))
            for name, array in written.extra.items():
                shape = (evidence.n_units, *array.shape[1:])
                extra.setdefault(name, np.zeros(shape, array.dtype))[block] = array
            n_done += len(block)
            progress(layer.method.name, n_done, n_scored)
    width = evidence.image_nd.shape[1]
    ranking, texts = rank_written(parts, evidence.n_units, n_labels, width, other_p)
    return ranking, extra, texts


def _sizes(layer: Scoring) -> list[int]:
    """Numbers of exemplars that units have; one for methods that look at all images."""
    if not layer.method.depth:
        return [layer.depth]
    return np.unique(np.append(layer.size_u[layer.size_u > 0], layer.depth)).tolist()


def pair_statistics(
    evidence: Evidence, n_score: int
) -> tuple[Float32[np.ndarray, " u"], Float32[np.ndarray, " u"]]:
    """How good the contrast images of each unit are, over its scored pairs.

    Returns:
        The mean cosine of exemplar and contrast image, and the share of repeated contrast images
        (``1 - distinct / pairs``); both 0 for a unit without pairs.
    """
    contrast = evidence.contrast
    mask_uk = scored_mask(evidence.exemplars, n_score)
    n_units, n_rank = mask_uk.shape
    n_partner = contrast.image_ukj.shape[2]
    n_partner_uk = np.where(mask_uk, contrast.n_partner_uk[:, :n_rank], 0)
    is_pair_up = (np.arange(n_partner) < n_partner_uk[:, :, None]).reshape(n_units, -1)
    n_pairs_u = is_pair_up.sum(axis=1)
    similarity_up = contrast.similarity_ukj[:, :n_rank].reshape(n_units, -1)
    total_u = np.where(is_pair_up, similarity_up, 0).sum(axis=1, dtype=np.float64)
    # Places without a pair get a number of their own beyond the images, so none looks repeated.
    beyond_p = len(evidence.image_nd) + np.arange(is_pair_up.shape[1])
    image_up = contrast.image_ukj[:, :n_rank].reshape(n_units, -1)
    image_up = np.sort(np.where(is_pair_up, image_up, beyond_p), axis=1)
    n_repeated_u = np.count_nonzero(image_up[:, 1:] == image_up[:, :-1], axis=1)
    divisor_u = np.maximum(n_pairs_u, 1)
    return (total_u / divisor_u).astype(np.float32), (n_repeated_u / divisor_u).astype(np.float32)


def _whole(scored: Scored) -> Float64[np.ndarray, "u t"]:
    """Scores with their offset, in float64."""
    whole_ut = scored.score_ut.astype(np.float64)
    if scored.offset_u is not None:
        whole_ut += scored.offset_u[:, None]
    return whole_ut


def _priors(
    prior: LabelPrior | None, null_scored: Scored, over_layer: LogMean
) -> tuple[Float64[np.ndarray, " t"] | None, Float64[np.ndarray, "r t"] | None]:
    """What to take from every unit's scores, and from those of each null draw.

    A draw must meet the prior as a fresh unit would. For the null prior it is therefore left out of
    its own; for the layer prior it counts as one more neuron of the layer, as every neuron does.
    """
    if prior is None:
        return None, None
    whole_rt = _whole(null_scored)
    if prior.over == "layer":
        return prior.weight * over_layer.mean_t, prior.weight * over_layer.with_each(whole_rt)
    if len(whole_rt) < 2:
        raise InputError("The null prior needs two random image sets or more; draw more (n_draws).")
    over_draws = LogMean.over(whole_rt.shape[1])
    over_draws.add(whole_rt)
    return prior.weight * over_draws.mean_t, prior.weight * leave_one_out(whole_rt)


def _take_prior(
    scored: Scored, prior: Float64[np.ndarray, " t"] | Float64[np.ndarray, "u t"] | None
) -> None:
    """Bring scores to their final value in place: add the offset, subtract the prior."""
    if scored.offset_u is None:
        return
    for u in range(len(scored.score_ut)):
        row_t = 0.0 if prior is None else prior[u] if prior.ndim == 2 else prior
        scored.score_ut[u] += np.asarray(scored.offset_u[u] - row_t, np.float32)


def _check_inputs(
    evidence: Evidence,
    null_evidence: Evidence,
    label_td: Float32[np.ndarray, "t d"],
    n_labels: int,
) -> None:
    if len(label_td) < 2:
        raise InputError(
            f"The vocabulary has {len(label_td)} label(s); give at least 2 to choose from."
        )
    if n_labels < 1:
        raise InputError(f"n_labels is {n_labels}; keep at least 1 label for each neuron.")
    if label_td.shape[1] != evidence.image_nd.shape[1]:
        raise StaleError(
            f"Label vectors are {label_td.shape[1]} wide and image vectors "
            f"{evidence.image_nd.shape[1]}: they come from different encoders. "
            "Embed both with the same one."
        )
    if not null_evidence.n_units:
        raise InputError("The null has no random image sets; draw at least 1 (500 is usual).")
