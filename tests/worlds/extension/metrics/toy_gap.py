"""A toy metric: mean activation with a concept minus that without."""

from csp_engine.evaluation.metrics.metric import Metric


def compute(judged):
    shown_nj = judged.columns.value_nj
    n_j = judged.columns.n_positive_j
    total_b1 = judged.activation_bn.sum(axis=1, keepdims=True)
    with_bj = judged.activation_bn @ shown_nj
    return with_bj / n_j - (total_b1 - with_bj) / (len(shown_nj) - n_j)


TOY_GAP = Metric(
    name="toy_gap",
    title="Toy gap",
    meaning="Mean activation with the concept minus that without.",
    compute=compute,
)
