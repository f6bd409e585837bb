"""CSP: name a neuron by what its exemplars have and their closest quiet look-alikes have not.

"Contrastive semantic projection", arXiv 2604.22477 (formulas from the authors' published code).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.method import Method, Parameter, Params, Scored, Stores
from csp_engine.methods.scoring.exemplar_means import has_direction
from csp_engine.methods.scoring.halves import (
    GAMMA,
    WEIGHTINGS,
    concept_vectors,
    csp_components,
    null_of_size,
    null_vectors,
)
from csp_engine.methods.scoring.score_parts import score_parts
from csp_engine.vectors import directions


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Scored:
    """``z . T_t`` as published: a cosine where the label vectors are unit length."""
    anchor_ud, projection_ud = csp_components(evidence, params["n_score"], params["weighting"])
    vector_ud = concept_vectors(anchor_ud, projection_ud, params["gamma"])
    return Scored(
        score_ut=vector_ud @ label_td.T,
        has_label_u=has_direction(vector_ud),
        vector_ud=vector_ud,
        raw_vector_ud=directions(anchor_ud),
        extra={"anchor": anchor_ud, "projection": projection_ud},
    )


CSP = Method(
    name="csp",
    title="CSP",
    summary="Names a neuron by what its exemplars have and their quiet look-alikes have not.",
    paper="Contrastive semantic projection, arXiv 2604.22477",
    version=1,
    order=10,
    parameters=(
        GAMMA,
        Parameter("n_score", 30, "number of exemplars to score", low=1, recipe="n_score"),
        Parameter(
            "weighting",
            "none",
            "how much each exemplar counts",
            choices=WEIGHTINGS,
            recipe="weighting",
            published="raw",
        ),
    ),
    needs=("exemplars", "contrast"),
    stores=Stores(
        arrays={
            "anchor": "weighted mean of the exemplars",
            "projection": "weighted mean of what they share with their contrast images",
        },
        null_vectors=null_vectors,
        null_of_size=null_of_size,
    ),
    score=score,
    parts=score_parts,
)
