"""CLIP-Dissect with SoftWPMI: the label that best explains all of the top images, given its prior.

Oikarinen and Weng, "CLIP-Dissect: Automatic Description of Neuron Representations in Deep Vision
Networks", ICLR 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from csp_engine.errors import InputError
from csp_engine.methods.method import Method, Params, Scored, require_choice, require_number
from csp_engine.methods.semanticlens import scored_mask, unit_rows
from csp_engine.types import Evidence

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

    unit_td = unit_rows(label_td)
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


@dataclass(slots=True, eq=False)
class LogMean:
    """``log mean exp`` over rows, for each label, gathered block by block in float64."""

    highest_t: Float64[np.ndarray, " t"]
    total_t: Float64[np.ndarray, " t"]
    n: int = 0

    @classmethod
    def over(cls, n_labels: int) -> LogMean:
        """No rows yet."""
        return cls(np.full(n_labels, -np.inf), np.zeros(n_labels))

    def add(self, g_ut: Float64[np.ndarray, "u t"]) -> None:
        """Take in more rows."""
        if not len(g_ut):
            return
        new_t = np.maximum(self.highest_t, g_ut.max(axis=0))
        self.total_t *= np.exp(self.highest_t - new_t)
        self.total_t += np.exp(g_ut - new_t).sum(axis=0)
        self.highest_t = new_t
        self.n += len(g_ut)

    @property
    def mean_t(self) -> Float64[np.ndarray, " t"]:
        """The log mean; 0 before any row."""
        if not self.n:
            return np.zeros_like(self.total_t)
        return self.highest_t + np.log(self.total_t) - np.log(self.n)

    def with_each(self, g_rt: Float64[np.ndarray, "r t"]) -> Float64[np.ndarray, "r t"]:
        """For each row the log mean if that row were one more of them."""
        if not self.n:
            return g_rt
        log_total_t = self.highest_t + np.log(self.total_t)
        return np.logaddexp(log_total_t, g_rt) - np.log(self.n + 1)


def leave_one_out(g_rt: Float64[np.ndarray, "r t"]) -> Float64[np.ndarray, "r t"]:
    """For each row the ``log mean exp`` over all the other rows; needs two rows or more.

    Subtracting a row from the total is exact enough except for the largest row of a column, which
    may be nearly all of it; that one is summed again without it.
    """
    n_rows = len(g_rt)
    columns = np.arange(g_rt.shape[1])
    top_t = g_rt.argmax(axis=0)
    highest_t = g_rt[top_t, columns]
    power_rt = np.exp(g_rt - highest_t)
    # The largest row is 1, so what is left for any other row is at least 1.
    others_rt = power_rt.sum(axis=0) - power_rt
    without_rt = g_rt.copy()
    without_rt[top_t, columns] = -np.inf
    second_t = without_rt.max(axis=0)
    log_rest_t = second_t + np.log(np.exp(without_rt - second_t).sum(axis=0))
    others_rt[top_t, columns] = 1
    log_others_rt = highest_t + np.log(others_rt)
    log_others_rt[top_t, columns] = log_rest_t
    return log_others_rt - np.log(n_rows - 1)


def check(params: Params) -> None:
    """Ranges of scale, weights and prior."""
    require_number(params, "scale", 0, 1000)
    require_number(params, "prior_weight", 0, 10)
    require_choice(params, "prior", PRIORS)
    for name in ("first_weight", "last_weight"):
        require_number(params, name, 0, 0.999)
    if params["last_weight"] > params["first_weight"]:
        raise InputError(
            f"last_weight {params['last_weight']} is above first_weight {params['first_weight']}; "
            "the strongest image must count most."
        )


CLIP_DISSECT = Method(
    name="clip_dissect",
    title="CLIP-Dissect",
    version=1,
    params={
        "n_images": 100,
        "scale": 10.0,
        "first_weight": 0.998,
        "last_weight": 0.97,
        "prior": "null",
        "prior_weight": 1.0,
    },
    check=check,
    score=score,
    unit_block=2048,
    depth="n_images",
)
