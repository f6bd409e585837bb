"""MILAN: what a captioner finds likely for the exemplars, beyond how likely it is anyway.

Hernandez et al., "Natural Language Descriptions of Deep Visual Features", ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from csp_engine.evidence.evidence import Evidence
from csp_engine.evidence.speaker import Phrase
from csp_engine.methods.method import Method, OwnLabel, Parameter, Params, Stores, Written
from csp_engine.methods.scoring.exemplar_means import scored_mask
from csp_engine.vectors import directions

CANDIDATES = ("beam", "labels")
MOST = 100
"""Labels handed on for each unit; fewer are kept."""


def rerank(phrases: Sequence[Phrase], prior_weight: int | float) -> list[OwnLabel]:
    """``log p(d | E) - lambda log p(d)``, best first; of equal ones the first in the alphabet.

    ``raw`` is the likelihood, which is the score at lambda = 0. A phrase that comes twice is said
    once.
    """
    once = {phrase.text: phrase for phrase in reversed(phrases)}.values()
    labels = [
        OwnLabel(one.text, one.log_p - prior_weight * one.log_prior, one.log_p) for one in once
    ]
    return sorted(labels, key=lambda label: (-label.score, label.text))


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Written:
    """Phrases of a beam search, or all labels of the vocabulary, reranked."""
    speaker, texts = evidence.speaker, evidence.texts[: len(label_td)]
    mask_uk = scored_mask(evidence.exemplars, min(params["n_score"], speaker.n_images))
    shown = {
        u: evidence.image_nd[evidence.exemplars.image_uk[u, : len(has_k)][has_k]]
        for u, has_k in enumerate(mask_uk)
        if has_k.any()
    }
    if params["candidates"] == "beam":
        phrases = speaker.propose(list(shown.values()), params["n_beams"]) if shown else []
    else:
        asked = list(dict.fromkeys(texts))
        phrases = [speaker.judge(images, asked) for images in shown.values()]
    labels: list[list[OwnLabel]] = [[] for _ in range(evidence.n_units)]
    for u, own in zip(shown, phrases, strict=True):
        labels[u] = rerank(own, params["prior_weight"])[:MOST]
    place = {text: t for t, text in reversed(list(enumerate(texts)))}
    unit_td = directions(label_td)
    vector_ud = np.zeros((evidence.n_units, label_td.shape[1]), np.float32)
    for u, said in enumerate(labels):
        if said and said[0].text in place:
            vector_ud[u] = unit_td[place[said[0].text]]
    return Written(labels, vector_ud)


MILAN = Method(
    name="milan",
    title="MILAN",
    summary="Names a neuron by the phrase that a captioner finds likely for its exemplars, beyond "
    "how likely it finds the phrase anyway.",
    paper="Hernandez et al., Natural Language Descriptions of Deep Visual Features, ICLR 2022",
    version=1,
    order=60,
    parameters=(
        Parameter("n_score", 30, "number of exemplars to show", low=1, recipe="n_score"),
        Parameter("prior_weight", 0.2, "weight of the prior", low=0, high=10),
        Parameter("candidates", "beam", "what is reranked", choices=CANDIDATES),
        Parameter("n_beams", 16, "width of the beam search", low=1, published=50),
    ),
    needs=("exemplars", "speaker", "texts"),
    stores=Stores(vectors="own"),
    score=score,
    writes=True,
)
