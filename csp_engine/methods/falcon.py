"""FALCON: the words that captions of the exemplars hold and those of quiet look-alikes do not.

Kalibhat et al., "Identifying Interpretable Subspaces of Image Representations", ICML 2023.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64

from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.method import Method, OwnLabel, Parameter, Params, Stores, Written
from csp_engine.methods.scoring.exemplar_means import scored_mask
from csp_engine.vectors import directions

TERMS = ("labels", "words")
NEIGHBOURS = ("encoder", "model")
LEAST_LETTERS = 3

Images = Int64[np.ndarray, "_"]
"""Numbers of some images."""

Sparse = Any
"""A ``csr_array`` of SciPy, which is imported only where one is made: pages start without."""

_TILE_BYTES = 64 << 20

_FILLERS = (
    "a an and are as at be been being but by did do does for from had has have he her his how i if "
    "in into is it its me my no nor not of off on or our out over she so such than that the their "
    "them then there these they this those through to too under up very was we were what when "
    "where which while who whom why will with you your above after all any because before below "
    "between both down during each few further here more most only other own same some until "
    "background blurred blurry camera caption close closeup cropped display file footage frame "
    "icon image images jpg logo photo photograph photography photos pic picture pictures png "
    "portrait preview shot showing shown shows stock thumbnail video view wallpaper zoom zoomed "
    "http https www"
)
FILLERS = frozenset(_FILLERS.split())
"""Words that join others, or speak of the photograph instead of what is on it."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """What can be said: texts, how many words each has, and which labels hold it.

    Label ``t`` holds the terms ``term_p[first_t[t] : first_t[t + 1]]``.
    """

    texts: tuple[str, ...]
    n_words_v: Int[np.ndarray, " v"]
    first_t: Int[np.ndarray, " t1"]
    term_p: Int[np.ndarray, " p"]


def words_of(text: str) -> list[str]:
    """The words of a caption that can be said: no numbers, fillers, or words of two letters."""
    found = re.findall(r"[^\W_]+", text.lower().replace("'", "").replace("\u2019", ""))
    return [
        word
        for word in found
        if word.isalpha() and len(word) >= LEAST_LETTERS and word not in FILLERS
    ]


def terms_of(texts: Sequence[str], kind: str) -> Terms:
    """Whole labels; or their single words, and the phrase that the words of a label make."""
    number: dict[str, int] = {}
    sizes: list[int] = []
    first, own = [0], []
    for text in texts:
        words = words_of(text)
        said = {text: max(1, len(words))} if kind == "labels" else dict.fromkeys(words, 1)
        if kind == "words" and len(words) > 1:
            said[" ".join(words)] = len(words)
        for term, size in said.items():
            if term not in number:
                number[term] = len(number)
                sizes.append(size)
            own.append(number[term])
        first.append(len(own))
    return Terms(tuple(number), np.array(sizes, np.int64), np.array(first), np.array(own, np.int64))


def captions(
    image_nd: Float32[np.ndarray, "n d"],
    label_td: Float32[np.ndarray, "t d"],
    scale: float,
    n_captions: int,
) -> tuple[Int32[np.ndarray, "n c"], Float32[np.ndarray, "n c"]]:
    """The labels nearest to each image and ``P = softmax over t of scale * cos(x, T_t)``.

    The likeliest first; of equal ones that with the lower number.
    """
    unit_td = directions(label_td)
    n_images, n_labels = len(image_nd), len(unit_td)
    n_captions = min(n_captions, n_labels)
    label_nc = np.empty((n_images, n_captions), np.int32)
    probability_nc = np.empty((n_images, n_captions), np.float32)
    tile = max(1, _TILE_BYTES // (4 * n_labels))
    for start in range(0, n_images, tile):
        part = slice(start, start + tile)
        logit_mt = (image_nd[part] * np.float32(scale)) @ unit_td.T
        logit_mt -= logit_mt.max(axis=1, keepdims=True)
        total_m = np.exp(logit_mt).sum(axis=1, dtype=np.float64)
        row_m = np.arange(len(logit_mt))
        for c in range(n_captions):
            best_m = logit_mt.argmax(axis=1)
            label_nc[part, c] = best_m
            probability_nc[part, c] = np.exp(logit_mt[row_m, best_m]) / total_m
            logit_mt[row_m, best_m] = -np.inf
    return label_nc, probability_nc


def said_of_images(
    label_nc: Int32[np.ndarray, "n c"], probability_nc: Float32[np.ndarray, "n c"], terms: Terms
) -> Sparse:
    """For each image and term the probability of its likeliest caption that holds the term."""
    from scipy.sparse import csr_array

    label_p = label_nc.ravel().astype(np.int64)
    n_p = terms.first_t[label_p + 1] - terms.first_t[label_p]
    image_e = np.repeat(np.repeat(np.arange(len(label_nc)), label_nc.shape[1]), n_p)
    within_e = np.arange(n_p.sum()) - np.repeat(np.cumsum(n_p) - n_p, n_p)
    term_e = terms.term_p[np.repeat(terms.first_t[label_p], n_p) + within_e]
    probability_e = np.repeat(probability_nc.ravel(), n_p)
    width = max(1, len(terms.texts))
    key_e = image_e * width + term_e
    order_e = np.lexsort((-probability_e, key_e))
    key_e, probability_e = key_e[order_e], probability_e[order_e]
    is_first_e = np.append(True, key_e[1:] != key_e[:-1])[: len(key_e)]
    key_e, probability_e = key_e[is_first_e], probability_e[is_first_e]
    shape = (len(label_nc), width)
    return csr_array((probability_e, (key_e // width, key_e % width)), shape=shape)


def mean_over(image_sets: Sequence[Images], said_nv: Sparse) -> Sparse:
    """The mean of what is said of each set's images; nothing of an empty set."""
    from scipy.sparse import csr_array

    size_u = np.array([len(images) for images in image_sets], np.int64)
    weight_p = np.repeat(1 / np.maximum(size_u, 1), size_u)
    image_p = np.concatenate([np.empty(0, np.int64), *image_sets])
    first_u = np.append(0, np.cumsum(size_u))
    shape = (len(image_sets), said_nv.shape[0])
    return csr_array(csr_array((weight_p, image_p, first_u), shape=shape) @ said_nv)


