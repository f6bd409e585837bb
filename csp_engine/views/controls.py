"""What a query is measured against: all labels for a text, some probe images for an image."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from csp_engine.bundle import Bundle
from csp_engine.bundle.files import let_go
from csp_engine.vectors import normalise_rows
from csp_engine.views.memo import Memo

N_CONTROL_IMAGES = 2000
BLOCK = 1024
"""Controls that are compared with their mean at a time, and pairs of labels."""
SAME_AT = 0.7
"""Two labels say the same if their vectors, less what all labels share, are this much alike."""


def controls(bundle: Bundle, memo: Memo, kind: str) -> np.ndarray:
    """The vectors of the controls of a kind of query, ``text`` or ``image``."""
    if kind == "text":
        return bundle.label_vectors()

    def make() -> np.ndarray:
        n_drawn = min(N_CONTROL_IMAGES, bundle.n_images)
        rows = np.random.default_rng(0).choice(bundle.n_images, n_drawn, replace=False)
        return np.asarray(bundle.image_vectors()[np.sort(rows)])

    return memo.once(("controls", bundle.digest), make)


def shared_part(bundle: Bundle, memo: Memo, kind: str) -> tuple[np.ndarray, float]:
    """What all controls have in common, their mean; and how far they lie from it on average."""

    def make() -> tuple[np.ndarray, float]:
        controls_cd = controls(bundle, memo, kind)
        mean_d = np.asarray(controls_cd.mean(axis=0), np.float32)
        starts = range(0, len(controls_cd), BLOCK)
        blocks = (controls_cd[start : start + BLOCK] for start in starts)
        length_c = np.concatenate([np.linalg.norm(block - mean_d, axis=1) for block in blocks])
        let_go(controls_cd)
        return mean_d, float(length_c.mean())

    return memo.once(("shared part", bundle.digest, kind), make)


def own_labels(bundle: Bundle, memo: Memo, label_m: np.ndarray | list[int]) -> np.ndarray:
    """The vectors of some labels less what all labels share, made unit length."""
    shared_d, _ = shared_part(bundle, memo, "text")
    return normalise_rows(np.asarray(bundle.label_vectors()[label_m], np.float32) - shared_d)


def label_cosines(
    bundle: Bundle, memo: Memo, one_p: np.ndarray, other_p: np.ndarray
) -> Float32[np.ndarray, " p"]:
    """The cosine of two labels' vectors, less what all labels share, pair by pair.

    Args:
        bundle: holds the vectors of its vocabulary.
        memo: keeps what all labels share.
        one_p: rows of the vocabulary, and
        other_p: those that they are compared with.
    """
    rows, where_a = np.unique(np.concatenate([one_p, other_p]), return_inverse=True)
    own_rd = own_labels(bundle, memo, rows)
    one_p, other_p = np.split(where_a, 2)
    cosine_p = np.empty(len(one_p), np.float32)
    for start in range(0, len(one_p), BLOCK):
        part = slice(start, start + BLOCK)
        np.einsum("pd,pd->p", own_rd[one_p[part]], own_rd[other_p[part]], out=cosine_p[part])
    return cosine_p
