"""CLIP-Dissect: the label that best explains all of the top images, given its prior.

Oikarinen and Weng, "CLIP-Dissect: Automatic Description of Neuron Representations in Deep Vision
Networks", ICLR 2023.
"""

from __future__ import annotations

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

    WPMI has ``g(t) = sum_i log(P_it + 1e-7)`` instead. Either sum is split as ``g = offset + h``,
    an offset that no label changes and an h that is small and keeps in float32 the digits that tell
    labels apart: see ``_add_soft`` and ``_add_plain``.

    Label vectors are brought to unit length first, because the method is defined on cosines.
    """
    mask_uk = scored_mask(evidence.exemplars, params["n_images"])
    n_units, n_rank = mask_uk.shape
    size_u = np.count_nonzero(mask_uk, axis=1)
    image_uk = np.where(mask_uk, evidence.exemplars.image_uk[:, :n_rank], 0)
    images, position = np.unique(image_uk, return_inverse=True)
    position_uk = position.reshape(image_uk.shape)

    unit_td = directions(label_td)
    scaled_md = evidence.image_nd[images] * np.float32(params["scale"])
    n_labels = len(unit_td)
    is_soft = params["form"] == "softwpmi"
    gain_uk, offset_u = np.zeros((n_units, 0), np.float32), -size_u * np.log(n_labels)
    if is_soft:
        gain_uk, offset_u = _gains(size_u, n_rank, params)
    tile = int(np.clip(_TILE_BYTES // (4 * max(len(images), 1)), 32, 512))
    log_total_m = _log_total(scaled_md, unit_td, tile)
    score_ut = np.empty((n_units, n_labels), np.float32)
    for start in range(0, n_labels, tile):
        probability_mt = scaled_md @ unit_td[start : start + tile].T
        probability_mt -= log_total_m[:, None]
        np.exp(probability_mt, out=probability_mt)
        out_ut = score_ut[:, start : start + tile]
        if is_soft:
            _add_soft(probability_mt, position_uk, gain_uk, out_ut)
        else:
            _add_plain(probability_mt, position_uk, size_u, n_labels, out_ut)
    return Scored(score_ut=score_ut, has_label_u=size_u > 0, offset_u=offset_u)


def _gains(
    size_u: Int[np.ndarray, " u"], n_rank: int, params: Params
) -> tuple[Float32[np.ndarray, "u k"], Float64[np.ndarray, " u"]]:
    """What probabilities are multiplied by, ``c_i = q_i / (1 - q_i + 1e-7)``, and the offsets.

    ``offset = sum_i log(1 - q_i + 1e-7)``; ranks are padded to whole groups.
    """
    gain_uk = np.zeros((len(size_u), -(-max(n_rank, 1) // _GROUP) * _GROUP), np.float32)
    offset_u = np.zeros(len(size_u))
    for size in np.unique(size_u):
        rows = size_u == size
        q_k = image_weights(int(size), params["first_weight"], params["last_weight"])
        gain_uk[rows, :size] = q_k / (1 - q_k + MIN_PROBABILITY)
        offset_u[rows] = np.log(1 - q_k + MIN_PROBABILITY).sum()
    return gain_uk, offset_u


def _add_soft(
    probability_mt: Float32[np.ndarray, "m t"],
    position_uk: Int[np.ndarray, "u k"],
    gain_uk: Float32[np.ndarray, "u padded"],
    out_ut: Float32[np.ndarray, "u t"],
) -> None:
    """``h = sum_i log(1 + c_i P_it)``.

    Ten factors are multiplied before each logarithm; at most 499 each, they stay far from the
    largest float32. Units are shared out among the cores; a sum is made by one of them.
    """
    n_rank, n_padded = position_uk.shape[1], gain_uk.shape[1]
    padded_uk = np.zeros(gain_uk.shape, np.intp)
    padded_uk[:, :n_rank] = position_uk

    def add(units: slice) -> None:
        factor_kt = np.empty((n_padded, probability_mt.shape[1]), np.float32)
        grouped = factor_kt.reshape(n_padded // _GROUP, _GROUP, -1)
        for u in range(units.start, units.stop):
            np.take(probability_mt, padded_uk[u], axis=0, out=factor_kt, mode="clip")
            factor_kt *= gain_uk[u, :, None]
            factor_kt += 1
            product = np.multiply.reduce(grouped, axis=1)
            np.log(product, out=product)
            product.sum(axis=0, out=out_ut[u])

    on_all_cores(add, shares(len(padded_uk)))


def _add_plain(
    probability_mt: Float32[np.ndarray, "m t"],
    position_uk: Int[np.ndarray, "u k"],
    size_u: Int[np.ndarray, " u"],
    n_labels: int,
    out_ut: Float32[np.ndarray, "u t"],
) -> None:
    """``h = sum_i log(n_labels (P_it + 1e-7))``: beside what a uniform P would give."""
    log_mt = np.log((probability_mt + np.float32(MIN_PROBABILITY)) * np.float32(n_labels))
    for u, size in enumerate(size_u):
        log_mt[position_uk[u, :size]].sum(axis=0, out=out_ut[u])


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
        Parameter("form", "softwpmi", "how images are weighed", choices=FORMS, is_later=True),
    ),
    stores=Stores(vectors="label"),
    check=check,
    prior=prior,
    score=score,
    unit_block=2048,
    depth="n_images",
)