def paired_images(evidence: Evidence, n_score: int) -> list[Images]:
    """The nearest contrast image of each scored exemplar, every image once."""
    mask_uk = scored_mask(evidence.exemplars, n_score)
    n_rank = mask_uk.shape[1]
    has_uk = mask_uk & (np.asarray(evidence.contrast.n_partner_uk)[:, :n_rank] > 0)
    image_uk = np.asarray(evidence.contrast.image_ukj)[:, :n_rank, 0]
    return [
        np.unique(image_k[has_k]).astype(np.int64)
        for image_k, has_k in zip(image_uk, has_uk, strict=True)
    ]


def similar_images(
    evidence: Evidence, n_score: int, near: int | float, n_near: int
) -> list[Images]:
    """Quiet images nearest to the exemplars in the space of the layer, without the unit itself.

    Rows of activations are brought to unit length. An image is quiet below the unit's mean over
    the probe set, and near from a product of ``near`` with the exemplars' mean on.
    """
    layer_wn = evidence.layer_wn
    length_n = evidence.once("falcon length", lambda: _lengths(layer_wn))
    activation_un = np.asarray(evidence.activation_un, np.float32) / length_n
    exemplars = evidence.exemplars
    mask_uk = scored_mask(exemplars, n_score)
    mean_uw = np.zeros((evidence.n_units, len(layer_wn)), np.float32)
    own_u = np.zeros(evidence.n_units, np.float32)
    for u, (image_k, has_k) in enumerate(zip(exemplars.image_uk, mask_uk, strict=True)):
        image_k = image_k[: len(has_k)][has_k]
        if len(image_k):
            mean_uw[u] = (layer_wn[:, image_k] / length_n[image_k]).mean(axis=1)
            own_u[u] = activation_un[u, image_k].mean()
    # Random image sets are no units of the layer, so there is nothing of theirs to leave out.
    for u, unit in enumerate(evidence.unit_u):
        is_own = unit < len(layer_wn) and np.array_equal(layer_wn[unit], evidence.activation_un[u])
        own_u[u] *= is_own
    product_un = (mean_uw @ layer_wn) / length_n - own_u[:, None] * activation_un
    found = []
    for u in range(evidence.n_units):
        quiet_n = evidence.activation_un[u] < np.mean(evidence.activation_un[u], dtype=np.float64)
        quiet_n = quiet_n & (product_un[u] >= near) & mask_uk[u].any()
        image_c = np.flatnonzero(quiet_n)
        found.append(image_c[np.argsort(-product_un[u, image_c], kind="stable")][:n_near])
    return found


