"""SemanticLens: a neuron is the mean of what excites it.

Dreyer et al., "Mechanistic understanding and validation of large AI models with SemanticLens",
Nature Machine Intelligence 2025.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from csp_engine.evidence.evidence import Evidence
from csp_engine.methods.method import Kept, Method, Parameter, Params, Scored, Stores
from csp_engine.methods.scoring.exemplar_means import has_direction, mean_exemplars
from csp_engine.vectors import directions, normalise_rows


def score(evidence: Evidence, label_td: Float32[np.ndarray, "t d"], params: Params) -> Scored:
    """Cosine of the mean exemplar with each label: ``cos(mean_i p_i, T_t)``, in [-1, 1].

    Label vectors that are not unit length (templates averaged and not brought back) are normalised
    here, because the method is defined as a cosine.
    """
    vector_ud = directions(mean_exemplars(evidence, params["n_score"]))
    return Scored(
        score_ut=vector_ud @ directions(label_td).T,
        has_label_u=has_direction(vector_ud),
        vector_ud=vector_ud,
    )


def null_vectors(kept: Kept) -> Float32[np.ndarray, "r d"] | None:
    """The mean image of each random image set, where the sets are kept."""
    return null_of_size(kept, int(kept.params["n_score"]))


def null_of_size(kept: Kept, size: int) -> Float32[np.ndarray, "r d"] | None:
    """The mean of the first images of each random image set."""
    vector_rkd = kept.null_vectors_of(size)
    return None if vector_rkd is None else normalise_rows(vector_rkd.mean(axis=1))


SEMANTICLENS = Method(
    name="semanticlens",
    title="SemanticLens",
    summary="Names a neuron by the mean of the images that excite it most.",
    paper="Dreyer et al., SemanticLens, Nature Machine Intelligence 2025",
    version=1,
    order=20,
    parameters=(Parameter("n_score", 30, "number of exemplars to score", low=1, recipe="n_score"),),
    stores=Stores(null_vectors=null_vectors, null_of_size=null_of_size),
    score=score,
)
