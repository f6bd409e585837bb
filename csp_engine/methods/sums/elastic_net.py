"""Elastic net over very many concepts: of images only what their covariances say is needed."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float64

_AT_ONCE = 50
_MOST_ROUNDS = 100


class ElasticNet:
    """Makes ``|y - X w|^2 / 2n + λ (α |w|_1 + (1 - α) |w|_2^2 / 2)`` least.

    Columns of X and y have mean 0 and spread 1. With S the covariance of the rows and C the
    concepts, X'X / n = C S C' and X'y / n = C m; so the problem is the same as that of the matrix
    ``S^(1/2) C'`` and ``S^(-1/2) m``, which has as many rows as the encoder has dimensions.

    Args:
        concept_qd: concepts whose columns have spread 1.
        row_dd: covariance S of the images' rows.
        penalty: λ.
        share: α.
    """

    def __init__(
        self,
        concept_qd: Float64[np.ndarray, "q d"],
        row_dd: Float64[np.ndarray, "d d"],
        penalty: float,
        share: float,
    ) -> None:
        value_d, axis_dd = np.linalg.eigh(row_dd)
        kept = value_d > 1e-10 * max(value_d.max(initial=0), 1e-300)
        root_d, axis_dk = np.sqrt(value_d[kept]), axis_dd[:, kept]
        self.penalty, self.share = penalty, share
        self.column_kq = np.asfortranarray((root_d[:, None] * axis_dk.T) @ concept_qd.T)
        self._whiten_kd = axis_dk.T / root_d[:, None]

    def weights(self, cross_d: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " q"]:
        """The weights for an activation whose covariance with the rows, over its spread, is given.

        Concepts join in by the fifty that most violate the condition of a minimum, until none does.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import ElasticNet as Solver

        target_k = self._whiten_kd @ cross_d
        n_rows, n_concepts = self.column_kq.shape
        bar = self.penalty * self.share
        weight_q, active = np.zeros(n_concepts), np.zeros(0, int)
        for _ in range(_MOST_ROUNDS):
            rest_k = target_k - self.column_kq[:, active] @ weight_q[active]
            excess_q = np.abs(self.column_kq.T @ rest_k) - bar
            excess_q[active] = -np.inf
            order = np.argsort(-excess_q, kind="stable")[:_AT_ONCE]
            joining = order[excess_q[order] > 1e-4 * bar]
            if not len(joining):
                break
            active = np.append(active, joining)
            # The solver divides squares by the number of its rows, which is none of images here.
            scale = np.sqrt(n_rows)
            solver = Solver(
                alpha=self.penalty, l1_ratio=self.share, fit_intercept=False, tol=1e-6,
                max_iter=20_000,
            )  # fmt: skip
            with warnings.catch_warnings():  # last digits of near synonyms, which decide nothing
                warnings.simplefilter("ignore", ConvergenceWarning)
                solver.fit(scale * self.column_kq[:, active], scale * target_k)
            weight_q[active] = solver.coef_
            active = active[weight_q[active] != 0]
        return weight_q
