"""How far the scores of texts lean to their upper tail: a sign, without truth, that they mean much.

A text that says what images show fits a few of them well and most of them hardly, so its scores
have a long upper tail. Directions that mean nothing have none on average, whatever the images are
like; nor have the texts of an encoder that learnt nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from csp_engine.evaluation.rotations import Turning

N_ROTATIONS = 99
LEAST_IMAGES, LEAST_TEXTS = 50, 50
"""With fewer, texts of a good encoder may lean no further than chance, and nothing is said."""


@dataclass(frozen=True, slots=True)
class Lean:
    """How far the scores of texts lean to their upper tail: mean skewness over texts.

    ``p`` is the share of shuffled draws whose texts lean as far. Both are NaN where nothing varies.
    """

    mean: float
    p: float
    n_images: int
    n_texts: int


def lean(
    image_nd: Float[np.ndarray, "n d"],
    text_td: Float[np.ndarray, "t d"],
    n_draws: int = N_ROTATIONS,
    seed: int = 0,
) -> Lean:
    """Compare the skewness of the texts' scores with that of shuffled texts.

    A shuffled draw turns all texts together (``Turning``). An encoder whose texts know nothing of
    its images is one more such draw, so it passes as often as chance says, whatever its images are
    like.
    """
    n_images, n_texts = len(image_nd), len(text_td)
    image_nd = (image_nd - image_nd.mean(axis=0)).astype(np.float64)
    turning = Turning.of(text_td - text_td.mean(axis=0))
    if not len(turning.frame_rd) or float(np.square(image_nd).sum()) <= 1e-9 * max(1, n_images):
        return Lean(float("nan"), float("nan"), n_images, n_texts)
    own = _skewness(turning.scores(image_nd))
    turned = (_skewness(score_tn) for score_tn in turning.turned(image_nd, n_draws, seed))
    n_as_far = sum(each >= own - 1e-9 for each in turned)
    return Lean(own, (1 + n_as_far) / (1 + n_draws), n_images, n_texts)


def _skewness(score_tn: Float[np.ndarray, "t n"]) -> float:
    """Mean over texts of the third standardised moment; 0 for a text whose scores are all equal."""
    score_tn = score_tn - score_tn.mean(axis=1, keepdims=True)
    square_t = np.square(score_tn).mean(axis=1)
    cube_t = (np.square(score_tn) * score_tn).mean(axis=1)
    varies_t = square_t > 1e-18
    return float(np.divide(cube_t, square_t**1.5, out=np.zeros_like(cube_t), where=varies_t).mean())
