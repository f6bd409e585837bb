"""How much of an activation the embeddings of the images could explain at best."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64

from csp_engine.methods.depths.columns import correlation


class Readout:
    """Ridge regression of activations on image embeddings, each half predicted from the other.

    ``w = (X'X + λ I)^-1 X'a`` with centred columns and ``λ = penalty * trace(X'X) / d``; nothing of
    an image's activation enters what is predicted for it. The inverses are made once, so that a
    unit costs two products with the embeddings.
    """

    def __init__(
        self,
        image_nd: Float32[np.ndarray, "n d"],
        half_n: Bool[np.ndarray, " n"],
        penalty: float,
    ) -> None:
        self.image_nd = np.ascontiguousarray(image_nd)
        self.rows = [np.flatnonzero(~half_n), np.flatnonzero(half_n)]
        self.centre: list[np.ndarray] = []
        self.inverse: list[Float64[np.ndarray, "d d"]] = []
        for rows in self.rows:
            x_nd = self.image_nd[rows].astype(np.float64)
            centre_d = x_nd.mean(axis=0) if len(rows) else np.zeros(x_nd.shape[1])
            x_nd -= centre_d
            gram_dd = x_nd.T @ x_nd
            width = len(gram_dd)
            ridge = penalty * max(np.trace(gram_dd), 1e-12) / width
            self.centre.append(centre_d)
            self.inverse.append(np.linalg.inv(gram_dd + ridge * np.eye(width)))

    def reach(self, activation_n: Float32[np.ndarray, " n"]) -> float:
        """Correlation of the activation with its prediction, mean of the two halves; at least 0."""
        found = []
        for fit, test in ((0, 1), (1, 0)):
            rows, seen = self.rows[fit], self.rows[test]
            a_n = activation_n[rows].astype(np.float64)
            a_n -= a_n.mean() if len(a_n) else 0.0
            # X'a of centred columns: the centre drops out because a is centred.
            moment_d = a_n.astype(np.float32) @ self.image_nd[rows]
            weight_d = self.inverse[fit] @ moment_d
            found.append(
                correlation(activation_n[seen], self.image_nd[seen] @ weight_d.astype(np.float32))
            )
        return max(0.0, float(np.mean(found)))
