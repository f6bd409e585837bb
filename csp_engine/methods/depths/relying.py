"""Whether the best label can be relied on, by what is stored of its unit, and what else scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from csp_engine.methods.depths.columns import meanings
from csp_engine.methods.method import Params

READABLE, SAID = 0.5, 0.65
"""A unit follows something that the words lack if the embeddings predict its activation at least so
well (r), and the best label's similarities go with it by less than that share of r."""


class Meanings:
    """Which labels mean one thing: those whose similarities go together over the images.

    Args:
        image_nd: unit image vectors.
        label_td: label vectors.
        is_single_t: false for labels that join others, which are no meanings of their own.
        kinds: of a label with kinds, the labels that are kinds of it.
        same: correlation over the images from which two labels mean one thing.
    """

    def __init__(
        self,
        image_nd: Float32[np.ndarray, "n d"],
        label_td: Float32[np.ndarray, "t d"],
        is_single_t: Bool[np.ndarray, " t"],
        kinds: Mapping[int, Sequence[int]],
        same: float,
    ) -> None:
        self.meaning_td = meanings(image_nd, label_td)
        self.is_single_t = is_single_t
        self.kinds = kinds
        self.same = same

    def are_one(self, label_h: Int64[np.ndarray, " h"], label: int) -> Bool[np.ndarray, " h"]:
        """Which labels mean the same as another one."""
        return np.asarray(self.meaning_td[label_h] @ self.meaning_td[label] >= self.same)

    def next_share(self, score_ut: Float32[np.ndarray, "u t"]) -> Float32[np.ndarray, " u"]:
        """What the best label of another meaning scores, as a share of the best score.

        Labels that join others, kinds of the best label and what it is a kind of are no other
        meaning. 0 where nothing else scores above 0, and 1 where the best does not.
        """
        best_u = score_ut.argmax(axis=1)
        label_b, at_u = np.unique(best_u, return_inverse=True)
        is_other_bt = self.meaning_td[label_b] @ self.meaning_td.T < self.same
        is_other_bt &= self.is_single_t
        for is_other_t, label in zip(is_other_bt, label_b.tolist(), strict=True):
            is_other_t[[label, *self.kinds.get(label, ())]] = False
            is_other_t[[t for t, below in self.kinds.items() if label in below]] = False
        score_u = score_ut[np.arange(len(score_ut)), best_u]
        next_u = np.where(is_other_bt[at_u], score_ut, 0).max(axis=1, initial=0)
        share_u = next_u / np.where(score_u > 0, score_u, 1)
        return np.where(score_u > 0, share_u, 1).astype(np.float32)


def unsaid(stored: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " u"]:
    """Units that the embeddings predict well, and the best label badly."""
    reach_u = np.asarray(stored["reach"])
    return (reach_u >= READABLE) & (np.asarray(stored["fit"]) < SAID * reach_u)


def lacks(stored: Mapping[str, float], params: Params) -> str:
    """The first condition of a reliable label that does not hold.

    There are six. Scores of the first version of CSP+ lack the fourth, and what it needs, those of
    the second the fifth, those of the third the sixth; a label that they call reliable stays so.
    """
    fit, reach = stored["fit"], stored["reach"]
    if not stored["halves_agree"]:
        return "the two halves of the probe set give labels of different meanings"
    if fit < params["least_fit"]:
        return (
            f"its correlation with the activation is {fit:.2f}, and {params['least_fit']:g} is the "
            "least that CSP+ asks for"
        )
    if fit < params["explained"] * reach:
        return (
            f"it explains {fit:.2f} (correlation) of {reach:.2f} that the images explain, and CSP+ "
            f"asks for {100 * params['explained']:g} %"
        )
    if stored.get("next", 0) > np.float32(params["apart"]):
        percent = math.ceil(1000 * stored["next"]) / 10  # never down to the bar
        return (
            f"a label of another meaning scores {percent:g} % as much, and CSP+ asks for "
            f"{100 * params['apart']:g} % at most"
        )
    if stored["score"] < np.float32(params["enough"]) * np.float32(reach):
        return (
            f"its score is {stored['score']:.2f} of {reach:.2f} that the images explain, and CSP+ "
            f"asks for {100 * params['enough']:g} %"
        )
    if stored.get("two_words", 1) < np.float32(params["two_words"]) * np.float32(reach):
        return (
            f"with the word that adds most it explains {stored['two_words']:.2f} (correlation) "
            f"of {reach:.2f} that the images explain, and CSP+ asks for "
            f"{100 * params['two_words']:g} %"
        )
    return ""
