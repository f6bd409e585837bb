"""CLIP-Dissect with SoftWPMI: the label that best explains all of the top images, given its prior.

Oikarinen and Weng, "CLIP-Dissect: Automatic Description of Neuron Representations in Deep Vision
Networks", ICLR 2023.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from csp_engine.errors import InputError
from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.method import LabelPrior, Method, Parameter, Params, Scored, Stores
from csp_engine.methods.scoring.exemplar_means import scored_mask
from csp_engine.vectors import directions

MIN_PROBABILITY = 1e-7
PRIORS = ("null", "layer", "none")
_TILE_BYTES = 64 << 20
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

    The sum is split as ``g = offset + h`` with ``offset = sum_i log(1 - q_i + 1e-7)``, which no
    label changes, and ``h = sum_i log(1 + c_i P_it)``, ``c_i = q_i / (1 - q_i + 1e-7)``: h is small
    and keeps in float32 the digits that tell labels apart. Ten factors are multiplied before each
    logarithm; at most 499 each, they stay far from the largest float32.

    Label vectors are brought to unit length first, because the method is defined on cosines.
    """
    mask_uk = scored_mask(evidence.exemplars, params["n_images"])
    n_units, n_rank = mask_uk.shape
    n_padded = -(-max(n_rank, 1) // _GROUP) * _GROUP
    gain_uk = np.zeros((n_units, n_padded), np.float32)
    offset_u = np.zeros(n_units)
    size_u = np.count_nonzero(mask_uk, axis=1)
    for size in np.unique(size_u):
        rows = size_u == size
        q_k = image_weights(int(size), params["first_weight"], params["last_weight"])
        gain_uk[rows, :size] = q_k / (1 - q_k + MIN_PROBABILITY)
        offset_u[rows] = np.log(1 - q_k + MIN_PROBABILITY).sum()

    image_uk = np.where(mask_uk, evidence.exemplars.image_uk[:, :n_rank], 0)
    images, position = np.unique(image_uk, return_inverse=True)
    position_uk = np.zeros((n_units, n_padded), np.intp)
    position_uk[:, :n_rank] = position.reshape(image_uk.shape)

    unit_td = directions(label_td)
    scaled_md = evidence.image_nd[images] * np.float32(params["scale"])
    n_labels = len(unit_td)
    tile = int(np.clip(_TILE_BYTES // (4 * max(len(images), 1)), 32, 512))
    log_total_m = _log_total(scaled_md, unit_td, tile)
    score_ut = np.empty((n_units, n_labels), np.float32)
    for start in range(0, n_labels, tile):
        probability_mt = scaled_md @ unit_td[start : start + tile].T
        probability_mt -= log_total_m[:, None]
        np.exp(probability_mt, out=probability_mt)
        factor_kt = np.empty((n_padded, probability_mt.shape[1]), np.float32)
        grouped = factor_kt.reshape(n_padded // _GROUP, _GROUP, -1)
        for u in range(n_units):
            np.take(probability_mt, position_uk[u], axis=0, out=factor_kt, mode="clip")
            factor_kt *= gain_uk[u, :, None]
            factor_kt += 1
            product = np.multiply.reduce(grouped, axis=1)
            np.log(product, out=product)
            product.sum(axis=0, out=score_ut[u, start : start + tile])
    return Scored(score_ut=score_ut, has_label_u=size_u > 0, offset_u=offset_u)


def _log_total(
    scaled_md: Float32[np.ndarray, "m d"], unit_td: Float32[np.ndarray, "t d"], tile: int
) -> Float32[np.ndarray, " m"]:
    """``log sum_t exp(x . T_t)`` for each image, tile by tile, safe from overflow at any scale."""
    highest_m = np.full(len(scaled_md), -np.inf, np.float32)
    total_m = np.zeros(len(scaled_md), np.float64)
    for start in range(0, len(unit_td), tile):
        logit_mt = scaled_md @ unit_td[start : start + tile].T
        new_m = np.maximum(highest_m, logit_mt.max(axis=1))
        total_m *= np.exp((highest_m - new_m).astype(np.float64))
        logit_mt -= new_m[:, None]
        np.exp(logit_mt, out=logit_mt)
        total_m += logit_mt.sum(axis=1)
        highest_m = new_m
    return (highest_m + np.log(total_m)).astype(np.float32)


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
    ),
    stores=Stores(vectors="label"),
    check=check,
    prior=prior,
    score=score,
    unit_block=2048,
    depth="n_images",
)
