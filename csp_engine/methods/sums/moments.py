"""Means and products of concepts and activations, from which every sum of concepts follows.

A concept's column is a product of the images' rows with the concept's own: embeddings with a label,
or concept columns with a row of the identity. Covariances of columns are therefore those of rows,
seen through the concepts, and the columns themselves, images x labels, are never needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int

_CONSTANT = 1e-6
"""A column that varies less than this, beside the most varied one, is constant but for rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Covariances over some images: of the rows, and of the rows with every unit's activation."""

    n_images: int
    row_dd: Float64[np.ndarray, "d d"]
    cross_ud: Float64[np.ndarray, "u d"]
    variance_u: Float64[np.ndarray, " u"]


class Rows:
    """The rows of some images, whose covariances are taken once for all units."""

    def __init__(self, row_nd: Float32[np.ndarray, "n d"], image_s: Int[np.ndarray, " s"]) -> None:
        self.image_s = image_s
        self.row_sd = row_nd[image_s].astype(np.float64)
        self.row_sd -= self.row_sd.mean(axis=0) if len(image_s) else 0.0
        self.row_dd = self.row_sd.T @ self.row_sd / max(len(image_s), 1)

    def with_activations(self, activation_un: Float32[np.ndarray, "u n"]) -> Moments:
        """The same with the activations of some units."""
        activation_us = activation_un[:, self.image_s].astype(np.float64)
        n_images = activation_us.shape[1]
        if n_images:
            is_constant_u = activation_us.max(axis=1) == activation_us.min(axis=1)
            activation_us -= activation_us.mean(axis=1, keepdims=True)
            activation_us[is_constant_u] = 0
        divisor = max(n_images, 1)
        return Moments(
            n_images,
            self.row_dd,
            activation_us @ self.row_sd / divisor,
            np.einsum("us,us->u", activation_us, activation_us) / divisor,
        )


def standardised(
    concept_qd: Float64[np.ndarray, "q d"], row_dd: Float64[np.ndarray, "d d"]
) -> tuple[Float64[np.ndarray, "k d"], Int[np.ndarray, " k"]]:
    """Concepts whose columns have spread 1 over these images, and which these are.

    Those with a constant column are left out.
    """
    variance_q = np.einsum("qd,qd->q", concept_qd @ row_dd, concept_qd)
    spread_q = np.sqrt(np.maximum(variance_q, 0))
    kept = np.flatnonzero(spread_q > _CONSTANT * max(spread_q.max(initial=0), 1e-300))
    return concept_qd[kept] / spread_q[kept, None], kept


def least_squares(
    chosen_kd: Float64[np.ndarray, "k d"], moments: Moments, u: int
) -> Float64[np.ndarray, " k"]:
    """Weights of a few concepts that predict a unit's activation best."""
    gram_kk = chosen_kd @ moments.row_dd @ chosen_kd.T
    return np.linalg.lstsq(gram_kk, chosen_kd @ moments.cross_ud[u], rcond=1e-8)[0]


def correlation_of(
    weight_k: Float64[np.ndarray, " k"],
    chosen_kd: Float64[np.ndarray, "k d"],
    moments: Moments,
    u: int,
) -> float:
    """Pearson's r of a weighted sum of concepts with a unit's activation; 0 if one is constant."""
    sum_d = weight_k @ chosen_kd
    spread = np.sqrt(max(sum_d @ moments.row_dd @ sum_d, 0.0) * moments.variance_u[u])
    if spread <= 1e-12 * np.sqrt(moments.variance_u[u]):
        return 0.0
    return float(np.clip(sum_d @ moments.cross_ud[u] / spread, -1, 1))
