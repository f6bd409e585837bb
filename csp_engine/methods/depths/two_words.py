"""How much of an activation the best label explains together with one more word."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from csp_engine.methods.depths.columns import LabelColumns

_OWN = 0.2
"""Least share (r) of a word's similarities that those of the best label must leave for it to add
anything: what is left of nearly the same word is noise."""

_CONSTANT = 1e-6
"""Similarities of a label that vary less than this, beside the most varying ones, are constant."""


class TwoWords:
    """Regression of activations on the similarities of the best label and of one more word.

    Whatever word adds most is taken, and it may count for or against. A neuron whose activation
    takes more than two words to tell follows a mixture that no one label says.

    Args:
        columns: the similarities of best labels.
        image_nd: unit image vectors.
        label_td: label vectors.
        may_add_t: labels that can be the other word.
    """

    def __init__(
        self,
        columns: LabelColumns,
        image_nd: Float32[np.ndarray, "n d"],
        label_td: Float32[np.ndarray, "t d"],
        may_add_t: Bool[np.ndarray, " t"],
    ) -> None:
        self.columns = columns
        self.image_nd = image_nd
        centred_nd = np.asarray(image_nd, np.float64)
        centred_nd = centred_nd - centred_nd.mean(axis=0)
        word_wd = label_td[may_add_t].astype(np.float64)
        length_w = np.sqrt(np.einsum("wd,wd->w", word_wd @ (centred_nd.T @ centred_nd), word_wd))
        varies_w = length_w > _CONSTANT * length_w.max(initial=0)
        self.word_wd: Float64[np.ndarray, "w d"] = word_wd[varies_w] / length_w[varies_w, None]

    def explained(
        self,
        activation_un: Float32[np.ndarray, "u n"],
        best_u: Int64[np.ndarray, " u"],
        fit_u: Float32[np.ndarray, " u"],
    ) -> Float32[np.ndarray, " u"]:
        """Multiple correlation ``R`` of each activation with its best label and another word.

        ``R^2 = r^2 + max over words of (r_w - r c_w)^2 / (1 - c_w^2)`` with r (``fit_u``), r_w the
        correlation of the activation with the best label and the word, and c_w theirs with one
        another: what the word explains of the rest. From 0 to 1; ``|r|`` where no word is left.
        """
        label_b, at_u = np.unique(best_u, return_inverse=True)
        similarity_bn = np.stack([self.columns.similarity(label) for label in label_b.tolist()])
        with_label_bw = self._correlations(similarity_bn)
        with_activation_uw = self._correlations(activation_un)
        found_u = np.zeros(len(best_u), np.float32)
        for u, (r_w, r) in enumerate(zip(with_activation_uw, fit_u.tolist(), strict=True)):
            c_w = with_label_bw[at_u[u]]
            rest_w = np.sqrt(np.maximum(1 - c_w**2, 0))
            adds_w = np.abs(r_w - r * c_w)[rest_w >= _OWN] / rest_w[rest_w >= _OWN]
            found_u[u] = min(1.0, np.hypot(r, adds_w.max(initial=0.0)))
        return found_u

    def _correlations(self, value_kn: Float32[np.ndarray, "k n"]) -> Float64[np.ndarray, "k w"]:
        """With the similarities of every word; 0 of what is constant."""
        unit_kn = np.zeros(value_kn.shape, np.float32)
        for unit_n, value_n in zip(unit_kn, value_kn, strict=True):
            if np.ptp(value_n) > 0:
                centred_n = value_n.astype(np.float64) - value_n.mean(dtype=np.float64)
                unit_n[:] = centred_n / np.sqrt(np.dot(centred_n, centred_n))
        # The images' own mean drops out because the values are centred.
        return (unit_kn @ self.image_nd).astype(np.float64) @ self.word_wd.T
