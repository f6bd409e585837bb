"""The area under the ROC curve, by ranks."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from csp_engine.evaluation.metrics.metric import Judged, Metric


def auroc(judged: Judged) -> Float64[np.ndarray, "b j"]:
    """The chance that an image with the concept excites more than one without; ties count half."""
    mean_rank_bn, _ = judged.ranks
    n_images = mean_rank_bn.shape[1]
    n_positive_j = judged.columns.n_positive_j
    below_bj = mean_rank_bn @ judged.columns.value_nj - n_positive_j * (n_positive_j + 1) / 2
    return below_bj / (n_positive_j * (n_images - n_positive_j))


AUROC = Metric(
    name="auroc",
    title="AUROC",
    meaning="Chance that an image with the concept excites the neuron more than one without.",
    compute=auroc,
    takes=("truth", "said"),
    low=0,
    high=1,
    chance=0.5,
    term="AUROC",
    order=20,
    is_always_kept=True,
    section="pearson, auroc, auprc",
)
