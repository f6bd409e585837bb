"""CLIP-Dissect: the label that best explains all of the top images, given its prior.

Oikarinen and Weng, "CLIP-Dissect: Automatic Description of Neuron Representations in Deep Vision
Networks", ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64, Int

from csp_engine.errors import InputError
from csp_engine.evidence.cores import on_all_cores, shares
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.method import LabelPrior, Method, Parameter, Params, Scored, Stores
from csp_engine.methods.scoring.exemplar_means import scored_mask
from csp_engine.vectors import directions

MIN_PROBABILITY = 1e-7
PRIORS = ("null", "layer", "none")
FORMS = ("softwpmi", "wpmi")
_TILE_BYTES, _ROWS_BYTES = 64 << 20, 1 << 20
_GROUP = 10


def image_weights(
    count: int, first: float = 0.998, last: float = 0.97
) -> Float64[np.ndarray, " k"]:
    """How surely each of the ``count`` top images shows the concept.

    ``q_i = first - (first - last) i / count`` for i = 0 … count-1, as in the authors' code: the
    steps are cut so that ``last`` would be reached one image further on.
    """
    return first - (first - last) * np.arange(count) / max(count, 1)


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Scored:
    """``g(t) = sum_i log(1 + q_i (P_it - 1) + 1e-7)`` with ``P = softmax_t(scale * x_i . T_t)``.

    WPMI has ``g(t) = sum_i log(P_it + 1e-7)`` instead. Either sum is split as ``g = offset + h``,
    an offset that no label changes and an h that is small and keeps in float32 the digits that tell
    labels apart: see ``_soft`` and ``_plain``.

    Label vectors are brought to unit length first, because the method is defined on cosines.
    """
    mask_uk = scored_mask(evidence.exemplars, params["n_images"])
    size_u = np.count_nonzero(mask_uk, axis=1)
    unit_td = directions(label_td)
    n_labels = len(unit_td)
    unit_p, rank_p = np.nonzero(mask_uk)
    image_p = evidence.exemplars.image_uk[unit_p, rank_p]
    gain_uk, offset_u = np.ones(mask_uk.shape, np.float32), -size_u * np.log(n_labels)
    summed = _plain
    if params["form"] == "softwpmi":
        gain_uk, offset_u = _gains(size_u, mask_uk.shape[1], params)
        summed = _soft
    gain_p = gain_uk[unit_p, rank_p]
    score_ut = np.zeros((len(mask_uk), n_labels), np.float32)
    # Some images at a time, so that probabilities fit into memory and every product is made once.
    # By number of image, so that a unit's sums do not depend on the other units of the call.
    tile_p = image_p // max(32, _TILE_BYTES // (4 * n_labels))
    order_p = np.lexsort((rank_p, unit_p, tile_p))
    for pairs in np.split(order_p, np.flatnonzero(np.diff(tile_p[order_p])) + 1):
        images, row_p = np.unique(image_p[pairs], return_inverse=True)
        scaled_md = evidence.image_nd[images] * np.float32(params["scale"])
        probability_mt = _softmax(scaled_md @ unit_td.T)
        _add(score_ut, unit_p[pairs], row_p, gain_p[pairs], probability_mt, summed)
    return Scored(score_ut=score_ut, has_label_u=size_u > 0, offset_u=offset_u)


def _gains(
    size_u: Int[np.ndarray, " u"], n_rank: int, params: Params
) -> tuple[Float32[np.ndarray, "u k"], Float64[np.ndarray, " u"]]:
    """What probabilities are multiplied by, ``c_i = q_i / (1 - q_i + 1e-7)``, and the offsets.

    ``offset = sum_i log(1 - q_i + 1e-7)``.
    """
    gain_uk = np.zeros((len(size_u), n_rank), np.float32)
    offset_u = np.zeros(len(size_u))
    for size in np.unique(size_u):
        rows = size_u == size
        q_k = image_weights(int(size), params["first_weight"], params["last_weight"])
        gain_uk[rows, :size] = q_k / (1 - q_k + MIN_PROBABILITY)
        offset_u[rows] = np.log(1 - q_k + MIN_PROBABILITY).sum()
    return gain_uk, offset_u


def _softmax(logit_mt: Float32[np.ndarray, "m t"]) -> Float32[np.ndarray, "m t"]:
    """Each row's share of its total, in place; safe from overflow at any scale."""

    def exponentials(rows: slice) -> None:
        logit_mt[rows] -= logit_mt[rows].max(axis=1, keepdims=True)
        np.exp(logit_mt[rows], out=logit_mt[rows])
        logit_mt[rows] /= logit_mt[rows].sum(axis=1, keepdims=True)

    step = max(1, _ROWS_BYTES // (4 * logit_mt.shape[1]))
    on_all_cores(exponentials, [slice(i, i + step) for i in range(0, len(logit_mt), step)])
    return logit_mt


def _add(
    score_ut: Float32[np.ndarray, "u t"],
    unit_p: Int[np.ndarray, " p"],
    row_p: Int[np.ndarray, " p"],
    gain_p: Float32[np.ndarray, " p"],
    probability_mt: Float32[np.ndarray, "m t"],
    summed: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    """Add to each unit what its images in this tile say; pairs of one unit follow each other.

    Units are shared out among the cores, so a sum is made by one of them.
    """
    start_v = np.flatnonzero(np.diff(unit_p, prepend=-1))
    stop_v = np.append(start_v[1:], len(unit_p))

    def add(some: slice) -> None:
        for start, stop in zip(start_v[some].tolist(), stop_v[some].tolist(), strict=True):
            for first in range(start, stop, _GROUP):
                part = slice(first, min(first + _GROUP, stop))
                found_t = summed(probability_mt.take(row_p[part], axis=0), gain_p[part, None])
                score_ut[unit_p[start]] += found_t

    on_all_cores(add, shares(len(start_v)))


def _soft(
    probability_kt: Float32[np.ndarray, "k t"], gain_k1: Float32[np.ndarray, "k 1"]
) -> Float32[np.ndarray, " t"]:
    """``h = sum_i log(1 + c_i P_it)``, for ten images at most, whose probabilities are lost.

    The factors are multiplied before the logarithm; at most 1,000 each, they stay far from the
    largest float32.
    """
    probability_kt *= gain_k1
    probability_kt += 1
    product_t = np.multiply.reduce(probability_kt, axis=0)
    return np.log(product_t, out=product_t)


def _plain(
    probability_kt: Float32[np.ndarray, "k t"], _: Float32[np.ndarray, "k 1"]
) -> Float32[np.ndarray, " t"]:
    """``h = sum_i log(n_labels (P_it + 1e-7))``: beside what a uniform P would give."""
    probability_kt += np.float32(MIN_PROBABILITY)
    probability_kt *= np.float32(probability_kt.shape[1])
    return np.log(probability_kt, out=probability_kt).sum(axis=0)


def check(params: Params) -> None:
    """The strongest image counts most."""
    if params["last_weight"] > params["first_weight"]:
        raise InputError(
            f"last_weight {params['last_weight']} is above first_weight {params['first_weight']}; "
            "the strongest image must count most."
        )


def prior(params: Params) -> LabelPrior | None:
    """Over random image sets or, as published, over the other units of the call."""
    over = params["prior"]
    return None if over == "none" else LabelPrior(over, params["prior_weight"])


CLIP_DISSECT = Method(
    name="clip_dissect",
    title="CLIP-Dissect",
    summary="Names a neuron by the label that is probable on all of its top images, beyond how "
    "probable it is anyway.",
    paper="Oikarinen and Weng, CLIP-Dissect, ICLR 2023",
    version=1,
    order=30,
    parameters=(
        Parameter("n_images", 100, "number of top images to score", low=1),
        Parameter("scale", 10.0, "what logits are multiplied by", low=0, high=1000),
        Parameter("first_weight", 0.998, "weight of the strongest image", low=0, high=0.999),
        Parameter("last_weight", 0.97, "weight one image past the last", low=0, high=0.999),
        Parameter(
            "prior",
            "null",
            "image sets that say how well a label explains any set",
            choices=PRIORS,
            recipe="prior",
            published="layer",
        ),
        Parameter("prior_weight", 1.0, "weight of the prior", low=0, high=10),
        Parameter("form", "softwpmi", "how images are weighed", choices=FORMS, is_later=True),
    ),
    stores=Stores(vectors="label"),
    check=check,
    prior=prior,
    score=score,
    unit_block=2048,
    depth="n_images",
)