def _lengths(layer_wn: Float32[np.ndarray, "w n"]) -> Float32[np.ndarray, " n"]:
    """The length of each image's row; 1 where it is zero."""
    length_n = np.sqrt(np.einsum("wn,wn->n", layer_wn, layer_wn, dtype=np.float64))
    return np.where(length_n > 0, length_n, 1).astype(np.float32)


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Written:
    """``S(w) = mean over exemplars of max over captions that hold w of P``, less what contrast has.

    A term with ``S(w) >= removed`` on the contrast images is not said at all.
    """
    terms, said_nv = evidence.once("falcon", lambda: _prepared(evidence, label_td, params))
    mask_uk = scored_mask(evidence.exemplars, params["n_score"])
    shown = [
        np.asarray(image_k[: len(has_k)][has_k], np.int64)
        for image_k, has_k in zip(evidence.exemplars.image_uk, mask_uk, strict=True)
    ]
    if params["neighbours"] == "encoder":
        quiet = paired_images(evidence, params["n_score"])
    else:
        quiet = similar_images(evidence, params["n_score"], params["near"], params["n_near"])
    support_uv, contrast_uv = mean_over(shown, said_nv), mean_over(quiet, said_nv)
    unit_td = directions(label_td)
    labels: list[list[OwnLabel]] = []
    vector_ud = np.zeros((evidence.n_units, label_td.shape[1]), np.float32)
    for u in range(evidence.n_units):
        removed = _row(contrast_uv, u)
        kept = [
            (value, term)
            for term, value in _row(support_uv, u).items()
            if value > 0 and removed.get(term, 0.0) < params["removed"]
        ]
        kept.sort(key=lambda pair: (-pair[0], -terms.n_words_v[pair[1]], terms.texts[pair[1]]))
        is_phrase = [terms.n_words_v[term] > 1 for _, term in kept]
        place = [is_phrase[:k].count(kind) for k, kind in enumerate(is_phrase)]
        kept = [one for one, k in zip(kept, place, strict=True) if k < params["n_terms"]]
        labels.append([OwnLabel(terms.texts[term], float(value)) for value, term in kept])
        if kept:
            vector_ud[u] = _vector(terms, kept[0][1], unit_td)
    return Written(labels, vector_ud)


def _prepared(
    evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params
) -> tuple[Terms, Sparse]:
    terms = terms_of(evidence.texts[: len(label_td)], params["terms"])
    nearest = captions(evidence.image_nd, label_td, params["scale"], params["n_captions"])
    return terms, said_of_images(*nearest, terms)


def _row(array_uv: Sparse, u: int) -> dict[int, float]:
    part = slice(array_uv.indptr[u], array_uv.indptr[u + 1])
    return dict(zip(array_uv.indices[part].tolist(), array_uv.data[part].tolist(), strict=True))


def _vector(
    terms: Terms, term: int, unit_td: Float32[np.ndarray, "t d"]
) -> Float32[np.ndarray, " d"]:
    """The direction of the mean label that holds a term."""
    holder_p = np.repeat(np.arange(len(unit_td)), np.diff(terms.first_t))
    return directions(unit_td[holder_p[terms.term_p == term]].mean(axis=0)[None])[0]


FALCON = Method(
    name="falcon",
    title="FALCON",
    summary="Names a neuron by the words that captions of its exemplars hold and those of quiet "
    "look-alikes do not.",
    paper="Kalibhat et al., Identifying Interpretable Subspaces of Image Representations, "
    "ICML 2023",
    version=1,
    order=50,
    parameters=(
        Parameter("n_score", 30, "number of exemplars to score", low=1, recipe="n_score"),
        Parameter("scale", 100.0, "what cosines are multiplied by", low=0, high=1000),
        Parameter("n_captions", 5, "captions of each image", low=1),
        Parameter("terms", "labels", "what can be said", choices=TERMS, published="words"),
        Parameter("removed", 0.1, "support on contrast images that bars a term", low=0, high=1),
        Parameter(
            "neighbours",
            "encoder",
            "whose space tells which quiet images look alike",
            choices=NEIGHBOURS,
            published="model",
        ),
        Parameter("near", 0.3, "how near in the model's space", low=-1, high=1),
        Parameter("n_near", 10, "contrast images in the model's space", low=1),
        Parameter("n_terms", 8, "single words kept, and as many phrases", low=1),
    ),
    needs=("exemplars", "contrast", "activations", "layer", "texts"),
    stores=Stores(vectors="own"),
    score=score,
    writes=True,
)
