"""How much of an activation the embeddings of the images could explain at best."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64

LEAST = 1e-9
"""A prediction, or a half, that varies less than this beside the activation is constant."""


class Readout:
    """Ridge regression of activations on image embeddings, each half predicted from the other.

    ``w = (X'X + λ I)^-1 X'a`` with centred columns and ``λ = penalty * trace(X'X) / d``; nothing of
    an image's activation enters what is predicted for it. The inverses are made once, so that a
    unit costs one product with the embeddings.
    """

    def __init__(
        self,
        image_nd: Float32[np.ndarray, "n d"],
        half_n: Bool[np.ndarray, " n"],
        penalty: float,
    ) -> None:
        self.order_n = np.argsort(half_n, kind="stable")
        n_first = int(np.count_nonzero(~half_n))
        self.parts = (slice(0, n_first), slice(n_first, len(half_n)))
        image_nd = np.asarray(image_nd)[self.order_n]
        self.half_nd = [image_nd[part] for part in self.parts]
        self.gram: list[Float64[np.ndarray, "d d"]] = []
        self.inverse: list[Float64[np.ndarray, "d d"]] = []
        for rows_nd in self.half_nd:
            x_nd = rows_nd.astype(np.float64)
            x_nd -= x_nd.mean(axis=0) if len(x_nd) else 0.0
            gram_dd = x_nd.T @ x_nd
            width = len(gram_dd)
            ridge = penalty * max(np.trace(gram_dd), 1e-12) / width
            self.gram.append(gram_dd)
            self.inverse.append(np.linalg.inv(gram_dd + ridge * np.eye(width)))

    def reach(self, activation_un: Float32[np.ndarray, "u n"]) -> Float64[np.ndarray, " u"]:
        """Correlation of activations with their prediction, mean of the two halves; at least 0.

        With moments ``m = X'a`` of either half, the prediction has covariance ``w . m`` with the
        activation and variance ``w . X'X w``: images need not be gone through again.
        """
        moments, squares = [], []
        for part, rows_nd in zip(self.parts, self.half_nd, strict=True):
            a_un = activation_un[:, self.order_n[part]].astype(np.float64)
            a_un -= a_un.mean(axis=1, keepdims=True) if a_un.shape[1] else 0.0
            squares.append(np.einsum("un,un->u", a_un, a_un))
            # The centre drops out because a is centred.
            moments.append((a_un.astype(np.float32) @ rows_nd).astype(np.float64))
        found_u = np.zeros(len(activation_un))
        for fit, test in ((0, 1), (1, 0)):
            if len(self.half_nd[test]) < 3:
                continue
            weight_ud = moments[fit] @ self.inverse[fit].T
            variance_u = np.einsum("ud,ud->u", weight_ud @ self.gram[test], weight_ud)
            scale_u = np.sqrt(np.maximum(variance_u, 0) * squares[test])
            is_there_u = scale_u > LEAST * (squares[0] + squares[1])
            covariance_u = np.einsum("ud,ud->u", weight_ud, moments[test])
            found_u += np.where(is_there_u, covariance_u / np.where(is_there_u, scale_u, 1), 0) / 2
        return np.maximum(found_u, 0.0)
